"""The laws of the choice: what a user asked for beside the sums (memory, accuracy, a part, no missing sample) holds."""

import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import convengine as ce
from convengine.planning import Explanation, Row
from convengine.testing import subjects
from convengine.testing.arguments import Array
from convengine.testing.bounds import check, gamma, unit_roundoff
from convengine.testing.cases import Case
from convengine.testing.examination import Examination, problem
from convengine.testing.oracle import Reference
from convengine.testing.runner import bound, expected, fetch, kind, place, refusal, require_same_bits

__all__ = ["ChoiceLaws"]

NOISE = 256 << 10  # bytes that a call takes or not, whatever it computes


class ChoiceLaws(Examination):
    """The part of the contract that is about what is chosen, what it promises, and what is left out."""

    # ---- what is promised

    def test_memory_is_within_its_offer(self, large: str) -> None:
        """What every method allocates by Python and NumPy, with its preparation: a tenth more at most."""
        case = subjects.large()[large]
        x = place(self.name, case.x)
        out = place(self.name, np.empty_like(next(iter(self.answers(case).values())).value))
        for method in self.methods(case, out=out):
            tracemalloc.start()
            try:
                method(x, out)
                _, peak = tracemalloc.get_traced_memory()
            except ce.NoBackend:  # it declines
                continue
            finally:
                tracemalloc.stop()
            assert method.offer is not None
            within = peak <= 1.1 * method.offer.memory + NOISE
            self.require(
                within, f"need {method.offer.memory} bytes ({method.name} on {case.id}) as offered; took {peak}"
            )

    def test_max_memory_is_a_limit(self, large: str) -> None:
        """A method that needs one byte more is not run, and says why; with that byte it may be."""
        case = subjects.large()[large]
        for method in self.methods(case):
            assert method.offer is not None
            needs = method.offer.memory
            self.require(
                method.name in self.offered(case, max_memory=needs), f"offer {method.name} for its {needs} bytes"
            )
            if needs:
                left = self.offered(case, max_memory=needs - 1)
                self.require(method.name not in left, f"leave {method.name} out at max_memory={needs - 1}; got {left}")

    def test_bounds_are_kept_as_asked(self, wide_range: str) -> None:
        """1e30 beside 1e-30: every method within its bound; with strict, componentwise; with rtol, below it."""
        case, reference = problem("wide_range", wide_range)
        self.hold(case, reference)
        for method in self.methods(case):
            assert method.offer is not None
            error, normwise = method.offer.error, method.offer.normwise
            strict = self.offered(case, strict=True)
            self.require((method.name in strict) != normwise, f"keep {method.name} for strict only if componentwise")
            if error:
                self.require(method.name in self.offered(case, rtol=error), f"offer {method.name} at its own rtol")
                self.require(
                    method.name not in self.offered(case, rtol=error / 2), f"drop {method.name} at half its rtol"
                )
        with ce.options(strict=True):
            self.hold(case, reference)

    def test_nonnegative_stays_so(self, large: str) -> None:
        """Samples and taps of at least 0 have results of at least 0, by every method, wherever x is 0 or huge."""
        case = subjects.large()[large]
        if case.x.dtype.kind == "c":
            case = case._replace(x=case.x.real, kernel=case.kernel.real)
        x, kernel = np.abs(case.x), np.abs(case.kernel)
        if x.dtype.kind == "f" and case.x.dtype != np.float16:
            x[: len(x) // 2] = 0
            x[-len(x) // 4 :] *= 2**15
        kept = {word: value for word, value in case.keywords.items() if word != "bias"}
        for name, answer in self.answers(case._replace(x=x, kernel=kernel, keywords=kept)).items():
            least = answer.value.min()
            self.require(
                least >= 0, f"give results of at least 0 ({name}) where no sample or tap is below; got {least}"
            )

    # ---- what is chosen

    def test_explain_tells_what_runs(self, large: str) -> None:
        """The cheapest of all offers, with its time, memory and bound; once it has run, the time that it took."""
        case = subjects.large()[large]
        x = place(self.name, case.x)
        self.call(case)
        found, chosen = self.explained(case)
        rows = [row for row in found.rows if row.offer is not None]
        ordered = all((one.seconds or 0) <= (other.seconds or 0) for one, other in pairwise(rows))
        self.require(ordered, f"be explained by expected time; got {found}")
        ready = [row for row in rows if not row.status.startswith("declined")]
        self.require(chosen is ready[0], f"run the cheapest of its methods; got {found}")
        self.require((chosen.measured or 0) > 0, f"be shown with the time that it took; got {found}")
        planned = ce.plan(case.name, x, case.kernel, backend=self.name, **case.keywords)
        said = (planned.backend, planned.method)
        self.require(said == (self.name, chosen.method), f"plan what it explains; got {said}, and {found}")
        self.require(self.name in repr(planned) and chosen.method in repr(planned), f"be in {planned!r}")
        listed = json.loads(json.dumps(found.to_dict()))["candidates"]
        methods = [row["method"] for row in listed if row["seconds"] is not None]
        self.require(methods == [row.method for row in rows], f"be listed by method; got {listed}")

    def test_measured_choice_is_within_its_bound(self, large: str) -> None:
        """options(measure=True): the first call, which times the methods, and those after it."""
        case, reference = problem("large", large)
        x = place(self.name, case.x)
        with ce.options(measure=True):
            given = [fetch(self.call(case, x=x)) for _ in range(3)]
            _, chosen = self.explained(case)
        self.require(bool(chosen.measured), f"be measured; got {chosen}")
        for number, answer in enumerate(given):
            require_same_bits(given[0], answer, f"{self.name}: calls 0 and {number} of a choice that is measured")
        check(given[0], reference, bound(chosen.offer, reference))

    # ---- a part, and what is missing

    def test_region_is_that_part_of_the_whole(self, large: str) -> None:
        """Corners, middles, steps, nothing: within the bound of the whole."""
        case, reference = problem("large", large)
        x, axes = place(self.name, case.x), _spatial_axes(case, reference)
        sizes = [reference.final.shape[axis] for axis in axes]
        for region in (
            tuple(slice(0, 5) for _ in sizes),
            tuple(slice(-4, None) for _ in sizes),
            tuple(slice(size // 3, size // 2, 3) for size in sizes),
            tuple(slice(size // 2, size) if number else slice(None) for number, size in enumerate(sizes)),
            tuple(slice(3, 3) for _ in sizes),
        ):
            how = {"region": region, "backend": self.name, **case.keywords}
            try:
                answer = fetch(getattr(ce, case.name)(x, case.kernel, **how))
            except ce.NoBackend as error:  # the part's border or shape is not for it, and the skip names which
                pytest.skip(kind(refusal(error)))
            index: list[Any] = [slice(None)] * reference.final.ndim
            for axis, along in zip(axes, region, strict=True):
                index[axis] = along
            _, chosen = self.explained(case, region=region)
            limit = bound(chosen.offer, reference)[tuple(index)]  # of the whole, by the method that computes the part
            part = replace(reference, value=reference.value[tuple(index)], final=reference.final[tuple(index)])
            try:
                check(answer, part, limit)
            except AssertionError as error:
                raise AssertionError(f"{self.name}: {region} of {case.id}: {error}") from None

    def test_nothing_under_a_mask_shows(self, small: str) -> None:
        """NaN, infinities or numbers there: the same bits; far from it, the operation's own result."""
        case = subjects.small()[small]
        reference = expected(case)
        missing = np.zeros(case.x.shape, np.bool_)
        missing[..., : max(case.x.shape[-1] // 8, 1)] = True
        missing.flat[-1] = True
        poisons = (0, 1, 99) if case.x.dtype.kind in "iu" else (0, 1e30, np.nan, np.inf)
        given = []
        for poison in poisons:
            x = np.where(missing, np.asarray(poison, case.x.dtype), case.x)
            given.append(self.masked(case._replace(x=x), missing))
            require_same_bits(given[0], given[-1], f"{self.name}: 0 and {poison} under a mask")
        gone = case._replace(x=missing.astype(np.float64), kernel=np.ones(case.kernel.shape))
        said = {word: value for word, value in case.keywords.items() if word not in ("conjugate", "dtype")}
        near = expected(gone._replace(keywords=said)).value > 0.5  # a result that meets a missing sample
        with ce.options(strict=True):  # as masks are computed
            _, chosen = self.explained(case)
        limit = bound(chosen.offer, reference)
        limit = limit.astype(np.complex128 if limit.dtype.kind == "c" else np.float64)
        difference = np.where(near, 0, given[0] - reference.value.astype(given[0].dtype))
        rounded = np.finfo(given[0].dtype).eps * np.abs(given[0])  # of the oracle's values to that dtype
        self.require_near(
            f"{case.id} far from what is missing, and the oracle,",
            difference,
            limit + rounded * (1 + 1j if limit.dtype.kind == "c" else 1),
        )

    def test_missing_samples_are_means(self, small: str) -> None:
        """A constant x, of which a third is missing, has the results of the whole one, NaN where nothing is left."""
        case = subjects.small()[small]
        x = np.full(case.x.shape, 3, case.x.dtype)
        missing = np.less(np.random.default_rng(0).random(x.shape), 1 / 3)
        kernel = np.abs(case.kernel)
        case = case._replace(x=x, kernel=kernel, keywords=case.keywords | {"mode": "valid", "padding": None})
        result, whole = self.masked(case, missing), expected(case)
        error = np.where(np.isnan(result), 0, result - whole.final.astype(result.dtype))
        # All terms have one sign, so that errors are relative: of the sum, by its method; of two sums of weights, a
        # quotient and a product in float64; and of two roundings to the result's dtype.
        with ce.options(strict=True):  # as masks are computed
            _, chosen = self.explained(case)
        assert chosen.offer is not None
        few = (
            chosen.offer.error + gamma(2 * whole.taps + 2, unit_roundoff("float64")) + float(np.finfo(result.dtype).eps)
        )
        limit = few * (1 + few) * np.abs(whole.final.astype(result.dtype)).max() * np.ones(error.shape)
        self.require_near(f"{case.id} of a constant with gaps, and without,", error, limit)
        self.require(np.isnan(result).mean() < 0.2, f"leave out but what has no sample at all; got {result}")

    # ---- how they are asked

    def explained(self, case: Case, **more: Any) -> tuple[Explanation, Row]:
        """What explain says of a case that this backend runs, and the line that is chosen."""
        x = place(self.name, case.x)
        found = ce.explain(x, case.kernel, op=case.name, backend=self.name, **more, **case.keywords)
        self.require(found.chosen is not None, f"be chosen where it is the only one, and runs; got {found}")
        assert found.chosen is not None
        return found, found.chosen

    def offered(self, case: Case, **options: Any) -> list[str]:
        """The methods that may run a case under some options."""
        x = place(self.name, case.x)
        with ce.options(**options):
            found = ce.explain(x, case.kernel, op=case.name, backend=self.name, **case.keywords)
        return [row.method for row in found.rows if row.offer is not None]

    def masked(self, case: Case, missing: Array) -> Array:
        """The result without the missing samples; skips the test where the backend refuses, or runs elsewhere."""
        self.on_host(case)
        return np.asarray(self.call(case, mask=missing))


def _spatial_axes(case: Case, reference: Reference) -> tuple[int, ...]:
    """The result's axes that are filtered."""
    n, rank = int(case.name[4]), reference.final.ndim
    if "axes" in case.keywords:
        return tuple(case.keywords["axes"])
    last = rank - 1 if case.keywords.get("channel_axis") == -1 else rank
    return tuple(range(last - n, last))
