"""The command line: what it writes, what it prints, how it fails, and what it leaves behind."""

import errno
import importlib.util
import inspect
import io
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import tables
from convengine.cli import bands
from convengine.filters import named

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
import png as pypng
from click.testing import CliRunner
from PIL import Image, ImageCms, PngImagePlugin
from tifffile import TiffFile, imread, imwrite

from convengine.cli import writing
from convengine.cli.application import application
from convengine.cli.bands import Work
from convengine.cli.scaling import is_signed, scaled

SIZE = (24, 31)


def rng():
    """Random numbers, the same in every test."""
    return np.random.default_rng(7)


GREY = rng().integers(0, 256, SIZE, np.uint8)
DEEP = rng().integers(0, 65536, SIZE, np.uint16)
COLOUR = rng().integers(0, 256, (*SIZE, 3), np.uint8)
CLEAR = rng().integers(0, 256, (*SIZE, 4), np.uint8)
HOW = {"mode": "same", "boundary": "reflect"}
GAUSSIAN = named.parse("gaussian:1")
RUNNER = CliRunner(**({"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}))
ENTRY = [sys.executable, "-c", "from convengine.cli import main; main()"]


def convengine(*arguments):
    """Run a command line in this process."""
    result = RUNNER.invoke(application, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


def done(*arguments):
    """Run a command that must succeed; return what it printed."""
    result = convengine(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(*arguments):
    """Run a command that must end in one line of an error; return its text."""
    result = convengine(*arguments)
    start, line = "convengine: error: ", result.stderr
    assert (result.exit_code, result.stdout, line.count("\n")) == (2, "", 1), result.output
    assert line.startswith(start)
    assert "unexpected" not in line
    return line.removeprefix(start).strip()


def png(width, height, depth, colour, rows):
    """The bytes of a PNG with this header, whatever the rows are."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def npy_header(shape, dtype="<f8", body=b""):
    """The bytes of a .npy file with this header, whatever follows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + body


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder that holds a few pictures."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(GREY).save("grey.png")
    Image.fromarray(COLOUR).save("colour.png")
    Image.fromarray(CLEAR).save("clear.png")
    np.save("array.npy", GREY.astype(np.float32))
    return tmp_path


def leftovers(folder):
    """Temporary files that were not removed."""
    return [path.name for path in Path(folder).iterdir() if path.name.startswith(".") or path.suffix == ".tmp"]


# The entry point


def test_version_loads_nothing_heavy():
    heavy = ("scipy", "matplotlib", "skimage", "PIL", "tifffile", "rich.console", "convengine.testing")
    code = (
        "import sys; sys.argv = ['convengine', '--version']\n"
        "from convengine.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: print(stop.code)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [f"convengine {ce.__version__}", "0", "[]"]
    assert ran.stderr == ""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_the_command_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom convengine.cli import main; main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"convengine: error: the command line needs {missing}: pip install 'convengine[cli]'\n"


@pytest.mark.parametrize("module", ["numpy", "convengine", "convengine.cli.application", "click", "PIL"])
def test_ctrl_c_while_the_command_line_loads_is_one_line(here, module):
    code = (
        "import sys\n"
        "from importlib.metadata import entry_points\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['convengine', 'filter', 'grey.png', 'out.png', '-k', 'box:3']\n"
        "(script,) = entry_points(group='console_scripts', name='convengine')\n"
        "script.load()()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "convengine: interrupted\n")


@pytest.mark.parametrize(("missing", "arguments"), [
    ("PIL", ["filter", "grey.png", "out.png", "-k", "box:3"]),
    ("png", ["filter", "deep.tif", "out.png", "-k", "box:3"]),
    ("tifffile", ["filter", "grey.png", "out.tif", "-k", "box:3"]),
    ("skimage", ["demo"]),
])  # fmt: skip
def test_a_command_names_the_library_that_it_lacks(here, monkeypatch, missing, arguments):
    for name in [
        name
        for name in sys.modules
        if name.partition(".")[0] == missing or name in ("convengine.cli.photo", "convengine.cli.deep_png")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    imwrite("deep.tif", COLOUR.astype(np.uint16), photometric="rgb")
    assert refused(*arguments) == f"this command needs {missing}: pip install 'convengine[cli]'"
    assert leftovers(here) == []


def test_the_entry_point_filters_a_file(here):
    ran = subprocess.run([*ENTRY, "filter", "grey.png", "out.png", "-k", "gaussian:1"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert_array_equal(load("out.png"), ce.corr2d(GREY, GAUSSIAN, dtype=np.uint8, **HOW))


def test_usage_errors_are_one_line_with_the_way_to_help():
    text = refused("filtre")
    assert text.startswith("No such command 'filtre'.")
    assert text.endswith("(see 'convengine --help')")
    assert refused("filter", "a.png", "b.png").endswith(
        "Missing option '--kernel' / '-k'. (see 'convengine filter --help')"
    )
    assert "'edges' is not one of 'constant', 'edge'" in refused(
        "filter", "a.png", "b.png", "-k", "edge", "--boundary", "edges"
    )
    assert "needed is a number; got 'much'" in refused("filter", "a.png", "b.png", "-k", "edge", "--fill-value", "much")


def test_no_arguments_show_the_help():
    assert "Commands:\n  backends" in done()


def test_full_standard_output_is_an_error():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:  # noqa: PTH123  # a device
        ran = subprocess.run([*ENTRY, "kernels"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (ran.returncode, ran.stderr) == (2, "convengine: error: standard output: No space left on device\n")


def test_a_reader_that_leaves_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run([*ENTRY, "kernels"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_what_is_unexpected_is_one_line_unless_the_traceback_is_asked_for(monkeypatch):
    def broken():
        raise ZeroDivisionError("division by nothing")

    monkeypatch.setattr(ce, "backends", broken)
    result = convengine("backends")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "convengine: error: unexpected ZeroDivisionError: division by nothing; please report"
    )
    result = RUNNER.invoke(application, ["--traceback", "backends"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith("in broken\n    raise ZeroDivisionError(\"division by nothing\")\n"
                                  "ZeroDivisionError: division by nothing\n")  # fmt: skip


@pytest.mark.parametrize(("error", "text"), [
    (MemoryError("Unable to allocate 3 TiB"), "not enough memory: Unable to allocate 3 TiB"),
    (MemoryError(), "not enough memory"),
    (ce.NoBackend("none can\n  cython: too\n  fft: bad"), "none can; cython: too; fft: bad"),
    (ce.BackendError("backend 'x' failed"), "backend 'x' failed"),
    (PermissionError(errno.EACCES, "Permission denied", "some/file"), "some/file: Permission denied"),
    (ce.InvalidProblem("a\nb \x1b[31m"), r"a\nb \x1b[31m"),
])  # fmt: skip
def test_exceptions_become_one_line(monkeypatch, error, text):
    def fails():
        raise error

    monkeypatch.setattr(ce, "backends", fails)
    assert refused("backends") == text


# What the commands print


def test_backends_as_text_and_as_json():
    found = ce.backends()
    told = json.loads(done("backends", "--json"))
    assert list(told) == list(found)
    assert told["cython"] == {"usable": True, "reason": "", "version": ce.__version__, "device": "cpu",
                              "isa": found["cython"].isa}  # fmt: skip
    lines = done("backends").splitlines()
    assert lines[0].split() == ["backend", "usable", "version", "device", "isa", "reason"]
    assert [line.split()[0] for line in lines[1:]] == list(found)
    column = lines[0].index("usable")
    assert {line[column : column + 3].strip() for line in lines[1:]} <= {"yes", "no"}


def test_kernels_lists_every_name():
    told = json.loads(done("kernels", "--json"))
    assert set(told) == set(named.names())
    assert told["gaussian"] == {"syntax": "gaussian:SIGMA[,SIGMA...]", "meaning": "Gaussian blur, SIGMA in pixels"}
    assert len(done("kernels").splitlines()) == len(told) + 1


def test_explain_is_what_the_engine_says():
    expected = ce.explain(np.empty((64, 48), np.float32), named.parse("gaussian:2"), mode="same", boundary="wrap")
    said = ("explain", "64x48", "gaussian:2", "--mode", "same", "--boundary", "wrap")
    told = json.loads(done(*said, "--json"))
    assert told == json.loads(json.dumps(expected.to_dict()))
    lines = done(*said).splitlines()
    assert lines[0] == str(expected.problem)
    assert lines[1].split()[:4] == ["backend", "method", "time", "memory"]
    assert [line.split()[0] for line in lines[2:]] == [row.backend for row in expected.rows]


@pytest.mark.parametrize(("arguments", "problem"), [
    (["64x48", "7x5"], "forward corr2d (64, 48) * (7, 5) float32"),
    (["64X48", "7x5", "--dtype", "uint8"], "forward corr2d (64, 48) * (7, 5) uint8 by int8 to int32"),
    (["100", "gaussian:1"], "forward corr1d (100,) * (9,) float32 by float64 to float64"),
    (["64x48x3", "3x3", "--channel-axis", "-1"], "forward corr2d (3, 64, 48) * (3, 3) float32"),
    (["2x8x20x20", "16x4x3x3", "--groups", "2", "--stride", "2"],
     "forward corr2d (2, 8, 20, 20) * (16, 4, 3, 3) float32 stride (2, 2) groups 2"),
    (["1000000x1000000", "3x3"], "forward corr2d (1000000, 1000000) * (3, 3) float32"),
    (["9x9", "[[1,-1]]", "--op", "conv", "--dtype", "int16"], "forward corr2d (9, 9) * (1, 2) int16 by int64 to int64"),
])  # fmt: skip
def test_explain_reads_shapes_and_kernels(arguments, problem):
    assert done("explain", *arguments, "--backend", "cython").splitlines()[0] == problem


def test_explain_refuses():
    assert "needed is a shape such as 1024x1024, below 2**60 samples; got '64x'" in refused("explain", "64x", "3x3")
    assert "2**60" in refused("explain", "9999999999x9999999999", "3x3")
    assert refused("explain", "64x64", "5000x5000") == "a kernel has at most 2**24 taps; got 5000x5000; make it smaller"
    assert "got shape (1, 1, 1, 1, 1, 1)" in refused("explain", "64x64", "1x1x1x1x1x1")
    assert "mode='valid' needs the kernel to fit inside x" in refused("explain", "4x4", "5x5")
    assert refused("explain", "4x4", "3x3", "--backend", "none").startswith("no backend is called 'none'; installed: ")
    assert "needed are names with commas between" in refused("explain", "4x4", "3x3", "--backend", "cython,")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_json_has_no_nan(capsys):
    from convengine.cli import terminal

    terminal.print_json({"a": float("nan"), "b": [1.5, (float("-inf"), 2)], 3: None})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, [None, 2]], "3": None}


def test_a_terminal_gets_a_drawn_table_and_brackets_stay(monkeypatch):
    from convengine.cli import terminal

    drawn = Terminal()
    monkeypatch.setattr(sys, "stdout", drawn)
    monkeypatch.setenv("COLUMNS", "60")
    terminal.print_table(["name", "reason"], [["fft", "refuses [[1, -1]] and [red]"]])
    assert "refuses [[1, -1]] and [red]" in drawn.getvalue()
    assert "─" in drawn.getvalue()


@pytest.mark.parametrize(("columns", "is_drawn"), [(130, True), (60, True), (57, True), (56, False)])
def test_only_the_last_column_folds_and_a_narrow_terminal_gets_plain_text(monkeypatch, columns, is_drawn):
    from convengine.cli import terminal

    drawn = Terminal()
    monkeypatch.setattr(sys, "stdout", drawn)
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal.print_table(
        ["operation", "method", "why"], [["edge detector", "overlap-save, tile 16x16x8", "a long reason " * 4]]
    )
    head, *rest = re.sub(r"\x1b\[\d+m", "", drawn.getvalue()).splitlines()
    assert head.split() == ["operation", "method", "why"]
    assert ("─" in drawn.getvalue()) == is_drawn
    first, *folded = rest[is_drawn:]
    assert first.split()[:4] == ["edge", "detector", "overlap-save,", "tile"]
    assert bool(folded) == (is_drawn and columns < 130)
    assert {line[:41].strip() for line in folded} <= {""}


@pytest.mark.parametrize(("fraction", "text"), [
    (0.0, "0"), (1.0, "1"), (0.123, "0.12"), (0.994, "0.99"), (0.9997, "0.9997"), (0.99996, "0.99996"),
    (1.0004, "1.0004"),
    (1.5, "1.5"), (3.2e-9, "3.2e-09"),
])  # fmt: skip
def test_a_fraction_never_rounds_to_the_bound(fraction, text):
    assert tables.fraction_text(fraction) == text


def test_verbose_tells_the_choice_on_stderr(here, monkeypatch):
    monkeypatch.setenv("CONVENGINE_VERBOSE", "1")
    said = ("filter", "grey.png", "out.png", "-k", "gaussian:1", "--backend", "cython")
    result = convengine(*said)
    assert (result.exit_code, result.stdout) == (0, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("convengine: forward corr2d (24, 31) * (9, 9) uint8")
    assert ": cython (" in line
    monkeypatch.delenv("CONVENGINE_VERBOSE")
    done(*said)


def test_progress_appears_on_a_terminal_when_work_is_long(monkeypatch):
    from convengine.cli import terminal

    monkeypatch.setenv("TERM", "xterm")
    drawn = Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    with terminal.progress("short", 2) as advance:
        advance(1)
    assert drawn.getvalue() == ""
    monkeypatch.setattr(terminal, "PATIENCE", -1)
    with terminal.progress("long [x]", 2) as advance:
        advance(1)
        advance(0.5)
    assert "long [x]" in drawn.getvalue()


def test_check_passes_and_its_json_parses():
    told = json.loads(done("check", "--quick", "--backend", "cython", "--json"))
    assert told["ok"] is True
    (report,) = told["backends"]
    assert (report["backend"], report["failures"]) == ("cython", {})
    assert report["cases"] > 20
    assert 0 < report["largest"] <= 1
    assert "" not in report["methods"]


@pytest.mark.parametrize("quick", [True, False])
def test_check_runs_what_crosscheck_runs(monkeypatch, quick):
    from convengine.crosscheck import BackendReport, CrosscheckReport

    seen = []

    def crosschecked(*, backends, cases, progress):
        seen.append((backends, cases))
        for done_ in (1, 2):
            progress(done_, 2)
        report = BackendReport("fft", cases=9, fractions={"": 0, "tile": 0.9997})
        return CrosscheckReport((report, BackendReport("gone", "it [left]")))

    monkeypatch.setattr(sys.modules["convengine.crosscheck"], "crosscheck", crosschecked)
    lines = done("check", "--backend", "fft", *["--quick"] * quick).splitlines()
    ((backends_, cases),) = seen
    assert backends_ == ("fft",)
    assert (cases is None) != quick
    assert lines[0].split("  ")[0] == "backend"
    assert lines[1].split() == ["fft", "9", "0", "0", "0.9997", "tile"]
    assert lines[2].split() == ["gone", "not", "usable"]
    assert lines[3:] == ["not usable: gone: it [left]"]
    told = json.loads(done("check", "--backend", "fft", "--quick", "--json"))
    assert [one["methods"] for one in told["backends"]] == [{"tile": 0.9997}, {}]


def test_check_of_backends_that_are_not_usable_is_an_error():
    if ce.backends()["cupy"].usable:
        pytest.skip("this computer has a GPU")
    reason = " ".join(ce.backends()["cupy"].reason.split())
    for how in ([], ["--quick"]):
        assert refused("check", "--backend", "cupy", *how) == (
            f"no backend that was to be checked is usable: cupy: {reason}"
        )


def test_help_says_which_backends_run():
    for command in ("check", "demo"):
        assert "default: all that are installed" in " ".join(done(command, "--help").split())
    for command in ("filter", "explain"):
        assert "default: the cheapest that can" in " ".join(done(command, "--help").split())


def test_check_ends_with_1_when_an_answer_is_wrong(monkeypatch):
    from convengine.testing import runner

    true = runner.attempt
    monkeypatch.setattr(runner, "attempt", lambda *said: SimpleNamespace(**{
        **{name: getattr(true(*said), name) for name in ("backend", "case", "fractions")},
        "outcome": "failed", "reason": "planted",
    }))  # fmt: skip
    result = convengine("check", "--quick", "--backend", "cython")
    assert result.exit_code == 1
    assert "failed: planted" in result.stdout
    assert refused("check", "--backend", "nobody").startswith("no backend is called 'nobody'; installed: ")


# Round trips


@pytest.mark.parametrize(("source", "target"), [
    ("png", "png"), ("png", "tif"), ("png", "npy"), ("tif", "png"), ("tiff", "tif"), ("npy", "png"), ("npy", "npy"),
    ("npy", "tif"), ("PNG", "TIFF"),
])  # fmt: skip
@pytest.mark.parametrize("samples", [GREY, DEEP, COLOUR], ids=["grey", "16-bit", "RGB"])
def test_filtered_files_hold_what_the_engine_answers(here, source, target, samples):
    coloured = samples.ndim == 3
    save(f"in.{source}", samples)
    done("filter", f"in.{source}", f"out.{target}", "--kernel", "gaussian:1",
         *(["--channel-axis", -1] if coloured and source == "npy" else []))  # fmt: skip
    expected = ce.corr2d(samples, GAUSSIAN, dtype=samples.dtype, channel_axis=-1 if coloured else None, **HOW)
    got = load(f"out.{target}")
    assert got.dtype == samples.dtype
    assert_array_equal(got, expected)
    assert leftovers(here) == []


def save(name, samples):
    match Path(name).suffix.lower():
        case ".npy":
            np.save(name, samples)
        case ".tif" | ".tiff":
            imwrite(name, samples)
        case _:
            Image.fromarray(samples).save(name)


def load(name):
    match Path(name).suffix.lower():
        case ".npy":
            return np.load(name)
        case ".tif" | ".tiff":
            return imread(name)
        case _:
            with Image.open(name) as image:
                return np.asarray(image)


def kind_of(name):
    """How Pillow sees a picture: mode, size and profile."""
    with Image.open(name) as image:
        return SimpleNamespace(mode=image.mode, size=image.size, profile=image.info.get("icc_profile"))


@pytest.mark.parametrize("name", ["out.jpg", "out.jpeg"])
@pytest.mark.parametrize("samples", [GREY, COLOUR], ids=["grey", "RGB"])
def test_jpeg_goes_in_and_out(here, name, samples):
    Image.fromarray(samples).save("in.jpg", quality=95)
    decoded = load("in.jpg")
    done("filter", "in.jpg", name, "-k", "gaussian:1.5")
    expected = ce.corr2d(decoded, named.parse("gaussian:1.5"), dtype=np.uint8,
                         channel_axis=-1 if samples.ndim == 3 else None, **HOW)  # fmt: skip
    got = load(name)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= 6  # what JPEG loses at this quality
    done("filter", "in.jpg", "out.npy", "-k", "gaussian:1.5")
    assert_array_equal(np.load("out.npy"), expected)


@pytest.mark.parametrize("op", ["corr", "conv"])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_every_option_reaches_the_engine(here, op, mode, boundary):
    kernel = "[[1, 2, 3, 4], [0.5, -7, 3, 9]]"
    done("filter", "array.npy", "out.npy", "-k", kernel, "--op", op, "--mode", mode, "--boundary", boundary,
         "--fill-value", 3, "--backend", "cython", "--workers", 1, "--dtype", "float64")  # fmt: skip
    operation = {"corr": ce.corr2d, "conv": ce.conv2d}[op]
    x = GREY.astype(np.float32)
    expected = operation(x, named.parse(kernel), mode=mode, boundary=boundary, fill_value=3, dtype=np.float64,
                         backend="cython")  # fmt: skip
    assert_array_equal(np.load("out.npy"), expected)


def test_the_kernel_may_be_a_file(here):
    weights = rng().standard_normal((3, 4)) + 1
    np.save("weights.npy", weights)
    done("filter", "array.npy", "out.npy", "-k", "weights.npy")
    assert_array_equal(np.load("out.npy"), ce.corr2d(GREY.astype(np.float32), weights, dtype=np.float32, **HOW))


@pytest.mark.parametrize(("shape", "kernel", "axis", "ndim"), [
    ((50,), "gaussian:1", None, 1),
    ((50,), "[1, -1]", None, 1),
    ((9, 50), "[1, 2, 1]", None, 1),
    ((9, 10), "gaussian:1", None, 2),
    ((9, 10, 11), "gaussian:1", None, 3),
    ((9, 10, 11), "[[1, 2], [3, 4]]", None, 2),
    ((9, 10, 3), "gaussian:1", -1, 2),
    ((9, 10, 3), "gaussian:1", "none", 3),
    ((9, 10, 3), "[[[1]], [[2]]]", None, 3),
    ((3, 9, 10), "gaussian:1", 0, 2),
    ((2, 9, 10, 11), "gaussian:1", None, 3),
])  # fmt: skip
def test_arrays_are_filtered_over_as_many_axes_as_the_kernel_has(here, shape, kernel, axis, ndim):
    x = rng().standard_normal(shape)
    np.save("x.npy", x)
    done("filter", "x.npy", "y.npy", "-k", kernel, *([] if axis is None else ["--channel-axis", axis]))
    operation = getattr(ce, f"corr{ndim}d")
    weights = named.parse(kernel, ndim=ndim)
    channel = axis if isinstance(axis, int) else None
    axes = [i for i in range(len(shape)) if channel is None or i != channel % len(shape)][-ndim:]
    expected = operation(x, weights, channel_axis=channel, axes=axes, dtype=np.float64, **HOW)
    assert_array_equal(np.load("y.npy"), expected)


def test_arrays_that_may_be_coloured_must_say_so(here):
    np.save("x.npy", np.zeros((8, 9, 3)))
    assert refused("filter", "x.npy", "y.npy", "-k", "gaussian:1") == (
        "x.npy: shape (8, 9, 3) may be a picture with 3 colours or a stack; "
        "say --channel-axis -1 or --channel-axis none"
    )
    assert refused("filter", "x.npy", "y.npy", "-k", "edge", "--channel-axis", 5) == (
        "x.npy: has no axis --channel-axis 5; its shape is (8, 9, 3)"
    )
    assert "needed is a whole number, or none; got 'last'" in refused(
        "filter", "x.npy", "y.npy", "-k", "edge", "--channel-axis", "last"
    )
    assert refused("filter", "grey.png", "y.npy", "-k", "edge", "--channel-axis", -1).startswith(
        "grey.png: --channel-axis is for .npy files; a PNG says"
    )


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float16", "float32", "float64", "complex64"])
def test_tiff_and_npy_keep_any_dtype(here, dtype):
    x = (rng().standard_normal(SIZE) * 50 + 200).astype(dtype)
    for name in ("x.tif", "x.npy"):
        save(name, x)
        done("filter", name, f"y{name[1:]}", "-k", "gaussian:1")
        got = load(f"y{name[1:]}")
        assert got.dtype == x.dtype
        assert_array_equal(got, ce.corr2d(x, GAUSSIAN, dtype=dtype, **HOW))


def test_byte_swapped_fortran_and_empty_arrays(here):
    x = rng().standard_normal(SIZE)
    np.save("x.npy", np.asfortranarray(x).astype(">f8"))
    done("filter", "x.npy", "y.npy", "-k", "gaussian:1")
    assert_array_equal(np.load("y.npy"), ce.corr2d(x, GAUSSIAN, **HOW))
    np.save("x.npy", np.zeros((0, 5)))
    done("filter", "x.npy", "y.npy", "-k", "[[1, 1]]", "--boundary", "constant")
    assert np.load("y.npy").shape == (0, 5)
    assert "TIFF takes arrays (H, W), (N, H, W) and (H, W, C); got (0, 5)" in refused(
        "filter", "x.npy", "y.tif", "-k", "[[1, 1]]", "--boundary", "constant"
    )


# Opacity, palettes, profiles


@pytest.mark.parametrize("target", ["png", "tif", "npy"])
def test_opacity_is_kept(here, target):
    done("filter", "clear.png", f"out.{target}", "-k", "gaussian:1")
    got = load(f"out.{target}")
    assert_array_equal(got[..., 3], CLEAR[..., 3])
    assert_array_equal(got[..., :3], ce.corr2d(CLEAR[..., :3], GAUSSIAN, dtype=np.uint8, channel_axis=-1, **HOW))


def test_grey_with_opacity(here):
    Image.fromarray(CLEAR[..., :2]).save("la.png")
    done("filter", "la.png", "out.png", "-k", "gaussian:1")
    assert kind_of("out.png").mode == "LA"
    got = load("out.png")
    assert_array_equal(got[..., 0], ce.corr2d(CLEAR[..., 0], GAUSSIAN, dtype=np.uint8, **HOW))
    assert_array_equal(got[..., 1], CLEAR[..., 1])


@pytest.mark.parametrize("op", ["corr", "conv"])
def test_opacity_follows_the_kernels_centre_where_the_shape_changes(here, op):
    kernel = "[[1, 1, 1, 1], [1, 1, 1, 1]]"  # centre (1, 2)
    done("filter", "clear.png", "out.npy", "-k", kernel, "--op", op, "--mode", "valid")
    assert_array_equal(np.load("out.npy")[..., 3], CLEAR[1:, 2:-1, 3])
    done("filter", "clear.png", "out.npy", "-k", kernel, "--op", op, "--mode", "full", "--boundary", "constant")
    got = np.load("out.npy")[..., 3]
    assert_array_equal(got, np.pad(CLEAR[..., 3], ((0, 1), (1, 2)), mode="edge"))


def test_opacity_keeps_its_share_in_another_dtype(here):
    done("filter", "clear.png", "out.tif", "-k", "gaussian:1", "--dtype", "uint16")
    assert_array_equal(imread("out.tif")[..., 3], CLEAR[..., 3].astype(np.uint16) * 257)
    done("filter", "clear.png", "out.npy", "-k", "gaussian:1", "--dtype", "float32")
    assert_array_equal(np.load("out.npy")[..., 3], CLEAR[..., 3].astype(np.float32))
    done("filter", "out.tif", "back.png", "-k", "identity", "--dtype", "uint8")
    assert_array_equal(load("back.png")[..., 3], CLEAR[..., 3])


def test_formats_that_hold_no_opacity_refuse(here):
    assert refused("filter", "clear.png", "out.jpg", "-k", "gaussian:1") == (
        "out.jpg: JPEG holds no opacity, which the input has; write TIFF or NPY"
    )
    imwrite("pre.tif", CLEAR, photometric="rgb", extrasamples=["assocalpha"])
    assert "PNG holds no premultiplied colours" in refused("filter", "pre.tif", "out.png", "-k", "gaussian:1")
    done("filter", "pre.tif", "out.tif", "-k", "gaussian:1")
    with TiffFile("out.tif") as tiff:
        assert [int(extra) for extra in tiff.pages[0].extrasamples] == [1]


def test_palettes_become_colours(here):
    flat = Image.fromarray(COLOUR).quantize(16)
    flat.save("palette.png")
    done("filter", "palette.png", "out.png", "-k", "gaussian:1")
    rgb = np.asarray(flat.convert("RGB"))
    assert_array_equal(load("out.png"), ce.corr2d(rgb, GAUSSIAN, dtype=np.uint8, channel_axis=-1, **HOW))
    flat.save("palette.png", transparency=3)
    done("filter", "palette.png", "out.png", "-k", "identity")
    with Image.open("palette.png") as image:
        assert_array_equal(load("out.png"), np.asarray(image.convert("RGBA")))


def test_a_transparent_colour_becomes_opacity(here):
    Image.fromarray(COLOUR).save("key.png", transparency=tuple(int(value) for value in COLOUR[3, 4]))
    done("filter", "key.png", "out.png", "-k", "identity")
    got = load("out.png")
    assert got[3, 4, 3] == 0
    assert got[0, 0, 3] == 255
    Image.fromarray(GREY).save("key.png", transparency=int(GREY[3, 4]))
    done("filter", "key.png", "out.png", "-k", "identity")
    assert_array_equal(load("out.png")[..., 1] == 0, GREY[3, 4] == GREY)


def test_single_bits_become_black_and_white(here):
    bits = GREY > 128
    Image.fromarray(bits).save("bits.png")
    imwrite("bits.tif", bits)
    imwrite("black.tif", bits, photometric="minisblack")
    expected = ce.corr2d(bits * np.uint8(255), GAUSSIAN, dtype=np.uint8, **HOW)
    for name in ("bits.png", "bits.tif", "black.tif"):
        done("filter", name, "out.png", "-k", "gaussian:1")
        inverted = name == "bits.tif" and photometric(name) == 0
        assert_array_equal(load("out.png"), 255 - expected if inverted else expected)


def photometric(name):
    with TiffFile(name) as tiff:
        return int(tiff.pages[0].photometric)


def test_profiles_are_kept(here):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(COLOUR).save("in.png", icc_profile=profile)
    for name in ("out.png", "out.jpg"):
        done("filter", "in.png", name, "-k", "gaussian:1")
        assert kind_of(name).profile == profile
    done("filter", "in.png", "out.tif", "-k", "gaussian:1")
    done("filter", "out.tif", "back.png", "-k", "gaussian:1")
    assert kind_of("back.png").profile == profile


def test_photographs_are_turned_upright(here):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(GREY).save("in.png", exif=exif)
    done("filter", "in.png", "out.npy", "-k", "identity")
    assert_array_equal(np.load("out.npy"), np.rot90(GREY, -1))


# PNG files of 16-bit colour


def save_deep(name, samples, before=(), **how):
    """Write a PNG of (H, W, C) in 16 bits, with chunks after its header."""
    height, width, channels = samples.shape
    file = io.BytesIO()
    writer = pypng.Writer(width, height, bitdepth=16, greyscale=channels == 2, alpha=channels != 3, **how)
    writer.write(file, samples.reshape(height, -1).tolist())
    header, *rest = pypng.Reader(bytes=file.getvalue()).chunks()
    with Path(name).open("wb") as out:
        pypng.write_chunks(out, [header, *before, *rest])


def load_deep(name):
    """The samples of a 16-bit PNG of colours, (H, W, C), by pypng alone."""
    width, height, rows, info = pypng.Reader(bytes=Path(name).read_bytes()).read()
    assert info["bitdepth"] == 16
    return np.array(list(rows), np.uint16).reshape(height, width, info["planes"])


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png_keeps_every_bit(here, channels, interlace):
    samples = rng().integers(0, 65536, (*SIZE, channels), np.uint16)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save_deep("in.png", samples, [(b"iCCP", b"x\0\0" + zlib.compress(profile))], interlace=interlace)
    colours, opacity = (samples, None) if channels == 3 else (samples[..., :-1], samples[..., -1])
    expected = ce.corr2d(colours, GAUSSIAN, dtype=np.uint16, channel_axis=-1, **HOW)
    done("filter", "in.png", "out.png", "-k", "gaussian:1")
    got = load_deep("out.png")
    assert got.shape == samples.shape
    assert_array_equal(got[..., : colours.shape[-1]], expected)
    if opacity is not None:
        assert_array_equal(got[..., -1], opacity)
    assert kind_of("out.png").profile == profile
    done("filter", "out.png", "out.tif", "-k", "identity")
    assert_array_equal(imread("out.tif"), got)
    done("filter", "out.tif", "back.png", "-k", "identity")
    assert Path("back.png").read_bytes() == Path("out.png").read_bytes()


def test_an_installed_photograph_of_16_bits(here):
    source = resources.files("skimage") / "data" / "chessboard_RGB.png"
    with Image.open(str(source)) as image:
        halved = np.asarray(image)
    done("filter", source, "out.png", "-k", "identity")
    done("filter", source, "out.npy", "-k", "identity")
    assert np.load("out.npy").dtype == np.uint16
    assert_array_equal(np.load("out.npy"), load_deep(str(source)))
    assert_array_equal(load_deep("out.png"), np.load("out.npy"))
    assert_array_equal(np.load("out.npy") >> 8, halved)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_colour_is_turned_upright(here, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    samples = rng().integers(0, 65536, (*SIZE, 3), np.uint16)
    save_deep("in.png", samples, [(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))])
    done("filter", "in.png", "deep.npy", "-k", "identity")
    Image.fromarray((samples >> 8).astype(np.uint8)).save("in.png", exif=exif)
    done("filter", "in.png", "shallow.npy", "-k", "identity")
    assert_array_equal(np.load("deep.npy") >> 8, np.load("shallow.npy"))


def test_16_bit_colour_with_a_transparent_value_is_refused(here):
    save_deep("in.png", rng().integers(0, 65536, (*SIZE, 3), np.uint16), [(b"tRNS", bytes(6))])
    assert "16-bit samples with a transparent value, which are not filtered" in refused(
        "filter", "in.png", "out.png", "-k", "box:3"
    )


# TIFF files


def test_each_page_of_a_tiff_is_filtered(here):
    pages = rng().integers(0, 65536, (4, *SIZE), np.uint16)
    imwrite("in.tif", pages, photometric="minisblack")
    done("filter", "in.tif", "out.tif", "-k", "gaussian:1")
    expected = ce.corr2d(pages, GAUSSIAN, dtype=np.uint16, **HOW)
    assert_array_equal(imread("out.tif"), expected)
    with TiffFile("out.tif") as tiff:
        assert len(tiff.pages) == 4
    done("filter", "in.tif", "out.npy", "-k", "gaussian:1")
    assert_array_equal(np.load("out.npy"), expected)
    np.save("in.npy", pages)
    done("filter", "in.npy", "stack.tif", "-k", "[[1, 2, 1]]", "--dtype", "float64")
    assert_array_equal(imread("stack.tif"), ce.corr2d(pages, [[1, 2, 1]], dtype=np.float64, **HOW))
    assert refused("filter", "in.tif", "out.png", "-k", "gaussian:1") == (
        "out.png: PNG holds one picture, in.tif 4 pages; write TIFF or NPY"
    )


def test_pages_of_different_kinds(here):
    imwrite("in.tif", GREY)
    imwrite("in.tif", COLOUR, append=True, photometric="rgb")
    imwrite("in.tif", DEEP[:9].astype(np.float32), append=True)
    done("filter", "in.tif", "out.tif", "-k", "gaussian:1")
    with TiffFile("out.tif") as tiff:
        got = [page.asarray() for page in tiff.pages]
    for page, x in zip(got, [GREY, COLOUR, DEEP[:9].astype(np.float32)], strict=True):
        axis = -1 if x.ndim == 3 else None
        assert_array_equal(page, ce.corr2d(x, GAUSSIAN, dtype=x.dtype, channel_axis=axis, **HOW))
    assert "NPY holds one array, but the pages are float32 (9, 31), uint8 (24, 31), uint8 (24, 31, 3)" in refused(
        "filter", "in.tif", "out.npy", "-k", "gaussian:1"
    )


@pytest.mark.parametrize("how", [
    {"planarconfig": "separate"}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"byteorder": ">"},
    {"bigtiff": True},
])  # fmt: skip
def test_tiff_in_all_layouts(here, how):
    samples = np.moveaxis(COLOUR, -1, 0) if "planarconfig" in how else COLOUR
    imwrite("in.tif", samples, photometric="rgb", **how)
    done("filter", "in.tif", "out.tif", "-k", "gaussian:1")
    assert_array_equal(imread("out.tif"), ce.corr2d(COLOUR, GAUSSIAN, dtype=np.uint8, channel_axis=-1, **HOW))


def test_tiff_extra_channels_and_white_that_is_zero(here):
    imwrite("in.tif", CLEAR, photometric="rgb", extrasamples=["unspecified"])
    done("filter", "in.tif", "out.tif", "-k", "gaussian:1")
    assert_array_equal(imread("out.tif"), ce.corr2d(CLEAR, GAUSSIAN, dtype=np.uint8, channel_axis=-1, **HOW))
    imwrite("in.tif", GREY, photometric="miniswhite")
    done("filter", "in.tif", "out.tif", "-k", "[[0.5, 0.25]]")
    assert_array_equal(imread("out.tif"), ce.corr2d(255 - GREY, [[0.5, 0.25]], dtype=np.uint8, **HOW))
    assert photometric("out.tif") == 1
    imwrite("in.tif", GREY.astype(np.float32), photometric="miniswhite")
    assert "float32 where white is zero is not filtered" in refused("filter", "in.tif", "out.tif", "-k", "box:3")


def test_tiff_palettes_and_compressions_of_other_packages(here):
    colours = rng().integers(0, 256, (3, 256)).astype(np.uint16) * 257
    imwrite("in.tif", GREY, photometric="palette", colormap=colours)
    done("filter", "in.tif", "out.png", "-k", "identity")
    assert_array_equal(load("out.png"), (colours.T[GREY] >> 8).astype(np.uint8))
    for samples in (COLOUR, GREY, DEEP):
        Image.fromarray(samples).save("in.tif", compression="tiff_lzw")
        done("filter", "in.tif", "out.tif", "-k", "identity")
        assert_array_equal(imread("out.tif"), samples)
    Image.fromarray(GREY > 99).save("in.tif", compression="group4")
    if importlib.util.find_spec("imagecodecs") is None:
        assert "CCITT" in refused("filter", "in.tif", "out.tif", "-k", "box:3")


def test_tiff_refusals(here):
    imwrite("in.tif", rng().integers(0, 256, (*SIZE, 4), np.uint8), photometric="separated", planarconfig="contig")
    assert refused("filter", "in.tif", "out.tif", "-k", "box:3") == (
        "in.tif: SEPARATED with axes YXS is not filtered; save it as grey or RGB"
    )
    imwrite("in.tif", np.zeros((5, *SIZE), np.uint8), truncate=True)
    assert refused("filter", "in.tif", "out.tif", "-k", "box:3").startswith(
        "in.tif: holds 3720 samples behind 1 page headers for 744; save it"
    )
    np.save("in.npy", np.zeros((2, 2, 8, 9)))
    assert "TIFF takes arrays (H, W), (N, H, W) and (H, W, C); got (2, 2, 8, 9)" in refused(
        "filter", "in.npy", "out.tif", "-k", "[[1]]"
    )


# Signed results and scales


@pytest.mark.parametrize(
    "kernel", ["sobel-x", "edge", "laplacian", "log:2", "dog:1", "gabor:8", "derivative-y", "[[-1]]"]
)
def test_kernels_whose_taps_cancel_out_are_signed(kernel):
    assert is_signed(named.parse(kernel))


@pytest.mark.parametrize("kernel", ["gaussian:2", "sharpen", "sharpen:5", "unsharp:2,3", "emboss", "identity", "[[0]]"])
def test_kernels_that_keep_the_mean_are_not_signed(kernel):
    assert not is_signed(named.parse(kernel))


def test_signed_results_need_a_scale(here):
    advice = (
        "which uint8 in PNG cannot hold; give --scale abs, offset or minmax, or write TIFF or NPY with --dtype float32"
    )
    start = "this kernel's taps cancel out (their sum is 0), so that results are signed, "
    assert refused("filter", "grey.png", "out.png", "-k", "sobel-x") == start + advice
    assert refused("filter", "grey.png", "out.png", "-k", "sobel-x", "--dtype", "uint8") == start + advice
    assert "which uint8 in TIFF cannot hold; give --scale abs, offset or minmax, or give --dtype" in refused(
        "filter", "grey.png", "out.tif", "-k", "sobel-x"
    )
    assert list(here.glob("out*")) == []
    for dtype in ("float32", "int16", "uint8"):
        done("filter", "grey.png", "out.tif", "-k", "sobel-x", "--dtype", dtype)
        assert_array_equal(imread("out.tif"), ce.corr2d(GREY, named.parse("sobel-x"), dtype=dtype, **HOW))
    np.save("x.npy", GREY.astype(np.int16) - 5)
    assert refused("filter", "x.npy", "out.png", "-k", "box:3", "--dtype", "uint8").startswith(
        f"the input is signed, down to {int(GREY.min()) - 5}, which uint8 in PNG"
    )


def test_sharpening_saturates(here):
    done("filter", "grey.png", "out.png", "-k", "sharpen")
    got = load("out.png")
    assert_array_equal(got, ce.corr2d(GREY, named.parse("sharpen"), dtype=np.uint8, **HOW))
    assert (got.min(), got.max()) == (0, 255)


def test_scales(here):
    exact = ce.corr2d(GREY, named.parse("sobel-x"), **HOW)
    assert exact.min() < -255  # so that saturation shows
    low, high = exact.min(), exact.max()
    expected = {
        "abs": np.minimum(np.abs(exact), 255),
        "offset": np.clip(exact + 128, 0, 255),
        "minmax": np.rint((exact - low) * (255 / (high - low))),
    }
    for scale, values in expected.items():
        done("filter", "grey.png", "out.png", "-k", "sobel-x", "--scale", scale)
        got = load("out.png")
        assert got.dtype == np.uint8
        assert_array_equal(got, values)
    save("deep.png", DEEP)
    done("filter", "deep.png", "out.png", "-k", "edge", "--scale", "offset")
    right = np.clip(ce.corr2d(DEEP.astype(np.int64), [[1, -1]], **HOW) + 32768, 0, 65535)
    assert_array_equal(load("out.png"), right)
    done("filter", "deep.png", "out.jpg", "-k", "edge", "--scale", "minmax")
    assert kind_of("out.jpg").mode == "L"
    done("filter", "array.npy", "out.npy", "-k", "edge", "--scale", "minmax")
    assert (np.load("out.npy").min(), np.load("out.npy").max(), np.load("out.npy").dtype) == (0, 1, np.float32)


def test_scaling_by_itself():
    assert_array_equal(scaled(np.array([0.5, 1.5, 2.5, -7]), "abs", np.dtype("uint8")), [0, 2, 2, 7])
    assert_array_equal(scaled(np.array([3.0, 3.0]), "minmax", np.dtype("uint8")), [0, 0])
    assert_array_equal(scaled(np.array([-1.0, 0.0]), "offset", np.dtype("float32")), [-0.5, 0.5])
    assert_array_equal(scaled(np.array([3 + 4j]), "abs", np.dtype("uint8")), [5])
    assert scaled(np.array([1e30]), "abs", np.dtype("uint64")) == 2**64 - 2048
    assert scaled(np.array([], np.int64), "minmax", np.dtype("uint8")).shape == (0,)


def test_formats_refuse_dtypes_that_they_do_not_hold(here):
    save("deep.png", DEEP)
    assert refused("filter", "deep.png", "out.jpg", "-k", "box:3") == (
        "JPEG holds grey in uint8; got uint16; give --dtype uint8, which rounds and saturates, or --scale minmax, "
        "or write TIFF or NPY"
    )
    assert "PNG holds grey in uint8 or uint16; got float32" in refused("filter", "array.npy", "out.png", "-k", "box:3")
    imwrite("deep.tif", COLOUR.astype(np.uint16) * 257, photometric="rgb")
    assert "JPEG holds colour in uint8; got uint16" in refused("filter", "deep.tif", "out.jpg", "-k", "box:3")
    done("filter", "deep.tif", "out.jpg", "-k", "box:3", "--scale", "minmax")
    assert kind_of("out.jpg").mode == "RGB"
    np.save("mask.npy", GREY > 99)
    assert refused("filter", "mask.npy", "out.npy", "-k", "box:3") == (
        "the input holds bool; give --dtype: uint8 counts, float32 keeps fractions"
    )
    done("filter", "mask.npy", "out.npy", "-k", "[[1,1,1]]", "--dtype", "uint8")
    assert_array_equal(np.load("out.npy"), ce.corr2d(GREY > 99, [[1, 1, 1]], **HOW))
    np.save("wide.npy", np.zeros((4, 5, 5)))
    assert "PNG takes arrays (H, W), or (H, W, 3) of colours; got (4, 5, 5)" in refused(
        "filter", "wide.npy", "out.png", "-k", "[[1]]", "--dtype", "uint8"
    )


@pytest.mark.parametrize(("shape", "kernel"), [((50,), "gaussian:1"), ((4, 9, 11), "gaussian:1"), ((4, 9, 5), "box:3")])
def test_a_shape_that_is_no_picture_is_refused_before_its_dtype(here, shape, kernel):
    np.save("x.npy", np.zeros(shape, np.float32))
    for name, kind in (("y.png", "PNG"), ("y.jpg", "JPEG")):
        assert refused("filter", "x.npy", name, "-k", kernel) == (
            f"{name}: {kind} takes arrays (H, W), or (H, W, 3) of colours; got {shape}; write TIFF or NPY"
        )


def test_advice_for_complex_arrays_works_at_once(here):
    z = (GREY - 3j * GREY[::-1]).astype(np.complex64)
    np.save("z.npy", z)
    said = ("filter", "z.npy", "out.png", "-k", "identity")
    advice = "give --scale abs with --dtype uint8"
    expected = f"PNG holds real samples; got complex64; {advice}, or write TIFF or NPY"
    assert refused(*said) == refused(*said, "--scale", "abs") == refused(*said, "--scale", "offset") == expected
    assert refused(*said, "--dtype", "uint8") == f"results are complex128, which uint8 cannot hold; {advice}"
    assert refused(*said, "--scale", "minmax").endswith(f"these are complex128; {advice}")
    done(*said, "--scale", "abs", "--dtype", "uint8")
    assert_array_equal(load("out.png"), np.minimum(np.rint(np.abs(z.astype(complex))), 255))
    np.save("kernel.npy", np.array([[1j]]))
    assert refused("filter", "grey.png", "out.png", "-k", "kernel.npy") == (
        f"results are complex128, which uint8 cannot hold; {advice}"
    )


def test_nan_and_infinity(here):
    x = GREY.astype(np.float32)
    x[3, 3] = np.nan
    np.save("x.npy", x)
    done("filter", "x.npy", "y.npy", "-k", "box:3")
    assert np.isnan(np.load("y.npy")).sum() == 9
    assert "NaN" in refused("filter", "x.npy", "y.png", "-k", "box:3", "--dtype", "uint8")
    assert refused("filter", "x.npy", "y.png", "-k", "box:3", "--scale", "minmax") == (
        "results hold NaN or infinity, which uint8 can't; write TIFF or NPY in float32"
    )
    np.save("z.npy", x * (1 + 1j))
    assert "--scale minmax needs real results; these are complex128" in refused(
        "filter", "z.npy", "y.npy", "-k", "box:3", "--scale", "minmax"
    )


# Bad input


def test_missing_and_impossible_files(here):
    (here / "folder.png").mkdir()
    os.mkfifo("pipe.png")
    assert refused("filter", "none.png", "out.png", "-k", "box:3") == "none.png: no such file"
    assert refused("filter", "folder.png", "out.png", "-k", "box:3") == "folder.png: is a directory"
    assert refused("filter", "pipe.png", "out.png", "-k", "box:3") == "pipe.png: is not a regular file"
    known = "the name must end in one of .png, .jpg, .jpeg, .tif, .tiff, .npy"
    assert refused("filter", "grey.gif", "out.png", "-k", "box:3") == f"grey.gif: {known}; got '.gif'"
    assert refused("filter", "grey.png", "out", "-k", "box:3") == f"out: {known}; got 'no ending'"
    assert refused("filter", "grey.png", "folder.png", "-k", "box:3") == "folder.png: is a directory"
    assert refused("filter", "grey.png", "pipe.png", "-k", "box:3") == "pipe.png: is not a regular file"
    assert refused("filter", "grey.png", "no/out.png", "-k", "box:3") == f"no/out.png: there is no folder {here}/no"
    assert refused("filter", "a\nb.png", "out.png", "-k", "box:3") == r"a\nb.png: no such file"


def test_files_without_permission(here):
    Path("secret.png").write_bytes(Path("grey.png").read_bytes())
    Path("secret.png").chmod(0)
    if os.access("secret.png", os.R_OK):
        pytest.skip("this user may read everything")
    assert refused("filter", "secret.png", "out.png", "-k", "box:3") == "secret.png: Permission denied"


def test_a_read_only_file_is_not_replaced(here, monkeypatch):
    Path("kept.png").write_bytes(b"kept")
    Path("kept.png").chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).stat().st_mode & 0o200)  # as for a user but root
    assert refused("filter", "grey.png", "kept.png", "-k", "box:3") == "kept.png: cannot be written: it is read-only"
    assert Path("kept.png").read_bytes() == b"kept"


def test_permission_errors_are_told(here, monkeypatch):
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(writing, "_Descriptor", forbidden)
    assert refused("filter", "grey.png", "out.png", "-k", "box:3") == "out.png: cannot be written: Permission denied"


def test_kernels_that_are_none(here):
    assert refused("filter", "grey.png", "o.png", "-k", "gaussan:2").startswith(
        "unknown kernel 'gaussan'; did you mean gaussian? needed is a list such as [[1,-1]], a .npy file, "
        "or one of binomial, "
    )
    assert "did you mean sobel-x or sobel-y or sobel-z?" in refused("filter", "grey.png", "o.png", "-k", "sobel")
    assert refused("filter", "grey.png", "o.png", "-k", "Sobel-Z") == (
        "kernel 'sobel-z' needs an array of 3 axes or more; this one has 2"
    )
    np.save("line.npy", np.zeros(9))
    assert refused("filter", "line.npy", "o.npy", "-k", "derivative-y:2") == (
        "kernel 'derivative-y' needs an array of 2 axes or more; this one has 1"
    )
    assert "kernel 'gaussian': got 0 values; write gaussian:SIGMA" in refused(
        "filter", "grey.png", "o.png", "-k", "gaussian"
    )
    assert "needs rows of one length, 2 here; got [1]" in refused("filter", "grey.png", "o.png", "-k", "[[1,2],[1]]")
    assert refused("filter", "grey.png", "o.png", "-k", "[1, 1]") == (
        "a picture takes a kernel of 2 axes; got shape (2,); write [[1,-1]] for a row, [[1],[-1]] for a column"
    )
    assert "a kernel needs at most 16777216 taps" in refused("filter", "grey.png", "o.png", "-k", "box:9999")
    assert "mode='valid' needs the kernel to fit inside x; got kernel (99, 99) and x (24, 31)" in refused(
        "filter", "grey.png", "o.png", "-k", "box:99", "--mode", "valid"
    )
    assert "fill_value must be exact in x's dtype uint8; got 0.5" in refused(
        "filter", "grey.png", "o.png", "-k", "box:3", "--fill-value", "0.5"
    )
    assert refused("filter", "grey.png", "o.png", "-k", "none.npy") == "none.npy: No such file or directory"
    np.save("four.npy", np.zeros((1, 1, 1, 1)))
    assert "a kernel needs 1 to 3 axes of 1 sample or more; got shape (1, 1, 1, 1)" in refused(
        "filter", "grey.png", "o.png", "-k", "four.npy"
    )
    Path("huge.npy").write_bytes(npy_header((5000, 5000), "<u1", bytes(25_000_000)))
    assert "a kernel needs at most 16777216 taps; got shape (5000, 5000)" in refused(
        "filter", "grey.png", "o.png", "-k", "huge.npy"
    )


def test_backends_that_cannot(here):
    for command in (["filter", "grey.png", "o.png", "-k", "box:3"], ["check"], ["demo"], ["explain", "9x9", "3x3"]):
        text = refused(*command, "--backend", "none")
        assert text.startswith("no backend is called 'none'; installed: ")
        assert text.endswith("see 'convengine backends'")
    np.save("z.npy", np.full(SIZE, 2**62))
    text = refused("filter", "z.npy", "o.npy", "-k", "[[1, 1]]")
    assert "an integer result may reach 9223372036854775808, past int64" in text


def test_corrupt_and_truncated_pictures(here):
    for name, text in (("grey.png", "not a PNG file"), ("bad.jpg", "not a JPEG file")):
        Path(name).write_bytes(b"this is no picture")
        assert refused("filter", name, "out.png", "-k", "box:3") == f"{name}: {text}, or corrupt from the start"
    Path("bad.tif").write_bytes(b"this is no picture")
    assert refused("filter", "bad.tif", "out.png", "-k", "box:3").startswith(
        "bad.tif: cannot be read as TIFF: not a TIFF file"
    )
    Path("empty.png").touch()
    assert "not a PNG file" in refused("filter", "empty.png", "out.png", "-k", "box:3")
    for name in ("cut.png", "cut.jpg", "cut.tif", "cut.npy"):
        save(name, rng().integers(0, 256, (64, 64), np.uint8))
        whole = Path(name).read_bytes()
        Path(name).write_bytes(whole[: len(whole) // 2])
        text = refused("filter", name, "out.npy", "-k", "box:3")
        assert text.startswith(f"{name}: ")
        assert "truncated" in text
    assert not Path("out.npy").exists()


def test_a_tiff_that_lost_its_last_pages_is_refused(here):
    imwrite("in.tif", np.zeros((5, 64, 64), np.uint16), metadata=None, contiguous=False)
    whole = Path("in.tif").read_bytes()
    Path("in.tif").write_bytes(whole[: len(whole) * 3 // 5])
    assert refused("filter", "in.tif", "out.tif", "-k", "box:3").startswith("in.tif: truncated or corrupt: ")


def test_picture_bombs(here):
    Path("bomb.png").write_bytes(png(30000, 30000, 8, 0, b"tiny"))
    text = refused("filter", "bomb.png", "out.png", "-k", "box:3")
    assert text == (
        "bomb.png: claims 30000 x 30000 = 900000000 pixels; the limit is 89478485; "
        "if the file is to be trusted, raise --max-pixels"
    )
    Path("large.png").write_bytes(png(10000, 10000, 8, 0, b"tiny"))
    assert "100000000 pixels" in refused("filter", "large.png", "out.png", "-k", "box:3")
    imwrite("bomb.tif", GREY, compression="zlib")
    with TiffFile("bomb.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(60000)
        tiff.pages[0].tags["ImageLength"].overwrite(60000)
    assert refused("filter", "bomb.tif", "out.png", "-k", "box:3").startswith(
        "bomb.tif: claims 60000 x 60000 = 3600000000 pixels; the limit is 89478485; if the file"
    )
    assert "31 x 24 = 744 pixels; the limit is 700" in refused(
        "filter", "grey.png", "out.png", "-k", "box:3", "--max-pixels", 700
    )
    done("filter", "grey.png", "out.png", "-k", "box:3", "--max-pixels", 744)
    assert Image.MAX_IMAGE_PIXELS == 89478485


def test_tiff_headers_that_promise_more_than_the_file_holds(here):
    imwrite("in.tif", GREY)
    with TiffFile("in.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["ImageLength"].overwrite(9000)
    assert refused("filter", "in.tif", "out.tif", "-k", "box:3").startswith(
        "in.tif: truncated or corrupt: uint8 of shape (9000, 31) needs 279000 bytes"
    )


def test_npy_headers_are_checked_first(here):
    Path("x.npy").write_bytes(npy_header((10**7, 10**7)))
    assert refused("filter", "x.npy", "y.npy", "-k", "box:3") == (
        "x.npy: truncated or corrupt: its header says float64 of shape (10000000, 10000000), 800000000000000 bytes; "
        "it has 0"
    )
    np.save("x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert refused("filter", "x.npy", "y.npy", "-k", "box:3") == (
        "x.npy: a .npy file of numbers is needed; this one holds object"
    )
    Path("x.npy").write_bytes(b"\x93NUMPY\x01\x00\x05\x00{'a'")
    broken = "x.npy: not a .npy file of numbers, or its header is corrupt"
    assert refused("filter", "x.npy", "y.npy", "-k", "box:3") == broken
    Path("x.npy").write_bytes(npy_header((9,)).replace(b"'<f8'", b"'<f\0'"))
    assert refused("filter", "x.npy", "y.npy", "-k", "box:3") == broken
    Path("x.npy").write_bytes(b"nothing")
    assert refused("filter", "x.npy", "y.npy", "-k", "box:3") == broken
    Path("x.npy").write_bytes(npy_header((3, -9)))
    assert refused("filter", "x.npy", "y.npy", "-k", "box:3") == "x.npy: corrupt: its header says shape (3, -9)"
    np.save("x.npy", np.zeros(3, "U4"))
    assert "holds <U4" in refused("filter", "x.npy", "y.npy", "-k", "box:3")
    np.save("x.npy", np.zeros(3, np.longdouble))
    assert f"x has dtype {np.dtype(np.longdouble)}; supported are" in refused("filter", "x.npy", "y.npy", "-k", "[1]")


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_corrupt_16_bit_colour_png(here, cut):
    row = b"\0" + bytes(range(12))
    whole = png(2, 1, 16, 2, row)
    at = whole.index(b"IDAT") + 4
    bad, text = {
        1: (whole[: at + 5], "too short"),
        2: (png(2, 1, 16, 2, row[:-1]), "truncated or corrupt: its samples end after 12 bytes"),
        3: (png(2, 1, 16, 2, row + bytes(10**8)), "corrupt: it holds more samples than its header says"),
    }[cut]
    Path("bad.png").write_bytes(bad)
    said = refused("filter", "bad.png", "out.npy", "-k", "[[1]]")
    assert said.startswith("bad.png: ")
    assert text in said.lower()


def test_colours_that_are_not_filtered(here):
    Image.fromarray(CLEAR, "CMYK").save("cmyk.jpg")
    assert refused("filter", "cmyk.jpg", "out.png", "-k", "box:3") == (
        "cmyk.jpg: holds CMYK colours, which are not filtered; save it as grey or RGB"
    )
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save("moves.png", save_all=True, append_images=frames[1:])
    assert refused("filter", "moves.png", "out.png", "-k", "box:3") == (
        "moves.png: an animation of 2 frames; save them as files or as TIFF"
    )


def test_compressed_text_bombs_are_errors(here):
    info = PngImagePlugin.PngInfo()
    info.add_text("long", "a" * (PngImagePlugin.MAX_TEXT_CHUNK + 10), zip=True)
    Image.fromarray(GREY).save("text.png", pnginfo=info)
    assert refused("filter", "text.png", "out.png", "-k", "box:3").startswith("text.png: ")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "npy"])
def test_damaged_files_never_break_the_program(here, suffix):
    rng = np.random.default_rng(3)
    save(f"good.{suffix}", np.arange(40 * 40, dtype=np.uint8).reshape(40, 40))
    good = np.frombuffer(Path(f"good.{suffix}").read_bytes(), np.uint8)
    for trial in range(40):
        bad = good.copy()
        at = rng.integers(0, min(len(good), 400), 1 + trial % 4)
        bad[at] = rng.integers(0, 256, len(at))
        Path(f"bad.{suffix}").write_bytes(bad[: rng.integers(1, len(bad)) if trial % 5 == 4 else len(bad)].tobytes())
        result = convengine("filter", f"bad.{suffix}", "out.npy", "-k", "[[1]]")
        assert result.exit_code in (0, 2)
        if result.exit_code:
            assert result.stderr.count("\n") == 1
            assert "unexpected" not in result.stderr
        assert leftovers(here) == []


# Written whole or not at all


def test_out_is_replaced_and_keeps_its_permissions(here):
    Path("out.png").write_bytes(b"old")
    Path("out.png").chmod(0o640)
    done("filter", "grey.png", "out.png", "-k", "box:3")
    assert kind_of("out.png").size == (31, 24)
    assert Path("out.png").stat().st_mode & 0o777 == 0o640
    mask = os.umask(0o027)
    try:
        done("filter", "grey.png", "new.png", "-k", "box:3")
    finally:
        os.umask(mask)
    assert Path("new.png").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_and_its_target_is_replaced(here):
    (here / "there").mkdir()
    Path("there/real.png").write_bytes(b"old")
    Path("link.png").symlink_to("there/real.png")
    done("filter", "grey.png", "link.png", "-k", "box:3")
    assert Path("link.png").is_symlink()
    assert kind_of("there/real.png").size == (31, 24)


def test_the_input_is_replaced_by_force_only(here):
    before = Path("grey.png").read_bytes()
    os.link("grey.png", "same.png")
    for name in ("grey.png", "./grey.png", "same.png"):
        assert refused("filter", "grey.png", name, "-k", "box:3") == (
            f"{Path(name)}: is the input itself; write another file, or replace it by --force"
        )
    assert Path("grey.png").read_bytes() == before
    done("filter", "grey.png", "grey.png", "-k", "box:3", "--force")
    assert_array_equal(load("grey.png"), ce.corr2d(GREY, named.parse("box:3"), dtype=np.uint8, **HOW))
    pages = rng().integers(0, 256, (3, *SIZE), np.uint8)
    imwrite("pages.tif", pages, photometric="minisblack")
    done("filter", "pages.tif", "pages.tif", "-k", "box:3", "--force")
    assert_array_equal(imread("pages.tif"), ce.corr2d(pages, named.parse("box:3"), dtype=np.uint8, **HOW))


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.tif", "out.npy"])
def test_a_full_disk_leaves_what_was_there(here, monkeypatch, target):
    written = []

    def full(self, data):
        written.append(len(data))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing._Descriptor, "write", full)
    Path(target).write_bytes(b"kept")
    text = refused("filter", "grey.png", target, "-k", "box:3")
    assert text == f"{target}: cannot be written: No space left on device"
    assert written
    assert Path(target).read_bytes() == b"kept"
    assert leftovers(here) == []


@pytest.mark.parametrize("target", ["out.png", "out.tif", "out.npy"])
def test_a_file_system_that_stops_half_way_leaves_what_was_there(here, target):
    """A real limit of the system on the size of a file, which every write path must meet and tell."""
    np.save("big.npy", rng().integers(0, 256, (400, 400), np.uint8))
    Path(target).write_bytes(b"kept")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    ran = subprocess.run(
        [*ENTRY, "filter", "big.npy", target, "-k", "box:3"], capture_output=True, text=True, preexec_fn=limit
    )
    assert (ran.returncode, ran.stderr) == (2, f"convengine: error: {target}: cannot be written: File too large\n")
    assert Path(target).read_bytes() == b"kept"
    assert leftovers(here) == []


@pytest.mark.parametrize("step", ["sync", "replace"])
def test_errors_in_the_last_steps_leave_what_was_there(here, monkeypatch, step):
    def fails(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(*((writing._Descriptor, "sync", fails) if step == "sync" else (Path, "replace", fails)))
    Path("out.png").write_bytes(b"kept")
    assert refused("filter", "grey.png", "out.png", "-k", "box:3") == "out.png: cannot be written: Input/output error"
    assert Path("out.png").read_bytes() == b"kept"
    assert leftovers(here) == []


def test_ctrl_c_stops_and_leaves_what_was_there(here):
    np.save("big.npy", np.ones((3000, 3000), np.float32))
    np.save("kernel.npy", np.random.default_rng(0).standard_normal((301, 301)).astype("f4"))  # minutes
    Path("out.npy").write_bytes(b"kept")
    command = [*ENTRY, "filter", "big.npy", "out.npy", "-k", "kernel.npy", "--backend", "cython", "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not leftovers(here) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        assert leftovers(here)
        time.sleep(0.3)  # into the arithmetic
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "convengine: interrupted\n")
    assert Path("out.npy").read_bytes() == b"kept"
    assert leftovers(here) == []


# Bands


@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize(("shape", "axis", "kernel"), [
    ((40,), None, (3,)), ((40, 9), None, (4, 3)), ((40, 9, 3), -1, (3, 2)), ((3, 40, 9), 0, (5, 4)),
    ((2, 40, 5, 4), None, (2, 3, 1)),
])  # fmt: skip
@pytest.mark.parametrize("op", ["corr", "conv"])
def test_bands_have_the_bits_of_the_whole(monkeypatch, op, shape, axis, kernel, mode, boundary):
    monkeypatch.setattr(bands, "BAND_PRODUCTS", 20)
    monkeypatch.setattr(bands, "LEAST_ROWS", 1)
    x = rng().standard_normal(shape).astype(np.float32)
    weights = rng().standard_normal(kernel)
    shares = []
    work = Work(op, weights, mode, boundary, 2.5, ("cython",), 1)
    got = work(x, axis, None, shares.append)
    how = {"mode": mode, "boundary": boundary, "fill_value": 2.5, "channel_axis": axis, "backend": "cython"}
    free = [i for i in range(len(shape)) if axis is None or i != axis % len(shape)]
    assert_array_equal(got, getattr(ce, f"{op}{len(kernel)}d")(x, weights, axes=free[-len(kernel) :], **how))
    assert len(shares) > 4
    assert sum(shares) == pytest.approx(1)


def test_a_backend_that_refuses_bands_does_the_whole(here, monkeypatch):
    """Within a band "same" is "valid" along the rows, which scipy does only along all axes."""
    x = rng().standard_normal((60, 40))
    np.save("x.npy", x)
    monkeypatch.setattr(bands, "BAND_PRODUCTS", x.size * 81 // 6)
    monkeypatch.setattr(bands, "LEAST_ROWS", 1)
    with pytest.raises(ce.NoBackend, match="scipy"):
        ce.corr2d(x, GAUSSIAN, padding=[(0, 0), (4, 4)], boundary="reflect", backend="scipy")
    done("filter", "x.npy", "y.npy", "-k", "gaussian:1", "--backend", "scipy")
    assert_array_equal(np.load("y.npy"), ce.corr2d(x, GAUSSIAN, backend="scipy", **HOW))
    shares = []
    Work("corr", GAUSSIAN, "same", "reflect", 0, ("scipy",), 1)(x, None, None, shares.append)
    assert shares == [1]


def test_a_refusal_names_the_whole_problem_not_a_band(here, monkeypatch):
    if ce.backends()["cupy"].usable:
        pytest.skip("this computer has a GPU")
    monkeypatch.setattr(bands, "BAND_PRODUCTS", 1000)
    monkeypatch.setattr(bands, "LEAST_ROWS", 2)
    text = refused("filter", "grey.png", "out.npy", "-k", "box:3", "--backend", "cupy")
    assert text.startswith("no backend can run forward corr2d (24, 31) * (3, 3) ")


def test_bands_of_integers_and_small_work(monkeypatch):
    work = Work("corr", np.ones((3, 3)), "same", "reflect", 0, None, None)
    shares = []
    whole = work(GREY, None, np.uint8, shares.append)
    assert shares == [1]
    monkeypatch.setattr(bands, "BAND_PRODUCTS", 1000)
    monkeypatch.setattr(bands, "LEAST_ROWS", 2)
    assert_array_equal(work(GREY, None, np.uint8, shares.append), whole)
    assert whole.dtype == np.uint8
    assert len(shares) > 3


# The demonstration


@pytest.mark.parametrize("file", ["camera.png", "astronaut.png"])
def test_the_photographs_are_in_the_installed_package(file):
    assert (resources.files("skimage") / "data" / file).is_file()


def test_demo_draws_and_tells(here):
    told = json.loads(done("demo", "--json"))
    from convengine.cli.figure import HEIGHT, WIDTH

    assert told["ok"] is True
    assert told["picture"] == "demo.png"
    with Image.open("demo.png") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (WIDTH, HEIGHT))
        samples = np.asarray(picture.convert("RGB")).astype(int)
    assert samples.std() > 40
    assert np.abs(samples[..., 0] - samples[..., 2]).max() > 100  # the second photograph is in colour
    usable = [name for name, info in ce.backends().items() if info.usable]
    answered = [line for line in told["lines"] if line["seconds"] is not None]
    assert {line["backend"] for line in told["lines"]} == set(usable)
    assert {line["operation"] for line in answered} == {
        "blur", "sharpen", "edge detector", "Sobel x", "Sobel y", "sharpen, RGB"
    }  # fmt: skip
    for line in answered:
        assert 0 <= line["error"] <= 1
        assert line["seconds"] > 0
        if line["operation"] == "edge detector":
            assert (line["bound"], line["error"], line["difference"] or 0) == ("exact", 0, 0)
    assert set(told["fastest"].values()) <= set(usable)
    assert leftovers(here) == []


def test_demo_prints_a_table(here, monkeypatch):
    from convengine.cli import demo

    monkeypatch.setattr(demo, "OPERATIONS", demo.OPERATIONS[1:3])
    monkeypatch.setattr(demo, "CALLS", 1)
    lines = done("demo", "--output", "picture.png", "--backend", "cython,fft").splitlines()
    assert lines[0].split("  ")[0] == "operation"
    assert lines[0].endswith("differs by")
    assert lines[1].startswith("sharpen        cython   direct, ")
    assert lines[-2].startswith("fastest: ")
    assert lines[-2].endswith("of 2 operations")
    assert lines[-1] == "picture: picture.png"
    assert Path("picture.png").is_file()


def test_demo_ends_with_1_when_an_answer_is_wrong(here, monkeypatch):
    from convengine.cli import demo

    true = ce.corr2d

    def wrong(x, kernel, *, backend=None, **how):
        y = true(x, kernel, backend=backend, **how)
        if backend == "fft":
            y[5, 5] += 1
        return y

    monkeypatch.setattr(demo, "OPERATIONS", demo.OPERATIONS[1:2])
    monkeypatch.setattr(ce, "corr2d", wrong)
    result = convengine("demo", "--backend", "cython,fft", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert [line["failed"] for line in told["lines"]] == [False, True]
    assert told["lines"][1]["fault"].startswith("WRONG: output (5, 5) must be ")
    assert told["fastest"] == {"sharpen": "cython"}


def test_demo_refuses(here):
    assert refused("demo", "--output", "demo.jpg") == "demo.jpg: the picture is a PNG; give a name that ends in .png"
    assert refused("demo", "--backend", "none").startswith("no backend is called 'none'; installed: ")
    assert refused("demo", "--output", "no/demo.png") == f"no/demo.png: there is no folder {here}/no"
