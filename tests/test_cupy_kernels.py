"""The CUDA kernels of the backend cupy, on the host: every variant that the cases call for runs, as C++.

A compiler of the host takes the text that NVRTC would take; cuda_on_host.h stands for CUDA. Which addresses are read
and written, and how often, is looked at; what a GPU makes of the text is not: see test_cupy_gpu.py.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convengine_cupy import direct, layout
from convengine_cupy.layout import Layout
from convengine_cupy.variants import Variant
from cuda_on_host import Library, Wanted, replacing
from device_arrays import (
    XP,
    Array,
    as_user,
    bound_holds,
    bound_of,
    canonical,
    facts_of,
    nothing_waits,
    on_device,
    problems,
    reading_of,
)

from convengine.boundary import Boundary
from convengine.factoring import Factors, Promise, factor, promise
from convengine.reading import Reading
from convengine.testing.cases import Case
from convengine.testing.oracle import Reference, reference

WAYS = ("adjacent", "apart", "general", "wide")  # the kernels that may do a filter: their bits are the same


def large_cases() -> Iterator[Case]:
    """Filters of more than one strip: some that lie inside x, several bands, rows without borders."""
    rng = np.random.default_rng(3)

    def case(name: str, x: Array, k_shape: tuple[int, ...], **keywords: Any) -> Case:
        floats = x.dtype.kind == "f"
        kernel = rng.standard_normal(k_shape) if floats else rng.integers(-5, 6, k_shape)
        return Case(f"{name}-{x.dtype}-{k_shape}", f"corr{len(k_shape)}d", x, kernel.astype(x.dtype), keywords)

    for boundary in Boundary:
        for size in ((3, 3), (2, 5), (9, 9)):
            x = rng.standard_normal((45, 520), dtype=np.float32)
            yield case(boundary, x, size, mode="same", boundary=boundary, fill_value=0.5 * (boundary == "constant"))
    for dtype in (np.uint8, np.int16, np.float16, np.float64, np.int64):
        x = (rng.standard_normal((38, 530)) * 50).astype(dtype)
        yield case("dtypes", x, (3, 4), padding=((2, 3), (4, 1)), boundary=("wrap", "symmetric"), bias=3)
        yield case("valid", x, (5, 3))
        yield case("rounded", x, (3, 3), dtype="int8" if x.dtype.kind in "iu" else "float16")
    x = rng.standard_normal((2, 3, 40, 300), dtype=np.float32)
    yield case("batch", x, (3, 3), mode="full", boundary="reflect")
    yield case("dilated", x, (3, 3), dilation=(4, 3), mode="same", boundary="edge")
    yield case("stepped", x, (3, 3), stride=(2, 3), mode="same")
    yield case("colours", np.moveaxis(x, 1, -1).copy(), (3, 5), channel_axis=-1, mode="same", boundary="wrap")
    yield case("colours dilated", np.moveaxis(x, 1, -1).copy(), (2, 2), channel_axis=-1, mode="same", dilation=2)
    yield case("deep", np.moveaxis(x, -1, 1)[:, :200].copy(), (2, 3), axes=(1, 3), mode="same")
    yield case("signals", rng.standard_normal((21, 400), dtype=np.float32), (7,), mode="same", bias=0.5)
    yield case("signals down", rng.standard_normal((400, 21), dtype=np.float32), (7,), axes=0, mode="same")
    yield case("long", rng.standard_normal((2, 2000), dtype=np.float32), (199,), mode="same")
    yield case("longer", rng.standard_normal(900, dtype=np.float32), (300,))
    yield case("wide pads", rng.standard_normal((5, 7), dtype=np.float32), (3, 3), padding=150, boundary="reflect")
    yield case("reversed", x[:, :, ::-1, ::-1], (3, 3), mode="same")
    yield case("every second", x[..., ::2], (3, 3), mode="same")
    yield case("fortran", np.asfortranarray(x[0, 0]), (3, 3), mode="same")
    yield case("broadcast", np.broadcast_to(x[:, :1], x.shape), (3, 3), mode="same")
    yield case("volume", rng.standard_normal((9, 10, 40), dtype=np.float32), (3, 2, 3), mode="same", boundary="edge")
    strewn = np.zeros((3,) * 9 + (3, 40), np.float32)[(slice(None, None, 2),) * 9]  # more axes than a launch takes
    strewn[...] = rng.standard_normal(strewn.shape)
    yield case("strewn", strewn, (2, 2), mode="same")


@cache
def large() -> tuple[tuple[Case, Reading, Reference], ...]:
    return tuple(
        (case, reading_of(*case[1:4], **case.keywords), reference(*case[1:4], **case.keywords))
        for case in large_cases()
    )


@cache
def suited() -> tuple[tuple[Case, Reading, Reference], ...]:
    return tuple(entry for entry in problems() if not direct.refusal(entry[1].problem))


def run(case: Case, reading: Reading, load: Any, way: str = "adjacent") -> Array:
    """Filter into a result that lies so that a kernel is chosen."""
    problem = reading.problem
    whole = XP.zeros((*problem.out_shape[:-1], problem.out_shape[-1] + (way == "apart")), problem.out_dtype)
    out = whole[..., : problem.out_shape[-1]]
    with pytest.MonkeyPatch.context() as patch:
        if way == "general":
            patch.setattr(direct, "rolls", lambda problem: False)
        if way == "wide":  # more outputs than 32 bits count
            patch.setattr(direct, "MOST_STRIPS", 0)
        ready = direct.prepare(problem, reading.kernel, reading.bias, load, XP)
        assert ready(canonical(reading, case.x), out) is out
    assert not whole[..., problem.out_shape[-1] :].any()
    return out


@cache
def separable() -> tuple[tuple[Case, Reading, Reference], ...]:
    """What goes by a column and a row: of the generated cases, and large ones."""
    found = [entry for entry in suited() if promised(entry[1])]
    for case, reading, _ in large():
        if reading.problem.ndim == 2 and set(reading.problem.stride) == {1}:
            kernel = np.multiply.outer(case.kernel[:, 0], case.kernel[0])
            new = case._replace(kernel=kernel)
            new_reading = reading_of(*new[1:4], **new.keywords)
            if promised(new_reading):
                found.append((new, new_reading, reference(*new[1:4], **new.keywords)))
    return tuple(found)


def promised(reading: Reading) -> Promise | None:
    if reading.problem.ndim != 2 or not direct.rolls_separably(reading.problem):
        return None
    found = promise(reading.problem, facts_of(reading))
    return found if found and found.rank == 1 else None


def run_separably(case: Case, reading: Reading, load: Any, apart: bool = False) -> Array:
    problem, by = reading.problem, promised(reading)
    assert by
    factors = factor(problem, reading.kernel, by)
    ready = direct.prepare(problem, reading.kernel, reading.bias, load, XP, factors)
    whole = XP.zeros((*problem.out_shape[:-1], problem.out_shape[-1] + apart), problem.out_dtype)
    out = whole[..., : problem.out_shape[-1]]
    assert ready(canonical(reading, case.x), out) is out
    return out


def wanted() -> list[Variant]:
    found = Wanted()
    not_finite(found.load)
    overflowing(found.load)
    for case, reading, _ in separable():
        for apart in (True, False):
            run_separably(case, reading, found.load, apart)
    for case, reading, _ in suited():
        run(case, reading, found.load)
    for case, reading, _ in large():
        for way in WAYS:
            run(case, reading, found.load, way)
    return list(found.variants)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(wanted(), tmp_path_factory.mktemp("variants"))


def test_every_answer_lies_within_its_bound(library: Library) -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in suited():
        bound_holds(case.id, as_user(reading, run(case, reading, library.load)), expected)
        problem = reading.problem
        seen.update(["all", problem.sum_dtype.kind, problem.ndim, *problem.boundary])
    assert seen["all"] >= 200
    assert all(seen[trait] >= 10 for trait in ("i", "f", 1, 2, 3, *Boundary))


@pytest.mark.parametrize("way", WAYS)
def test_large_answers_lie_within_their_bounds(library: Library, way: str) -> None:
    for case, reading, expected in large():
        bound_holds(case.id, as_user(reading, run(case, reading, library.load, way)), expected)


def test_no_kernel_and_no_cut_changes_a_bit(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for case, reading, _ in large():
        expected = run(case, reading, library.load).tobytes()
        for warps, least, most in ((1, 1, 7), (4224, 1, 128), (50, 16, 23)):
            with monkeypatch.context() as patch:
                patch.setattr(layout, "WARPS_AT_ONCE", warps)
                patch.setattr(layout, "LEAST_ROWS", least)
                patch.setattr(layout, "MOST_ROWS", most)
                for way in WAYS:
                    assert run(case, reading, library.load, way).tobytes() == expected, (case.id, warps, way)


def test_separable_answers_keep_their_promises(library: Library) -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in separable():
        by = promised(reading)
        assert by
        got = [run_separably(case, reading, library.load, apart) for apart in (False, True)]
        bound_holds(case.id, as_user(reading, got[0]), expected, bound_of(reading.problem, by, expected))
        assert got[0].tobytes() == got[1].tobytes()
        seen.update(["all", reading.problem.sum_dtype.kind])
    assert seen["all"] >= 40
    assert all(seen[trait] >= 5 for trait in ("i", "f"))


def not_finite(load: Any) -> tuple[Array, Reference]:
    """The answer of a separable kernel with zeros to samples that are not finite, within x and beyond."""
    x = np.zeros((45, 520), np.float32)
    x[20, 20], x[30, 300] = np.nan, np.inf
    kernel = np.multiply.outer(np.arange(3), np.arange(1, 5)).astype(np.float32)
    case = Case("", "corr2d", x, kernel, {"mode": "same", "fill_value": np.inf})
    reading, expected = reading_of(*case[1:4], **case.keywords), reference(*case[1:4], **case.keywords)
    return as_user(reading, run_separably(case, reading, load)), expected


def overflowing(load: Any) -> tuple[Array, Reference]:
    """An answer whose sums along rows overflow, and whose results do not."""
    x = np.full((45, 520), 1e38, np.float32)
    x[:, 300:] = 1e-3
    column, row = np.float32([1e-5, 2e-5, 1e-5]), np.float32([4, 5, 4])
    case = Case("", "corr2d", x, np.multiply.outer(column, row), {"mode": "same"})
    reading = reading_of(*case[1:4], **case.keywords)
    factors = Factors(column[None], row[None])
    got = direct.prepare(reading.problem, reading.kernel, None, load, XP, factors)(on_device(x))
    return as_user(reading, got), reference(*case[1:4], **case.keywords)


def test_what_is_not_finite_is_repaired(library: Library) -> None:
    bound_holds("", *not_finite(library.load))
    got, expected = overflowing(library.load)
    bound_holds("", got, expected)
    assert np.isfinite(got).all()


def test_problems_go_by_the_kernel_that_suits_them() -> None:
    def chosen(x: Array, kernel: Array, way: str = "adjacent", **keywords: Any) -> Variant:
        found = Wanted()
        case = Case("", f"corr{kernel.ndim}d", x, kernel, keywords)
        run(case, reading_of(*case[1:4], **keywords), found.load, way)
        (variant,) = found.variants
        return variant

    def rolling(variant: Variant) -> tuple[Any, ...]:
        assert variant.kernel == "rolling"
        return variant.height, variant.width, variant.step, variant.adjacent

    image, nine = np.ones((64, 64), np.float32), np.ones((9, 9), np.float32)
    assert rolling(chosen(image, nine, mode="same")) == (9, 9, 1, True)
    assert rolling(chosen(image, nine, "apart", mode="same")) == (9, 9, 1, False)
    assert rolling(chosen(image, np.ones((1, 40), np.float32), "apart", mode="same")) == (1, 40, 1, True)
    assert rolling(chosen(image, nine[:3, :2], dilation=(4, 5), mode="same")) == (3, 2, 5, False)
    assert rolling(chosen(np.ones((64, 64, 3), np.uint8), nine[:3, :3], channel_axis=-1, mode="same")) == (
        3,
        3,
        3,
        False,
    )
    assert rolling(chosen(np.ones((30, 64), np.float32), nine[0], mode="same")) == (1, 9, 1, True)
    assert rolling(chosen(np.ones((64, 30), np.float32), nine[0], axes=0, mode="same")) == (1, 9, 30, False)
    assert chosen(np.ones((64, 70), np.float32), nine[0], axes=0, mode="same").kernel == "general"
    assert chosen(image, nine, stride=2).kernel == "general"
    assert chosen(np.ones((9, 9, 9), np.float32), np.ones((2, 2, 2), np.float32)).kernel == "general"
    assert chosen(image, np.ones((17, 17), np.float32), mode="same").kernel == "general"


def test_strips_cover_every_row() -> None:
    for height in (1, 15, 16, 17, 127, 128, 129, 1000, 8192):
        for dilation in (1, 3):
            x = np.broadcast_to(np.float32(1), (height + 2 * dilation, 8192))
            problem = reading_of("corr2d", x, np.ones((3, 3), np.float32), dilation=(dilation, 1)).problem
            work = layout.task(Layout.of(problem, (8192, 1), (8190, 1)), True, 4)
            rows, bands = int(work["rows"]), int(work["bands"])
            assert 1 <= rows <= layout.MOST_ROWS
            assert bands % dilation == 0
            assert (bands // dilation - 1) * rows < -(-height // dilation) <= bands // dilation * rows
            assert work["chunks"] == 64


# ---- what the definition says of infinities, batches and results


def test_the_batch_changes_no_bit(library: Library) -> None:
    (case, reading, _), *_ = (entry for entry in large() if entry[0].id.startswith("batch"))
    together = run(case, reading, library.load)
    for number in range(2):
        alone = case._replace(x=case.x[number : number + 1])
        got = run(alone, reading_of(*alone[1:4], **alone.keywords), library.load)
        assert got.tobytes() == together[number : number + 1].tobytes()


def test_infinities_and_nan_are_those_of_the_definition(library: Library) -> None:
    x, kernel = np.ones((45, 520), np.float32), np.zeros((3, 3), np.float32)
    x[20, 200], x[30, 300] = np.inf, np.nan
    keywords = {"mode": "same", "boundary": "constant", "fill_value": np.inf}
    case = Case("", "corr2d", x, kernel, keywords)
    for way in WAYS:
        got = run(case, reading_of(*case[1:4], **keywords), library.load, way).view(np.ndarray)
        expected = np.zeros_like(x)
        expected[[0, -1]] = expected[:, [0, -1]] = expected[19:22, 199:202] = expected[29:32, 299:302] = np.nan
        np.testing.assert_array_equal(got, expected)


def test_out_may_be_strided_and_may_overlap_x(library: Library) -> None:
    whole = np.arange(45.0 * 520, dtype=np.float32).reshape(45, 520) % 251
    kernel = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    case = Case("", "corr2d", whole, kernel, {"mode": "same", "fill_value": 0.5})
    reading, expected = reading_of(*case[1:4], **case.keywords), reference(*case[1:4], **case.keywords).final
    ready = direct.prepare(reading.problem, reading.kernel, None, library.load, XP)
    for steps in ((-1, 1), (2, 1), (1, 2), (-2, -3)):
        room = on_device(np.full((90, 1560), -1, np.float32))
        out = room[:: steps[0], :: steps[1]][:45, :520]
        assert ready(on_device(whole), out) is out
        np.testing.assert_array_equal(out.view(np.ndarray), expected)
        assert (room == -1).sum() == room.size - out.size
    x = on_device(whole.copy())
    ready(x, x[::-1])
    np.testing.assert_array_equal(x[::-1].view(np.ndarray), expected)


def test_a_call_waits_for_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    done = 0
    for case, reading, _ in large():
        if direct.writes_results(reading.problem):
            x, out = (
                canonical(reading, case.x),
                XP.zeros(reading.problem.out_shape, reading.problem.out_dtype),
            )
            ready = direct.prepare(reading.problem, reading.kernel, reading.bias, library.load, XP)
            with monkeypatch.context() as patch:
                nothing_waits(patch)
                ready(x, out)
            done += 1
    assert done >= 40


def test_fields_of_records_are_copied(library: Library) -> None:
    records = np.zeros((45, 520), np.dtype([("flag", np.uint8), ("value", np.float32)]))
    records["value"] = np.arange(520)
    x, kernel = on_device(records["value"]), np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    case = Case("", "corr2d", x.view(np.ndarray), kernel, {"mode": "same"})
    reading, expected = reading_of(*case[1:4], **case.keywords), reference(*case[1:4], **case.keywords).final
    ready = direct.prepare(reading.problem, reading.kernel, None, library.load, XP)
    np.testing.assert_array_equal(ready(x).view(np.ndarray), expected)
    assert ready(x, x) is x
    np.testing.assert_array_equal(records["value"], expected)
    assert not records["flag"].any()


def test_the_kernel_and_the_bias_are_copied(library: Library) -> None:
    x, kernel = np.ones((45, 520), np.float32), np.ones((3, 3), np.float32)
    reading = reading_of("corr2d", x, kernel, bias=np.ones(1))
    ready = direct.prepare(reading.problem, reading.kernel, reading.bias, library.load, XP)
    reading.kernel.fill(9)
    assert reading.bias is not None
    reading.bias.fill(9)
    assert (ready(on_device(x)) == 10).all()


# ---- bugs that are planted


BUGS = {
    "a border sample in the place of the fill value": (
        "if (rule == CONSTANT) return -1;",
        "if (rule == CONSTANT) return 0;",
    ),
    "an edge that is repeated": ("2 * (n - shared_edge)", "2 * n"),
    "a mirror one sample off": ("2 * n - 1 - shared_edge - at", "2 * n - 2 - shared_edge - at"),
    "no floor of negative positions": ("(element < 0 ? element - (inner - 1) : element) / inner", "element / inner"),
    "a ring that does not turn": ("a > 0 ? sum[a - 1][j]", "a > 0 ? sum[a][j]"),
    "a ring that turns the other way": ("a = HEIGHT - 1; a >= 0; --a", "a = 0; a < HEIGHT; ++a"),
    "a row too late": ("if (row >= HEIGHT - 1)", "if (row >= HEIGHT)"),
    "no bias": ("sums[j] + bias", "sums[j]"),
    "bands that overlap": ("apart * each * apart", "apart * (each - 1) * apart"),
    "rows of x one sample further apart": ("row * task.x_stride[1], q,", "row * (task.x_stride[1] + 1), q,"),
    "no barrier": ("__syncwarp();", ""),
    "one line for all rows": ("(row & 1) * LINE", "0"),
    "samples that nobody brings": ("(COLUMNS + (WIDTH - 1) * STEP + LANES - 1)", "(COLUMNS + LANES - 1)"),
    "a border that counts as inside": ("start + LINE <=", "start <="),
    "columns written beyond the last": ("if (PLAIN || element < last)", "if (true)"),
    "a row of results written again and again": ("target += task.dilation[1]", "target += 0 * task.dilation[1]"),
    "a batch with the strides of the result": ("at) * task.x_batch[axis]", "at) * task.out_batch[axis]"),
    "a step forgotten": ("static_cast<long long>(at) * task.step[axis]", "static_cast<long long>(at)"),
    "integers that wrap": ("sum > HIGH ? HIGH : sum", "sum"),
    "zeros in the place of the fill value": ("load(row + column * task.x_stride[2]) : fill;", "load(row) : X();"),
    "a column upside down": ("part[j], given.taps[a])", "part[j], given.taps[HEIGHT - 1 - a])"),
    "sums that are not repaired": ("sum[HEIGHT - 1][j] - sum[HEIGHT - 1][j] != 0", "false"),
    "repairs at another place": ("y < 0 || found < 0 ? given.fill", "y < 0 || found < 0 ? X()"),
    "a float16 that is cut off": ("return half_of(sum);", "return half_of(sum * 0.9995f);"),
}
TELLING = (
    *(f"{boundary}-float32-(2, 5)" for boundary in ("constant", "reflect", "symmetric")),
    "dtypes-uint8-(3, 4)",
    "rounded-int16-(3, 3)",
    "rounded-float64-(3, 3)",
    "batch-float32-(3, 3)",
    "dilated-float32-(3, 3)",
    "stepped-float32-(3, 3)",
    "colours-float32-(3, 5)",
)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug: str, tmp_path: Path) -> None:
    def answers(load: Any) -> Iterator[tuple[Array, Reference]]:
        for case, reading, expected in large():
            if case.id in TELLING:
                for way in WAYS[:3]:
                    yield as_user(reading, run(case, reading, load, way)), expected
        for case, reading, expected in separable():
            if case.id in TELLING:
                yield as_user(reading, run_separably(case, reading, load)), expected
        yield not_finite(load)
        yield overflowing(load)

    asked = Wanted()
    assert len(list(answers(asked.load))) > 3 * len(TELLING)
    library = Library(asked.variants, tmp_path, replacing(*BUGS[bug]))
    with pytest.raises(AssertionError):
        for got, expected in answers(library.load):
            bound_holds(bug, got, expected)
