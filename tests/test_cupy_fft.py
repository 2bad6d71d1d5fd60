"""The tiles of the backend cupy that are transformed, on the host: kernels/fft.cu runs as C++, threads as fibres.

As in test_cupy_kernels.py, what a GPU makes of the text is not seen here. Each tile is held to the bound of its own
norm.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convengine_cupy import direct, fft, fft_tiles
from convengine_cupy.fft_tiles import Tiles
from cuda_on_host import Library, Wanted, replacing
from device_arrays import (
    XP,
    Array,
    as_user,
    bound_holds,
    canonical,
    facts_of,
    nothing_waits,
    on_device,
    problems,
    reading_of,
)

from convengine.boundary import Boundary
from convengine.fft_error import pair_error_factor
from convengine.plugin import Declined
from convengine.reading import Reading
from convengine.testing.bounds import normwise
from convengine.testing.cases import Case
from convengine.testing.oracle import Reference, pad, reference

SMALL = (32, 32)
Made = tuple[Case, Reading, tuple[int, int]]  # with rows and columns of the transform


def made(name: str, x: Array, kernel: Array, shape: tuple[int, int] = SMALL, **keywords: Any) -> Made:
    case = Case(f"{name}-{x.dtype}-{kernel.shape}", f"corr{kernel.ndim}d", x, kernel, keywords)
    return case, reading_of(*case[1:4], **keywords), shape


@cache
def large() -> dict[str, Made]:
    """Filters of several tiles, by name: all borders, sizes of tiles, dtypes, strides, and what is not finite."""
    return {entry[0].id: entry for entry in large_cases()}


def large_cases() -> Iterator[Made]:
    rng = np.random.default_rng(5)

    def normal(*shape: int, dtype: Any = np.float32) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    for boundary in Boundary:
        keywords = {"mode": "same", "boundary": boundary, "fill_value": 0.5 * (boundary == "constant")}
        yield made(boundary, normal(60, 75), normal(11, 14), **keywords)
        yield made(f"{boundary} signal", normal(3, 1900), normal(200), **keywords)
        yield made(f"{boundary}, longer", normal(5, 7), normal(9, 9), padding=37, boundary=boundary)
    for shape in ((64, 64), (128, 128)):
        yield made(f"tile {shape}", normal(150, 140), normal(21, 33), shape, mode="same", boundary="wrap")
    yield made("tile 64 double", normal(70, 90, dtype="f8"), normal(21, 33, dtype="f8"), (64, 64), mode="full")
    for shape in fft_tiles.SHAPES[1][1:]:
        x = normal(2, 4000 * shape[1] // 64)
        yield made(f"signal {shape}", x, normal(700), shape, boundary="edge", mode="same")
    yield made("signal double", normal(5000, dtype="f8"), normal(1500, dtype="f8"), (32, 64), mode="full", bias=1.5)
    for dtype in (np.float16, np.uint8, np.bool_):
        x = (normal(40, 45) * 50).astype(dtype)
        yield made("dtypes", x, normal(6, 7), padding=((2, 3), (4, 1)), boundary=("wrap", "symmetric"), bias=3)
        yield made("wide", x, normal(6, 7, dtype="f8"), dtype="float16")
    x = normal(2, 3, 45, 50)
    yield made("batch", x, normal(7, 5), mode="full", boundary="reflect")
    yield made("dilated", x[0], normal(4, 3), dilation=(4, 9), mode="same", boundary="edge")
    yield made("stepped", x[0], normal(8, 9), stride=(2, 3), mode="same")
    yield made("stepped widely", x[0], normal(8, 9), stride=(40, 47), mode="same")
    yield made("stepped signal", x[0], normal(40), stride=7, mode="same")
    yield made("colours", np.moveaxis(x, 1, -1).copy(), normal(3, 5), channel_axis=-1, mode="same", boundary="wrap")
    yield made("down", np.moveaxis(x, -1, 1)[:, :, :20].copy(), normal(9), axes=1, mode="same", bias=0.5)
    yield made("reversed", x[:, :, ::-1, ::-2], normal(9, 9), mode="same")
    yield made("broadcast", np.broadcast_to(x[:, :1], x.shape), normal(9, 9), mode="same")
    yield made("wider than x", normal(4, 6), normal(20, 25), mode="same", boundary="reflect")
    yield made("as wide as a tile", normal(40, 36), normal(32, 32))
    yield made("nothing beside a border", normal(0, 3), normal(5, 5), padding=6, fill_value=2.0)
    strewn = np.zeros((2,) * 10 + (3, 40), np.float32)[(slice(None, 1),) * 2 + (slice(None, None, -1),) * 8]
    strewn[...] = normal(*strewn.shape)
    yield made(
        "strewn", np.broadcast_to(strewn[:, :, 0], (2, 2, *strewn.shape[3:]))[..., ::-1], normal(2, 2), mode="same"
    )
    ranges = normal(70, 75)
    ranges[:25] *= np.float32(1e30)
    ranges[25:50, 30:] *= np.float32(1e-30)
    ranges[50:] = ranges[:33, 24:56] = 0
    yield made("ranges", ranges, normal(8, 9) * np.float32(1e-5))
    yield made("tiny", normal(40, 45) * np.float32(1e-36), normal(8, 9) * np.float32(1e20))
    yield made("subnormal", normal(40, 45) * np.float32(1e-42), normal(8, 9) * np.float32(1e20))
    peak = normal(60, 75)
    peak[0, 18] = 1e36  # of the first tile, not of its partner
    yield made("a peak", peak, normal(11, 14))
    yield made("huge", normal(40, 45, dtype="f8") * 1e300, normal(8, 9, dtype="f8") * 1e-290, bias=1e9)
    broken = normal(2, 70, 75)
    broken[0, 3, 4], broken[0, 30, 31], broken[0, 33, 31], broken[0, -1, -1] = np.nan, np.inf, -np.inf, -np.inf
    for boundary in Boundary:
        yield made(
            f"broken {boundary}", broken, np.where(normal(8, 9) > 0, normal(8, 9), 0), boundary=boundary, mode="same"
        )
    yield made("broken signal", broken[0].reshape(-1), normal(90), mode="same", boundary="wrap", stride=3, dilation=2)
    yield made("an infinite border", broken[1], normal(8, 9), mode="same", fill_value=np.inf, bias=0.5)


@cache
def expected_of(name: str) -> Reference:
    case, *_ = large()[name]
    return reference(*case[1:4], **case.keywords)


@cache
def suited() -> tuple[tuple[Case, Reading, Reference], ...]:
    return tuple(entry for entry in problems() if not fft_tiles.refusal(entry[1].problem) and facts_of(entry[1]).finite)


def run(entry: Made, load: Any, **keywords: Any) -> Array:
    case, reading, shape = entry
    problem = reading.problem
    tiles = Tiles.of(problem, shape)
    ready = fft.prepare(problem, reading.kernel, reading.bias, load, XP, tiles)
    out = XP.zeros(problem.out_shape, problem.out_dtype)
    with np.errstate(all="ignore"):  # what `finish` makes of infinite sums
        assert ready(canonical(reading, case.x), out) is out
    return as_user(reading, out)


def own_bound(entry: Made, expected: Reference) -> Array:
    """The bound of every output by the norm of its own tile."""
    case, reading, shape = entry
    problem = reading.problem
    tiles = Tiles.of(problem, shape)
    samples = canonical(reading, case.x).view(np.ndarray).astype(np.longdouble)
    padded = pad(samples, problem.pads, problem.boundary, problem.fill_value)
    padded = np.where(np.isfinite(padded), padded, 0)
    norms = np.zeros(problem.out_shape, np.longdouble)
    axes = tuple(range(-problem.ndim, 0))
    for index in np.ndindex(*tiles.counts):
        starts = [i * n for i, n in zip(index, tiles.outputs, strict=True)]
        reads = zip(starts, tiles.outputs, fft_tiles.widths(problem), strict=True)
        part: Any = (..., *(slice(start, start + n - 1 + width) for start, n, width in reads))
        writes = zip(starts, tiles.outputs, problem.stride, strict=True)
        target: Any = (..., *(slice(-(-start // step), -(-(start + n) // step)) for start, n, step in writes))
        norms[target] = np.sqrt(np.square(padded[part]).sum(axis=axes, keepdims=True))
    factor = pair_error_factor(tiles.size, problem.sum_dtype)
    own = replace(expected, norm_x=norms.transpose(np.argsort(reading.out_axes)))
    return normwise(own, factor)


def hold(entry: Made, load: Any, expected: Reference) -> None:
    bound_holds(entry[0].id, run(entry, load), expected, own_bound(entry, expected))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    wanted = Wanted()
    for case, reading, _ in suited():
        run((case, reading, SMALL), wanted.load)
    for entry in large().values():
        run(entry, wanted.load)
    return Library(wanted.variants, tmp_path_factory.mktemp("fft"))


# ---- answers


def test_every_answer_lies_within_its_bound(library: Library) -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in suited():
        hold((case, reading, SMALL), library.load, expected)
        problem = reading.problem
        seen.update(["all", problem.ndim, *problem.boundary])
    assert seen["all"] >= 100
    assert all(seen[trait] >= 10 for trait in (1, 2, *Boundary))


@pytest.mark.parametrize("name", large())
def test_large_answers_lie_within_their_bounds(library: Library, name: str) -> None:
    hold(large()[name], library.load, expected_of(name))


# ---- what the definition says of batches, steps, results, NaN and infinity


def test_the_batch_changes_no_bit(library: Library) -> None:
    entry = large()["batch-float32-(7, 5)"]
    together = run(entry, library.load)
    for number in range(2):
        case = entry[0]._replace(x=entry[0].x[number : number + 1, ::-1])
        got = run((case, reading_of(*case[1:4], **case.keywords), SMALL), library.load)
        assert got[:, ::-1].tobytes() == together[number : number + 1].tobytes()


@pytest.mark.parametrize("name", [name for name in large() if name.startswith("stepped")])
def test_a_step_takes_every_so_many_of_the_same_outputs(library: Library, name: str) -> None:
    case, _, shape = large()[name]
    whole = case._replace(keywords={**case.keywords, "stride": 1})
    steps = case.keywords["stride"]
    steps = steps if isinstance(steps, tuple) else (steps,)
    expected = run((whole, reading_of(*whole[1:4], **whole.keywords), shape), library.load)
    expected = expected[(..., *(slice(None, None, step) for step in steps))]
    assert run(large()[name], library.load).tobytes() == expected.tobytes()


def test_nan_and_infinity_reach_the_outputs_of_the_definition(library: Library) -> None:
    x, kernel = np.ones((70, 75), np.float32), np.zeros((9, 7), np.float32)
    kernel[4, 3] = 1
    x[20, 20], x[40, 60], x[60, 5] = np.inf, np.nan, -np.inf
    entry = made("", x, kernel, mode="same")
    expected = np.ones_like(x)
    for y, at in ((20, 20), (40, 60), (60, 5)):
        expected[y - 4 : y + 5, max(at - 3, 0) : at + 4] = np.nan  # 0 * infinity
    got = run(entry, library.load)
    expected[20, 20], expected[60, 5] = np.inf, -np.inf
    whole = np.isfinite(expected)
    np.testing.assert_array_equal(got[~whole], expected[~whole])
    assert np.abs(got[whole] - 1).max() < 1e-5
    entry = made("", x, kernel + 1, mode="same")
    got = run(entry, library.load)
    assert np.isposinf(got[16:25, 17:24]).all() and np.isneginf(got[56:65, 2:9]).all() and np.isnan(got[40, 60])


def test_results_of_what_is_not_negative_are_not(library: Library) -> None:
    x, kernel = np.zeros((60, 75), np.float32), np.abs(np.random.default_rng(0).standard_normal((11, 14), np.float32))
    x[::7, ::9] = 1
    x[0, 40] = np.nan  # is no negative sample
    kernel[3:] = 0
    got = run(made("", x, kernel, mode="same"), library.load)
    assert np.nanmin(got) == 0
    x[50, 70] = -1e-3  # its tile alone may have small negative errors
    got = run(made("", x, kernel, mode="same"), library.load)
    assert np.nanmin(got) < 0 and np.nanmin(got[:20, :16]) == 0


def test_out_may_be_strided_and_may_overlap_x(library: Library) -> None:
    entry = large()["edge-float32-(11, 14)"]
    case, reading, shape = entry
    problem, expected = reading.problem, run(entry, library.load)
    ready = fft.prepare(problem, reading.kernel, None, library.load, XP, Tiles.of(problem, shape))
    for steps in ((-1, 1), (2, 1), (-2, -3)):
        room = on_device(np.full((120, 225), -1, np.float32))
        out = room[:: steps[0], :: steps[1]][:60, :75]
        assert ready(on_device(case.x), out) is out
        np.testing.assert_array_equal(out.view(np.ndarray), expected)
        assert (room == -1).sum() == room.size - out.size
    x = on_device(case.x.copy())
    ready(x, x[::-1])
    np.testing.assert_array_equal(x[::-1].view(np.ndarray), expected)


def test_a_call_waits_for_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    done = 0
    for case, reading, shape in list(large().values())[::3]:
        if direct.writes_results(reading.problem):
            tiles = Tiles.of(reading.problem, shape)
            ready = fft.prepare(reading.problem, reading.kernel, reading.bias, library.load, XP, tiles)
            x = canonical(reading, case.x)
            with monkeypatch.context() as patch:
                nothing_waits(patch)
                ready(x)
            done += 1
    assert done >= 14


def test_nothing_is_launched_for_no_results() -> None:
    wanted = Wanted()
    for shape, kernel in (((0, 3, 40, 40), (5, 5)), ((0, 40), (1, 5))):
        entry = made("", np.ones(shape, np.float32), np.ones(kernel, np.float32))
        assert run(entry, wanted.load).size == 0
    assert not wanted.variants


# ---- what is prepared, and what is offered


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [*fft_tiles.SHAPES[2], *fft_tiles.SHAPES[1]])
def test_spectra_are_rounded_once(shape: tuple[int, int], dtype: str) -> None:
    rng = np.random.default_rng(0)
    for lengths in (shape, (shape[0] * shape[1],)):
        kernel = rng.standard_normal(lengths).astype(dtype)
        got = fft.spectrum(kernel.astype(np.longdouble), shape)
        expected = np.fft.fftn(kernel.astype("f8")).conj()
        if len(lengths) == 2:
            rows, columns = (fft.order(n) for n in shape)
            expected = expected[np.ix_(rows, columns)]
        else:
            expected = expected[(fft.order(shape[0])[:, None] + shape[0] * fft.order(shape[1]))]
        norm = np.linalg.norm(expected)
        assert np.linalg.norm(got - expected) < 4e-16 * norm * np.log2(kernel.size)
        table = fft.tables(kernel.ravel(), kernel.astype(np.longdouble), shape)
        first = table[: 2 * kernel.size].reshape(*shape[::-1], 2).swapaxes(0, 1)
        assert (first[..., 0] == got.real.astype(dtype)).all() and (first[..., 1] == got.imag.astype(dtype)).all()
        assert (table[-kernel.size :] == kernel.ravel()).all()


def offered(x: Any, kernel: Any, shared: int = 227 << 10, **keywords: Any) -> list[Any]:
    reading = reading_of(f"corr{np.ndim(kernel)}d", x, kernel, **keywords)
    return fft_tiles.offers(reading.problem, facts_of(reading), shared)


def test_offers_name_the_tile_its_error_and_its_memory() -> None:
    x, kernel = np.ones((3, 1000, 1000), np.float32), np.ones((21, 33), np.float32)
    (offer,) = offered(x, kernel)
    assert offer.method == "fft tile 64x64" and offer.normwise and 0 < offer.seconds < 1e-2
    assert offer.error == pair_error_factor(4096, np.dtype("f4"))
    reading = reading_of("corr2d", x, kernel)
    tiles = Tiles.of(reading.problem, (64, 64))
    ready = fft.prepare(reading.problem, reading.kernel, None, Wanted().load, XP, tiles)
    assert ready.taps.nbytes <= offer.memory < 1.1 * ready.taps.nbytes
    assert offered(x, kernel, dtype="int16")[0].memory > 6 * 4 * 3 * 980 * 968
    assert offered(x, np.ones((90, 70), np.float32))[0].method == "fft tile 128x128"
    assert offered(x, np.ones((3, 70), np.float32), shared=64 << 10) == []
    assert offered(x, np.ones((3, 64), np.float32), shared=48 << 10)[0].method == "fft tile 64x64"
    assert offered(x[0].ravel(), np.ones(9000, np.float32))[0].method == "fft tile 16384"
    assert offered(x[0].ravel(), np.ones(5000))[0].method == "fft tile 8192"


def test_tiles_follow_from_one_image() -> None:
    for kernel in (np.ones((21, 33), np.float32), np.ones(300, np.float32)):
        x = np.ones((100, 100), np.float32)
        (one,), (many,) = offered(x, kernel[..., :90]), offered(np.broadcast_to(x, (50, 100, 100)), kernel[..., :90])
        assert one.method == many.method
        assert one.method == offered(x, kernel[..., :90], stride=7)[0].method


@pytest.mark.parametrize(
    ("x", "kernel", "keywords"),
    [
        (np.ones((3, 40, 40), np.float32), np.ones((2, 3, 5, 5), np.float32), {}),
        (np.ones((40, 40), np.complex64), np.ones((5, 5), np.float32), {}),
        (np.ones((40, 40), np.uint8), np.ones((5, 5), np.uint8), {}),
        (np.ones((9, 9, 9), np.float32), np.ones((3, 3, 3), np.float32), {}),
        (np.ones((40, 40), np.float32), np.full((5, 5), np.inf, np.float32), {}),
        (np.ones((400, 400), np.float32), np.ones((129, 5), np.float32), {}),
        (np.ones((400, 400), np.float32), np.ones((44, 5), np.float32), {"dilation": 3}),
        (np.broadcast_to(np.float32(1), (2**30, 5)), np.ones((5, 5), np.float32), {}),
        (np.broadcast_to(np.float32(1), (2**32, 5, 5)), np.ones((5, 5), np.float32), {}),
    ],
)
def test_what_tiles_cannot_do_is_not_offered(x: Array, kernel: Array, keywords: dict[str, Any]) -> None:
    reading = reading_of(f"corr{min(kernel.ndim, 3) - (kernel.ndim == 4)}d", x, kernel, **keywords)
    assert fft_tiles.offers(reading.problem, facts_of(reading), 1 << 20) == []


def test_a_kernel_that_is_not_finite_is_declined() -> None:
    reading = reading_of("corr2d", np.ones((40, 40), np.float32), np.ones((5, 5), np.float32))
    for value in (np.nan, np.inf):
        reading.kernel[2, 2] = value
        with pytest.raises(Declined, match="NaN or infinity"):
            fft.prepare(reading.problem, reading.kernel, None, Wanted().load, XP, Tiles.of(reading.problem, SMALL))


# ---- bugs that are planted


BUGS = {
    "a root that turns the wrong way": (
        "times<false>(v[q], load_complex(roots",
        "times<true>(v[q], load_complex(roots",
    ),
    "the root beside the right one": (
        "roots + j * (RADIX - 1) + q));\n            put",
        "roots + j * (RADIX - 1) + 1));\n            put",
    ),
    "roots of another stage": ("tables.roots[AXIS] + roots_before(AXIS, STAGE) - 1", "tables.roots[AXIS] - 1"),
    "roots of the other axis": ("tables.roots[AXIS] + roots", "tables.roots[1 - AXIS] + roots"),
    "no conjugate on the way back": (
        "if (INVERSE && SPAN > 1 && q > 0) v[q] = times<true>",
        "if (INVERSE && SPAN > 1 && q > 0) v[q] = times<false>",
    ),
    "no bends": ("constexpr bool BENT = SIGNAL &&", "constexpr bool BENT = false &&"),
    "bends of another row": (
        "tables.bends + row * ALONG + column));\n            if (!INVERSE && SPAN",
        "tables.bends + row * DOWN + column));\n            if (!INVERSE && SPAN",
    ),
    "a quarter that turns one way only": (
        "INVERSE ? Complex{-a.im, a.re} : Complex{a.im, -a.re}",
        "Complex{a.im, -a.re}",
    ),
    "an eighth that is no rotation": (
        "(a.re - a.im) * half, (a.im + a.re) * half",
        "(a.re - a.im) * half, (a.im - a.re) * half",
    ),
    "a spectrum row by row": (
        "tables.spectrum + (first + q) * DOWN + row",
        "tables.spectrum + row * ALONG + first + q",
    ),
    "no scale of its own": (
        "energy = of_all<true>(energy, partial);",
        "exponents[0] = exponents[1] = max(exponents[0], exponents[1]);\n    energy = {S(1), S(1)};",
    ),
    "scales that are swapped": (
        "{scales[0](value.re), scales[1](value.im)}",
        "{scales[1](value.re), scales[0](value.im)}",
    ),
    "energy that is not looked at": (
        "exponents[1] += (exponent_of(energy.im) - 1) >> 1;",
        "exponents[1] += (exponent_of(energy.im) - 1) >> 1; exponents[0] = 0;",
    ),
    "the kernel's exponent forgotten": ("limited(exponents[1] + given.exponent)", "limited(exponents[1])"),
    "one factor for a power of two": (
        ": first(ldexp(S(1), exponent / 2)), second(ldexp(S(1), exponent - exponent / 2))",
        ": first(ldexp(S(1), exponent)), second(1)",
    ),
    "a partner's errors in a tile of zeros": ("zero[number] ? S(0) :", "false ? S(0) :"),
    "tiles that overlap by one sample more": (
        "down * given.outputs[0], across * given.outputs[1]",
        "down * given.outputs[0], across * (given.outputs[1] - 1)",
    ),
    "tiles that read too little": (
        "tile.columns = tile.width - 1 + given.widths[1]",
        "tile.columns = tile.width - 2 + given.widths[1]",
    ),
    "samples of the second tile in the first": (
        "sample_at(given, image, tiles[0], row, column), 0)",
        "sample_at(given, image, tiles[1], row, column), 0)",
    ),
    "a border sample in the place of the fill value": (
        "if (row < 0 || column < 0) return widened<S>(given.fill)",
        "if (row < 0 || column < 0) return widened<S>(X())",
    ),
    "a signal that starts too early": (
        "column += tile.x - static_cast<int>(task.before[2]);",
        "column += tile.x - static_cast<int>(task.before[2]) - 1;",
    ),
    "no repair": ("if (broken[number] && sum_at", "if (false && sum_at"),
    "a repair without the fill value": ("at * task.x_stride[2]) : given.fill)", "at * task.x_stride[2]) : X())"),
    "NaN that is smeared": ("flags[tile] = 1;\n        return 0;", "flags[tile] = 1;\n        return value;"),
    "no bias": ("static_cast<S>(sum + given.bias)", "sum"),
    "a step forgotten": ("row % given.step[0] || column % given.step[1]", "row % given.step[0]"),
    "no step between rows": ("row / given.step[0] * task.out_stride[1]", "row * task.out_stride[1]"),
    "outputs that are wrapped around": (
        "if (row >= tile.height || column >= tile.width) return;",
        "if (row >= tile.height) return;",
    ),
    "no barrier between stages": (
        "plane[row * LINE + column] = value; });\n        __syncthreads();\n        forward",
        "plane[row * LINE + column] = value; });\n        forward",
    ),
    "no barrier after the product": (
        "plane[row * LINE + first + q] = v[q];\n    }\n    __syncthreads();",
        "plane[row * LINE + first + q] = v[q];\n    }",
    ),
    "no barrier before the partial sums": (
        "partial[threadIdx.x] = mine;\n    __syncthreads();\n    if",
        "partial[threadIdx.x] = mine;\n    if",
    ),
    "partial sums that miss some": ("int i = threadIdx.x + GROUPS;", "int i = threadIdx.x + 2 * GROUPS;"),
    "signals that are all the first": ("image += number % signals * task.x_stride[1];", ""),
    "images that are all the first": (
        "find_image(task, number, &image, &result)",
        "find_image(task, 0u, &image, &result)",
    ),
}
TELLING = (
    "constant-float32-(11, 14)",
    "signal (64, 128)-float32-(700,)",
    "batch-float32-(7, 5)",
    "stepped-float32-(8, 9)",
    "ranges-float32-(8, 9)",
    "subnormal-float32-(8, 9)",
    "a peak-float32-(11, 14)",
    "broken constant-float32-(8, 9)",
    "an infinite border-float32-(8, 9)",
)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug: str, tmp_path: Path) -> None:
    asked = Wanted()
    for name in TELLING:
        run(large()[name], asked.load)
    library = Library(asked.variants, tmp_path, replacing(*BUGS[bug]))
    with pytest.raises(AssertionError):
        for name in TELLING:
            hold(large()[name], library.load, expected_of(name))
