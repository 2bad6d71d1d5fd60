"""What tests of the command line share: how it is run, small pictures, and how files are written and read."""

import inspect
import io
import struct
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convengine.filters import named

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
import png as pypng
from click.testing import CliRunner
from PIL import Image
from tifffile import TiffFile, imread, imwrite

from convengine.cli.application import application

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


def save_pictures():
    """Write a few pictures into the working folder: what the fixture `here` holds."""
    Image.fromarray(GREY).save("grey.png")
    Image.fromarray(COLOUR).save("colour.png")
    Image.fromarray(CLEAR).save("clear.png")
    np.save("array.npy", GREY.astype(np.float32))


def leftovers(folder):
    """Temporary files that were not removed."""
    return [path.name for path in Path(folder).iterdir() if path.name.startswith(".") or path.suffix == ".tmp"]


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


def photometric(name):
    with TiffFile(name) as tiff:
        return int(tiff.pages[0].photometric)


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
