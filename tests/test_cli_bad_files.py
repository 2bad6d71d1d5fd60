"""Bad input to the command line is a clear error, and what was there stays."""

import errno
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce
from convengine.filters import named

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import (
    CLEAR,
    ENTRY,
    GREY,
    HOW,
    SIZE,
    convengine,
    done,
    kind_of,
    leftovers,
    load,
    npy_header,
    png,
    refused,
    rng,
    save,
)
from PIL import Image, PngImagePlugin
from tifffile import TiffFile, imread, imwrite

from convengine.cli import writing

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
