"""`convengine fit`: the kernels that it learns from files, what it prints and writes, and how it fails."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import COLOUR, GREY, RUNNER, application, done, refused
from PIL import Image
from tifffile import imwrite

KERNEL = np.array([[1.0, -2, 5], [0, 4, -1]])


def fitted(*arguments):
    """Run `convengine fit`, which must succeed; return what it printed."""
    return done("fit", *arguments)


@pytest.fixture(autouse=True)
def edges(here):
    """What one of the pictures becomes."""
    imwrite("edges.tif", ce.corr2d(GREY, [[1, -1]]).astype(np.float32))


def test_the_books_kernel_is_found_between_two_pictures():
    lines = fitted("grey.png", "edges.tif", "--kernel-size", "1x2").splitlines()
    assert lines[0] == "kernel  [[1.0, -1.0]]"
    assert lines[1].startswith("rms     ")
    assert float(lines[1].split()[1]) < 1e-10
    assert len(lines) == 2


@pytest.mark.parametrize("op", ["corr", "conv"])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
def test_the_mode_is_what_the_sizes_say_and_the_kernel_serves_filter(op, mode):
    y = getattr(ce, f"{op}2d")(GREY, KERNEL, mode=mode, boundary="reflect")
    np.save("y.npy", y)
    answer = json.loads(fitted("grey.png", "y.npy", "--kernel-size", "2x3", "--op", op, "--save", "k.npy", "--json"))
    assert (answer["mode"], answer["op"], answer["rank"], answer["bias"]) == (mode, op, 6, 0)
    saved = np.load("k.npy")
    assert_array_equal(saved, answer["kernel"])
    assert np.abs(saved - KERNEL).max() < 1e-10
    again = ["grey.png", "z.npy", "--kernel", "k.npy", "--dtype", "int32", "--op", op, "--mode", mode]
    assert RUNNER.invoke(application, ["filter", *again]).exit_code == 0
    assert_array_equal(np.load("z.npy"), y)


def test_an_array_of_colours_is_read_as_filter_writes_it():
    done("filter", "colour.png", "y.npy", "--kernel", "[[1,2],[3,4]]", "--dtype", "int32")
    answer = json.loads(fitted("colour.png", "y.npy", "--kernel-size", "2x2", "--channel-axis", "-1", "--json"))
    assert np.abs(np.array(answer["kernel"]) - [[1, 2], [3, 4]]).max() < 1e-10
    assert "say --channel-axis -1" in refused("fit", "colour.png", "y.npy", "--kernel-size", "2x2")


def test_colours_have_one_kernel():
    y = ce.corr2d(COLOUR, KERNEL, mode="same", boundary="wrap", channel_axis=-1, bias=9).astype(np.float32)
    imwrite("y.tif", y, photometric="rgb")
    answer = json.loads(fitted("colour.png", "y.tif", "--kernel-size", "2x3", "--boundary", "wrap", "--bias", "--json"))
    assert np.abs(np.array(answer["kernel"]) - KERNEL).max() < 1e-10
    assert abs(answer["bias"] - 9) < 1e-9
    assert len(answer["losses"]) == 1
    last = fitted("colour.png", "y.tif", "--kernel-size", "2x3", "--boundary", "wrap", "--bias").splitlines()
    assert (last[0], last[1]) == ("kernel  [[1.0, -2.0, 5.0], [0.0, 4.0, -1.0]]", "bias    9")


def test_arrays_of_any_rank():
    rng = np.random.default_rng(0)
    for shape, size, axis in (
        ((50,), "3", None),
        ((4, 50), "3", None),
        ((5, 6, 7), "2x2x2", None),
        ((9, 10, 3), "2x2", -1),
    ):
        widths = [int(width) for width in size.split("x")]
        kernel, x = rng.standard_normal(widths), rng.standard_normal(shape)
        said = {"channel_axis": axis} if axis else {"axes": tuple(range(-len(widths), 0))}
        np.save("x.npy", x)
        np.save("y.npy", getattr(ce, f"corr{len(widths)}d")(x, kernel, **said))
        more = ["--channel-axis", axis] if axis else []
        answer = json.loads(fitted("x.npy", "y.npy", "--kernel-size", size, "--json", *more))
        assert np.abs(answer["kernel"] - kernel).max() < 1e-10


def test_descent_prints_its_trace_and_starts_where_the_seed_says():
    np.save("x.npy", x := np.pad(np.zeros((6, 4)), ((0, 0), (2, 2)), constant_values=1))
    np.save("y.npy", y := x[:, :-1] - x[:, 1:])
    said = ["x.npy", "y.npy", "--kernel-size", "1x2", "--method", "gradient", "--lr", "0.03"]
    lines = fitted(*said).splitlines()
    fit = ce.nn.fit_kernel(x, y, (1, 2), lr=0.03, rng=0)
    assert "\n".join(lines[:5]) == fit.trace()
    assert [line.split()[0] for line in lines[5:]] == ["kernel", "rms"]
    assert fitted(*said) == fitted(*said, "--seed", "0", "--epochs", "10") != fitted(*said, "--seed", "1")
    answer = json.loads(fitted(*said, "--epochs", "30", "--json"))
    assert len(answer["losses"]) == 30
    assert (answer["method"], answer["rank"]) == ("gradient", None)


def test_what_the_picture_does_not_determine_is_told():
    Image.fromarray(np.full((9, 9), 10, np.uint8)).save("flat.png")
    np.save("y.npy", np.full((9, 8), 30.0))
    lines = fitted("flat.png", "y.npy", "--kernel-size", "1x2").splitlines()
    assert lines[0] == "kernel  [[1.5, 1.5]]"
    assert lines[2] == "note    IN determines 1 of 2 numbers; this is the smallest kernel of the best"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("grey.png edges.tif", "Missing option '--kernel-size'"),
        ("grey.png edges.tif --kernel-size 1x0", "needed are 1 to 3 sizes such as 1x2; got '1x0'"),
        ("grey.png edges.tif --kernel-size 1x2x3x4", "needed are 1 to 3 sizes such as 1x2; got '1x2x3x4'"),
        ("grey.png edges.tif --kernel-size 99999x99999", "at most 16777216 taps; got shape (99999, 99999)"),
        ("grey.png edges.tif --kernel-size 2", "grey.png: a picture takes a kernel of 2 axes; got --kernel-size of 1"),
        ("grey.png edges.tif --kernel-size 3x3", "does not have the size of a result: needed is (24, 31) (same)"),
        ("grey.png edges.tif --kernel-size 1x2 --mode same", "y must have shape (24, 31)"),
        ("grey.png colour.png --kernel-size 1x2", "(24, 30) (valid), (24, 32) (full), colours first; got (3, 24, 31)"),
        ("grey.png none.tif --kernel-size 1x2", "none.tif: no such file"),
        ("grey.png edges.tif --kernel-size 1x2 --lr 1", "--lr needs --method gradient"),
        ("grey.png edges.tif --kernel-size 1x2 --method gradient --lr 1 --epochs 900", "lr=1 is too large for this x"),
        ("grey.png edges.tif --kernel-size 1x2 --save k.png", "k.png: a kernel is saved as .npy"),
        ("grey.png edges.tif --kernel-size 1x2 --save no/k.npy", "there is no folder"),
        ("nan.npy grey.png --kernel-size 1x2 --save nan.npy", "nan.npy: is an input itself; save the kernel to"),
        ("grey.png nan.npy --kernel-size 1x2 --save ./nan.npy", "nan.npy: is an input itself"),
        ("grey.png edges.tif --kernel-size 1x2 --channel-axis 0", "--channel-axis is for .npy files"),
        ("grey.png pages.tif --kernel-size 1x2", "pages.tif: has 2 pages; needed is one picture"),
        ("nan.npy nan.npy --kernel-size 1x1", "x must hold finite numbers to learn from; got nan at (0, 0)"),
        ("nan.npy nan.npy --kernel-size 1x1x1", "nan.npy: has shape (3, 3), too few axes for a kernel of 3"),
    ],
)  # fmt: skip
def test_errors_are_one_line(arguments, words):
    imwrite("pages.tif", np.zeros((2, 9, 9), np.float32), photometric="minisblack")
    np.save("nan.npy", np.full((3, 3), np.nan))
    assert words in refused("fit", *arguments.split())
    assert not list(Path().glob("k.*"))


def test_a_kernel_is_saved_whole_or_not_at_all(here, monkeypatch):
    np.save("k.npy", KERNEL)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convengine.cli.fit.write_npy", full)
    assert "k.npy: cannot be written: No space left" in refused(
        "fit", "grey.png", "edges.tif", "--kernel-size", "1x2", "--save", "k.npy"
    )
    assert_array_equal(np.load("k.npy"), KERNEL)
    assert not [path for path in here.iterdir() if path.suffix == ".tmp"]


def test_other_commands_do_not_load_the_layers():
    code = "import sys, convengine.cli.application; print('convengine.nn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
