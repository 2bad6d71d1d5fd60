"""The files that the command line reads and writes: opacity, palettes, profiles, 16-bit colour, pages."""

import importlib.util
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import (
    CLEAR,
    COLOUR,
    DEEP,
    GAUSSIAN,
    GREY,
    HOW,
    SIZE,
    done,
    kind_of,
    load,
    load_deep,
    photometric,
    refused,
    rng,
    save_deep,
)
from PIL import Image, ImageCms
from tifffile import TiffFile, imread, imwrite

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
