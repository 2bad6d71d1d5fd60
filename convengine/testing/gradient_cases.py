"""The problems of the contract for gradients: forward problems, with random gradients of their results."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from convengine.testing import subjects
from convengine.testing.arguments import Array
from convengine.testing.cases import Case, covering_cases
from convengine.testing.oracle import reference

__all__ = ["grad_input_cases", "grad_kernel_cases"]

RNG_SEED = 31
DTYPES = {"b": ("uint8",), "u": ("uint8", "uint16"), "i": ("int8", "int32"), "f": ("float32", "float64", "float16")}
WORK = 10**9  # products of a sample of x and one of dy: a plain filter may compute them all for the kernel's gradient


def _forward() -> Iterable[tuple[int, Case]]:
    """Of the covering cases, and of those that are large, hold NaN and infinities, or have delicate shapes."""
    others = [case for source in (subjects.large, subjects.poisoned, subjects.delicate) for case in source().values()]
    return enumerate([*covering_cases(), *others])


def _gradient(rng: np.random.Generator, case: Case) -> Array:
    """Random gradients of a case's results."""
    answer = reference(case.name, case.x, case.kernel, **case.keywords)
    kind = answer.sum_dtype.kind
    shape = answer.value.shape
    if kind == "i":
        dtype = str(rng.choice(DTYPES[np.asarray(case.x).dtype.kind]))
        return rng.integers(0 if dtype[0] == "u" else -9, 9, shape).astype(dtype)
    dy = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind == "c" else 0)
    if case.id.endswith(("-nan", "-inf")) and dy.size:
        dy.flat[int(rng.integers(dy.size))] = np.nan if case.id.endswith("nan") else np.inf
    if kind == "c":
        return dy.astype(answer.sum_dtype)
    # Whatever came forward, the gradient may come in another width.
    return dy.astype(answer.sum_dtype if rng.random() < 0.6 else rng.choice(DTYPES["f"]))


def _keywords(case: Case, complex_sum: bool) -> dict[str, Any]:
    """The forward keywords, without a dtype that holds too little for a sum of gradients."""
    keywords = dict(case.keywords)
    if np.dtype(keywords.get("dtype", "f8")).kind in "iu" or complex_sum or keywords.get("dtype") == "float16":
        keywords.pop("dtype", None)
        keywords.pop("overflow", None)
    return keywords


@cache
def grad_input_cases() -> dict[str, Case]:
    """Problems of the gradient of x, by id; every second of the forward ones."""
    rng, cases = np.random.default_rng(RNG_SEED), []
    for number, case in _forward():
        if number % 2 == 0:
            dy = _gradient(rng, case)
            keywords = _keywords(case, dy.dtype.kind == "c") | {"x_shape": np.shape(case.x)}
            cases.append(Case(f"input-{case.id}", f"{case.name}_grad_input", dy, case.kernel, keywords))
    return {case.id: case for case in cases}


@cache
def grad_kernel_cases() -> dict[str, Case]:
    """Problems of the gradient of the kernel, by id; the other half of the forward ones."""
    rng, cases = np.random.default_rng(RNG_SEED + 1), []
    for number, case in _forward():
        if number % 2 == 1:
            dy = _gradient(rng, case)
            if dy.size * np.size(case.x) > WORK:
                continue
            keywords = _keywords(case, dy.dtype.kind == "c") | {"kernel_shape": np.shape(case.kernel)}
            cases.append(Case(f"kernel-{case.id}", f"{case.name}_grad_kernel", case.x, dy, keywords))
    return {case.id: case for case in cases}
