"""The command line: its entry point, what the commands print, how it fails."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import tables
from convengine.filters import named

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import (
    COLOUR,
    ENTRY,
    GAUSSIAN,
    GREY,
    HOW,
    RUNNER,
    convengine,
    done,
    leftovers,
    load,
    refused,
)
from tifffile import imwrite

from convengine.cli.application import application

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


def test_doctor_says_what_a_report_needs():
    told = done("doctor")
    assert told.startswith(f"convengine {ce.__version__}\nPython ")
    for part in (f"\nexecutable {sys.executable}\n", f"numpy {np.__version__}, ", "\nself-check: right, ", "\ncython "):
        assert part in told
    found = json.loads(done("doctor", "--json"))
    assert (found["check"]["ok"], found["backends"]["cython"]["usable"]) == (True, True)
    assert found["packages"]["numpy"] == np.__version__


def test_doctor_ends_with_1_when_an_answer_is_wrong(monkeypatch):
    from convengine.crosscheck import BackendReport, CrosscheckReport

    wrong = CrosscheckReport((BackendReport("cython", cases=1, failures={"a case": "planted"}),))
    monkeypatch.setattr(sys.modules["convengine.crosscheck"], "crosscheck", lambda **_: wrong)
    result = convengine("doctor")
    assert result.exit_code == 1
    assert "self-check: WRONG" in result.stdout
    assert "failed: planted" in result.stdout
    assert convengine("doctor", "--json").exit_code == 1
