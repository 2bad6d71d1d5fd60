"""What methods offer to need beside x and the result, against the peak of a process that calls them."""

import sys

import pytest

import convengine as ce
from convengine.bench.contestants import our_contestants
from convengine.bench.rounds import Arena, Settings
from convengine.bench.tasks import Task

TASKS = [
    Task("image", (700, 700), (3, 3), "float32"),
    Task("image", (700, 700), (45, 45), "float32"),
    Task("image", (256, 256), (255, 255), "float64"),
    Task("image", (700, 700), (7, 7), "uint8"),
    Task("gaussian", (700, 700), (31, 31), "float64"),
    Task("signal", (500_000,), (4095,), "float64"),
]
NOISE = 256 << 10  # bytes that a process takes or not, whatever it computes


@pytest.fixture(scope="module")
def arena():
    """Processes of two threads, one for each method."""
    with Arena(Settings(threads=2)) as made:
        yield made


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("method", ["cython/direct", "cython/separable", "fft", "scipy/ndimage"])
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_no_method_needs_a_tenth_more_than_it_offered(arena, task, method):
    (contestant,) = our_contestants([method], [])
    found = arena.memory(task, contestant)
    if found["reason"]:
        pytest.skip(found["reason"])  # the method refuses the task, which says why
    backend, _, name = method.partition("/")
    how = {"mode": "same", "boundary": task.boundary, "backend": backend, "workers": 2}
    how |= {} if task.is_float else {"dtype": task.dtype}
    rows = ce.explain(*task.arrays(), op=task.operation, **how).rows
    offered = next(row.offer.memory for row in rows if row.offer and row.method.startswith(name))
    assert found["bytes"] <= 1.1 * offered + NOISE
