"""The CUDA kernel for layers of the backend cupy, on the host: every tile and dtype runs, as C++ (see cuda_on_host.h).

What a GPU makes of the text is not seen here: see test_cupy_gpu.py.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convengine_cupy import layers
from convengine_cupy.variants import Tile, Variant
from cuda_on_host import Library, Wanted, replacing
from device_arrays import XP, Array, as_user, bound_holds, canonical, nothing_waits, on_device, problems, reading_of

from convengine.boundary import Boundary
from convengine.reading import Reading
from convengine.testing.cases import Case
from convengine.testing.oracle import Reference, reference

Entry = tuple[Case, Reading, Reference]


def entry_of(case: Case) -> Entry:
    return case, reading_of(*case[1:4], **case.keywords), reference(*case[1:4], **case.keywords)


def larger_cases() -> Iterator[Case]:
    """Layers of several tiles and several chunks: strides, borders, dtypes, channels last."""
    rng = np.random.default_rng(5)

    def case(name: str, x: Array, k_shape: tuple[int, ...], **keywords: Any) -> Case:
        kernel = rng.standard_normal(k_shape) if x.dtype.kind == "f" else rng.integers(-9, 9, k_shape)
        return Case(name, f"corr{len(k_shape) - 2}d", x, kernel.astype(x.dtype), keywords)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    for inputs, outputs in ((1, 3), (3, 17), (8, 8), (17, 1), (64, 5), (3, 64), (2, 130)):
        bias = rng.standard_normal(outputs).astype(np.float32)
        yield case(f"{inputs} to {outputs}", normal(2, inputs, 9, 11), (outputs, inputs, 3, 2), bias=bias, mode="same")
    for boundary in Boundary:
        fill = 0.5 * (boundary == "constant")
        yield case(boundary, normal(3, 7, 8), (4, 3, 3, 5), mode="full", boundary=boundary, fill_value=fill)
    for dtype in (np.float16, np.float64, np.uint8, np.int16, np.int64):
        x = (normal(2, 5, 9, 10) * 9).astype(dtype)
        yield case(f"{x.dtype}", x, (9, 5, 2, 3), padding=((1, 2), (0, 3)), boundary=("wrap", "reflect"), bias=[3] * 9)
        yield case(f"{x.dtype} rounded", x, (9, 5, 3, 3), dtype="int8" if x.dtype.kind in "iu" else "float16")
    yield case("1-D", normal(3, 5, 90), (6, 5, 7), mode="same", boundary="edge")
    yield case("3-D", normal(2, 3, 5, 6, 7), (4, 3, 2, 3, 2), mode="same", boundary="symmetric", stride=(1, 2, 1))
    yield case("1 x 1", normal(2, 17, 6, 7), (9, 17, 1, 1))
    yield case("stepped", normal(2, 3, 13, 14), (5, 3, 3, 3), stride=(2, 3), padding=1)
    yield case("dilated", normal(2, 3, 13, 14), (5, 3, 3, 3), dilation=(3, 2), padding=4)
    yield case("groups", normal(2, 6, 8, 9), (9, 2, 3, 3), groups=3, bias=normal(9), mode="same")
    yield case(
        "depthwise", normal(2, 5, 13, 14), (5, 1, 3, 3), groups=5, mode="same", boundary="reflect", bias=[1.0] * 5
    )
    yield case("multiplied", normal(5, 13, 14), (10, 1, 3, 3), groups=5, mode="same")
    last = np.moveaxis(case("", normal(2, 6, 9, 10), (1, 1, 1)).x, 1, -1).copy()
    yield Case("last", "conv2d", last, normal(3, 3, 2, 9), {"channel_axis": -1, "groups": 3, "mode": "same"})
    x = normal(4, 6, 9, 20)
    yield case("reversed", x[::-1, ::-1, ::-1, ::-1], (4, 6, 3, 3), mode="same")
    yield case("every second", x[::2, ::2, :, ::2], (4, 3, 3, 3), mode="same")
    yield case("broadcast", np.broadcast_to(x[:1, :1], x.shape), (4, 6, 3, 3), mode="same")
    yield case("far borders", normal(2, 3, 4), (3, 2, 2, 2), padding=11, boundary="symmetric")
    yield case("one long sum", normal(33, 5, 5), (2, 33, 5, 5))


@cache
def larger() -> tuple[Entry, ...]:
    return tuple(entry_of(case) for case in larger_cases())


@cache
def suited() -> tuple[Entry, ...]:
    return tuple(entry for entry in problems() if not layers.refusal(entry[1].problem))


def run(case: Case, reading: Reading, load: Any, tile: Tile | None = None, apart: bool = False) -> Array:
    """Run a layer by a tile, into a result whose rows may lie apart."""
    problem = reading.problem
    whole = XP.zeros((*problem.out_shape[:-1], problem.out_shape[-1] + apart), problem.out_dtype)
    out = whole[..., : problem.out_shape[-1]]
    with pytest.MonkeyPatch.context() as patch:
        if tile:
            sized = layers.sized(tile, problem.sum_dtype.itemsize)
            patch.setattr(layers, "tile_of", lambda problem: sized)
        ready = layers.prepare(problem, reading.kernel, reading.bias, load, XP)
        assert ready(canonical(reading, case.x), out) is out
    assert not whole[..., problem.out_shape[-1] :].any()
    return out


def wanted() -> list[Variant]:
    found = Wanted()
    for case, reading, _ in suited():
        run(case, reading, found.load)
    for case, reading, _ in larger():
        for tile in tiles_for(reading):
            run(case, reading, found.load, tile)
        run(case, reading, found.load)
    for case, reading, _ in wide_ones():
        run_wide(case, reading, found.load)
    for case, reading, _ in (*empty_ones(), overlapping()):
        run(case, reading, found.load)
    return list(found.variants)


def tiles_for(reading: Reading) -> tuple[Tile, ...]:
    """Every tile for float32, the first and the last for other sums: each is a variant to be compiled."""
    return layers.TILES if reading.problem.sum_dtype == np.float32 == reading.problem.x_dtype else layers.TILES[::8]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(wanted(), tmp_path_factory.mktemp("layers"))


def test_every_answer_lies_within_its_bound(library: Library) -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in suited():
        bound_holds(case.id, as_user(reading, run(case, reading, library.load)), expected)
        problem = reading.problem
        seen.update(["all", problem.sum_dtype.kind, problem.ndim, *problem.boundary, problem.groups > 1])
    assert seen["all"] >= 100
    assert all(seen[trait] >= 10 for trait in ("i", "f", 1, 2, 3, True, *Boundary))


def test_larger_answers_lie_within_their_bounds_by_every_tile(library: Library) -> None:
    for case, reading, expected in larger():
        alone = run(case, reading, library.load, apart=True)
        bound_holds(case.id, as_user(reading, alone), expected)
        for tile in tiles_for(reading):
            assert run(case, reading, library.load, tile).tobytes() == alone.tobytes(), (case.id, tile)


def test_counts_in_64_bits_change_no_bit(library: Library) -> None:
    for case, reading, _ in wide_ones():
        expected = run(case, reading, library.load).tobytes()
        assert run_wide(case, reading, library.load).tobytes() == expected


def wide_ones() -> Iterator[Entry]:
    yield from (entry for entry in larger() if entry[0].id in ("groups", "3-D", "constant"))


def run_wide(case: Case, reading: Reading, load: Any) -> Array:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "PLACES", 1)
        return run(case, reading, load)


# ---- which tile, how many blocks


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "keywords", "expected"),
    [
        ((32, 128, 56, 56), (128, 128, 3, 3), {}, (128, 128)),
        ((32, 64, 112, 112), (64, 64, 3, 3), {}, (64, 256)),
        ((64, 3, 224, 224), (32, 3, 3, 3), {}, (32, 256)),
        ((64, 64, 112, 112), (64, 1, 3, 3), {"groups": 64}, (1, 256)),
        ((1, 64, 8, 8), (64, 64, 3, 3), {}, (32, 64)),
    ],
)
def test_tiles_suit_their_problems(
    x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], keywords: dict[str, Any], expected: tuple[int, int]
) -> None:
    x, kernel = (np.broadcast_to(np.float32(1), shape) for shape in (x_shape, kernel_shape))
    tile = layers.tile_of(reading_of("corr2d", x, kernel, padding=1, **keywords).problem)
    assert (tile.channels, tile.positions) == expected


def test_tiles_are_those_that_the_kernel_can_be_compiled_for() -> None:
    for tile in (layers.sized(tile, size) for tile in layers.TILES for size in (4, 8)):
        assert tile.threads <= 256
        assert tile.positions % 32 == 0
        assert tile.threads % tile.positions == 0
        assert layers.CHUNK * tile.positions % tile.threads == 0
        shared = 2 * layers.CHUNK * (tile.channels + tile.positions) * 8 + 8 * tile.positions
        assert shared <= 48 << 10


def test_no_place_and_no_channel_is_left_out() -> None:
    for outputs, groups, width in ((1, 1, 1), (130, 2, 1000), (6, 3, 513)):
        x, kernel = np.broadcast_to(np.float32(1), (2, groups, width)), np.ones((outputs, 1, 1), np.float32)
        problem = reading_of("corr1d", x, kernel, groups=groups).problem
        for tile in layers.TILES:
            channels = -(-(outputs // groups) // tile.channels)
            assert layers.blocks(problem, tile) == groups * channels * -(-2 * width // tile.positions)


def test_filters_and_complex_layers_are_refused() -> None:
    x, kernel = np.ones((2, 5, 5)), np.ones((1, 2, 3, 3))
    assert layers.refusal(reading_of("corr2d", x, kernel[0, 0]).problem) == "layers only"
    assert layers.refusal(reading_of("corr2d", x, kernel * 1j).problem) == "sums of real numbers only"
    many = replace(reading_of("corr2d", x, kernel).problem, x_shape=(1,) * 9 + x.shape, out_shape=(1,) * 10 + (3, 3))
    assert layers.refusal(many) == "at most 8 batch axes; got 9"
    assert not layers.refusal(reading_of("corr2d", x, kernel).problem)


# ---- what the definition says of infinities, batches, empty arrays and results


def test_the_batch_changes_no_bit(library: Library) -> None:
    (case, reading, _) = next(entry for entry in larger() if entry[0].id == "groups")
    together = run(case, reading, library.load)
    for number in range(2):
        alone = case._replace(x=case.x[number : number + 1])
        got = run(alone, reading_of(*alone[1:4], **alone.keywords), library.load)
        assert got.tobytes() == together[number : number + 1].tobytes()
    single = case._replace(x=case.x[0])
    assert run(single, reading_of(*single[1:4], **single.keywords), library.load).tobytes() == together[0].tobytes()


def not_finite() -> Entry:
    """Zeros among the weights, infinities and NaN in x, the bias and beyond the border; one chunk is not full."""
    rng = np.random.default_rng(8)
    x, kernel = rng.standard_normal((3, 12, 40), np.float32), rng.standard_normal((5, 3, 3, 3), np.float32)
    kernel[1], kernel[2, 1], kernel[3, :, 1] = 0, 0, np.inf
    x[0, 3, 7], x[2, 8, 30], x[1, 5, 20] = np.inf, np.nan, -np.inf
    bias = np.array([0, np.inf, 1, -np.inf, np.nan], np.float32)
    return entry_of(Case("", "corr2d", x, kernel, {"mode": "same", "fill_value": np.inf, "bias": bias}))


def test_infinities_and_nan_are_those_of_the_definition(library: Library) -> None:
    case, reading, expected = not_finite()
    for tile in layers.TILES:
        got = as_user(reading, run(case, reading, library.load, tile))
        bound_holds("", got, expected)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected.final))


def empty_ones() -> Iterator[Entry]:
    rng = np.random.default_rng(2)
    shapes = (((2, 0, 5, 6), (3, 0, 2, 2)), ((0, 2, 5, 6), (3, 2, 2, 2)), ((2, 2, 0, 6), (3, 2, 2, 2)))
    for x_shape, kernel_shape in shapes:
        x, kernel = (rng.standard_normal(shape, dtype=np.float32) for shape in (x_shape, kernel_shape))
        bias = np.arange(1, 4, dtype=np.float32)
        yield entry_of(Case(f"{x_shape}", "corr2d", x, kernel, {"padding": 2, "fill_value": 2, "bias": bias}))
    yield entry_of(Case("no output", "corr1d", np.zeros((2, 0)), np.ones((1, 2, 3)), {"padding": 1}))


def test_empty_arrays_give_what_the_formula_gives(library: Library) -> None:
    for case, reading, expected in empty_ones():
        got = as_user(reading, run(case, reading, library.load))
        bound_holds(case.id, got, expected)
        assert got.shape == expected.final.shape


def test_out_may_be_strided_and_may_overlap_x(library: Library) -> None:
    case, reading, expected = overlapping()
    ready = layers.prepare(reading.problem, reading.kernel, None, library.load, XP)
    for steps in ((-1, 1), (2, 1), (1, 2), (-2, -3)):
        room = on_device(np.full((6, 24, 60), -1, np.float32))
        out = room[:: steps[0], :: steps[0], :: steps[1]][:3, :12, :20]
        assert ready(on_device(case.x), out) is out
        np.testing.assert_array_equal(out.view(np.ndarray), expected.final)
        assert (room == -1).sum() == room.size - out.size
    x = on_device(case.x.copy())
    ready(x, x[::-1])
    np.testing.assert_array_equal(x[::-1].view(np.ndarray), expected.final)


def overlapping() -> Entry:
    x = np.arange(3 * 12 * 20, dtype=np.float32).reshape(3, 12, 20) % 251
    kernel = np.arange(1, 82, dtype=np.float32).reshape(3, 3, 3, 3)
    return entry_of(Case("", "corr2d", x, kernel, {"mode": "same", "fill_value": 0.5}))


def test_a_call_waits_for_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for case, reading, _ in larger():
        x, out = canonical(reading, case.x), XP.zeros(reading.problem.out_shape, reading.problem.out_dtype)
        ready = layers.prepare(reading.problem, reading.kernel, reading.bias, library.load, XP)
        with monkeypatch.context() as patch:
            nothing_waits(patch)
            ready(x, out)


def test_the_kernel_and_the_bias_are_copied(library: Library) -> None:
    case, reading, expected = next(entry for entry in larger() if entry[0].id == "groups")
    ready = layers.prepare(reading.problem, reading.kernel, reading.bias, library.load, XP)
    before = ready(canonical(reading, case.x)).tobytes()
    assert reading.bias is not None
    kernel, bias = reading.kernel.copy(), reading.bias.copy()
    again = layers.prepare(reading.problem, kernel, bias, library.load, XP)
    kernel.fill(9)
    bias.fill(9)
    assert again(canonical(reading, case.x)).tobytes() == before
    assert again.nbytes == 4 * (expected.final.shape[1] * reading.problem.taps + 9)


# ---- bugs that are planted


BUGS = {
    "a group with the samples of others": ("group) * given.inputs * given.x_channel", "group) * given.x_channel"),
    "a group with the weights of the first": ("taps + static_cast<long long>(group) * given.terms", "taps + 0"),
    "taps in another order": ("static_cast<Place>(tap[axis])", "static_cast<Place>(task.taps[axis] - 1 - tap[axis])"),
    "rows in the place of slices": ("z = place(0), y = place(1)", "z = place(1), y = place(0)"),
    "a dilation forgotten": ("* static_cast<Place>(task.dilation[axis])", "* 1"),
    "a stride forgotten": ("* static_cast<Place>(task.step[axis])", "* 1"),
    "no bias": ("sum[i][j + k] + bias", "sum[i][j + k]"),
    "the bias of another group": ("+ group * given.outputs + first_channel", "+ first_channel"),
    "samples beyond the last term": ("if (term < terms) {", "if (true) {"),
    "weights beyond the last term": ("row < terms && channel < channels", "channel < channels"),
    "channels beyond the last": ("if (channel >= channels) continue;", ""),
    "places beyond the last": ("if (first + place + k < total) store", "store"),
    "packs beyond the last place": ("adjacent = first + place < total", "adjacent = true"),
    "results together that lie apart": ("places[place + k] == places[place] + k", "true"),
    "results together that are not aligned": ("% sizeof(results) == 0", "% 1 == 0"),
    "no barrier": ("__syncthreads();", ";"),
    "one buffer": ("turn ^= 1", "turn ^= 0"),
    "zeros in the place of the fill value": ("given.fill : load", "X() : load"),
    "zeros that are skipped": ("sum[i][j] = added", "if (tap[i / C_PACK].at[i % C_PACK] != 0) sum[i][j] = added"),
    "sums of other places": ("number / pack * pack * threads", "number / pack * pack"),
    "a channel too far": ("walk.skip(CHUNK - SAMPLES)", "walk.skip(CHUNK)"),
    "a tap that begins anew": ("channel -= static_cast<Place>(given.inputs)", "channel = 0"),
    "a channel of the result beside the next": ("channel * given.out_channel", "channel * given.x_channel"),
    "a chunk that is left out": ("term < terms; term += CHUNK", "term + CHUNK < terms; term += CHUNK"),
}
TELLING = ("3 to 17", "constant", "groups", "depthwise", "stepped", "dilated", "3-D", "every second")


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug: str, tmp_path: Path) -> None:
    entries = [*(entry for entry in larger() if entry[0].id in TELLING), not_finite()]
    assert len(entries) == len(TELLING) + 1
    tiles = layers.TILES[0], layers.TILES[7]
    asked = Wanted()
    for case, reading, _ in entries:
        for tile in tiles:
            run(case, reading, asked.load, tile)
    library = Library(asked.variants, tmp_path, replacing(*BUGS[bug]))
    with pytest.raises(AssertionError):
        for case, reading, expected in entries:
            for tile in tiles:
                bound_holds(bug, as_user(reading, run(case, reading, library.load, tile, apart=True)), expected)
                bound_holds(bug, as_user(reading, run(case, reading, library.load, tile)), expected)
