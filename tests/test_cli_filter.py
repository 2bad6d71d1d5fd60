"""`convengine filter`: what it writes for files of each kind, signed results and scales, and filtering by bands."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce
from convengine.cli import bands
from convengine.filters import named

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import (
    COLOUR,
    DEEP,
    GAUSSIAN,
    GREY,
    HOW,
    SIZE,
    done,
    kind_of,
    leftovers,
    load,
    refused,
    rng,
    save,
)
from PIL import Image
from tifffile import imread, imwrite

from convengine.cli.bands import Work
from convengine.cli.scaling import is_signed, scaled

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
