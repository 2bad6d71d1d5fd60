"""The CUDA kernels of the backend cupy, on the host: every variant that the cases call for runs, as C++.

A compiler of the host takes the text that NVRTC would take; cuda_on_host.h stands for CUDA. Which addresses are read
and written, and how often, is looked at; what a GPU makes of the text is not: see test_a_gpu... in test_cupy.py.
"""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from convengine_cupy import direct
from convengine_cupy.variants import Variant
from cuda_on_host import COMPILER, Library
from device_arrays import XP, Array, as_user, bound_holds, canonical, on_device, problems

from convengine.boundary import Boundary
from convengine.reading import Reading
from convengine.testing.cases import Case
from convengine.testing.oracle import Reference

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler, g++ or clang++, on the PATH")


def prepared(reading: Reading, load: Any) -> direct.Filter:
    return direct.prepare(reading.problem, reading.kernel, reading.bias, load, XP)


def suited() -> list[tuple[Case, Reading, Reference]]:
    return [entry for entry in problems() if not direct.refusal(entry[1].problem)]


class Wanted:
    """Stands for a library that is not compiled yet: notes which variants are asked for."""

    def __init__(self) -> None:
        self.variants: dict[Variant, None] = {}

    def load(self, variant: Variant) -> Any:
        self.variants[variant] = None
        return lambda grid, block, arguments: arguments[1].fill(0)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    wanted = Wanted()
    for case, reading, _ in suited():
        ask(reading, case, wanted.load)
    return Library(wanted.variants, tmp_path_factory.mktemp("variants"))


def ask(reading: Reading, case: Case, load: Any) -> Array:
    out = on_device(np.zeros(reading.problem.out_shape, reading.problem.out_dtype))
    assert prepared(reading, load)(canonical(reading, case.x), out) is out
    return out


def test_every_answer_lies_within_its_bound(library: Library) -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in suited():
        bound_holds(case.id, as_user(reading, ask(reading, case, library.load)), expected)
        problem = reading.problem
        seen.update(["all", problem.sum_dtype.kind, problem.ndim, *problem.boundary])
    assert seen["all"] >= 200
    assert all(seen[trait] >= 10 for trait in ("i", "f", 1, 2, 3, *Boundary))
