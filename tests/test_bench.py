"""The benchmark: what it measures, how it checks, what it makes of the times.

No test says how fast anything is.
"""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce
from convengine.bench import chart, checking
from convengine.bench.checking import Reference, require
from convengine.bench.contest import direct, fft
from convengine.bench.peers import PEERS
from convengine.bench.results import Comparison, Entry, Spread, growth, lead
from convengine.bench.suites import SUITES, Suite
from convengine.bench.tasks import Task
from convengine.bench.timing import measure

SMALL = Task("image", (24, 17), (3, 3), "float32")
TASKS = [
    SMALL,
    Task("image", (24, 17), (4, 5), "float64"),
    Task("image", (24, 17), (3, 5), "uint8"),
    Task("gaussian", (24, 17), (5, 5), "float32"),
    Task("signal", (99,), (16,), "float32"),
]


# What is measured


@pytest.mark.parametrize("name", SUITES)
def test_suites_hold_tasks_that_can_be(name):
    suite = SUITES[name]
    for task in suite.tasks():
        assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task
        assert task.dtype == suite.dtypes[0]
        assert all(k <= n for n, k in zip(task.shape, task.kernel_shape, strict=True))
    assert suite.tasks() or suite.measure in ("limits", "pool")


def test_a_suite_takes_other_sizes_widths_and_dtypes():
    tasks = SUITES["direct"].narrowed([32], [], ["float64"]).tasks()
    assert [str(task) for task in tasks] == [f"float64 32x32 * {k}x{k}" for k in (3, 5, 7, 9, 11)]
    assert [str(task) for task in Suite("", (20, 50), (15, 30), kind="signal").tasks()] == [
        *("float32 20 * 15", "float32 50 * 15", "float32 50 * 30")
    ]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_arrays_are_the_same_in_every_process(task):
    x, kernel = task.arrays()
    assert (x.shape, kernel.shape, x.dtype) == (task.shape, task.kernel_shape, task.dtype)
    for array, again in zip((x, kernel), task.arrays(), strict=True):
        assert_array_equal(array, again)
    if not task.is_float:
        assert int(x.max()) * int(np.abs(kernel).sum(dtype=int)) < 2**24  # exact in float32, too


def test_a_gaussian_is_the_product_of_its_factors_and_not_more():
    _, kernel = Task("gaussian", (9, 9), (5, 7), "float64").arrays()
    assert kernel.sum() == pytest.approx(1)
    assert np.linalg.matrix_rank(kernel) == 1


class Clock:
    """A clock that only calls move."""

    def __init__(self, *steps):
        self.now, self.steps, self.calls = 0.0, list(steps), 0

    def __call__(self):
        return self.now

    def call(self):
        self.now += self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1


def test_timing_takes_the_median_after_the_first_calls():
    clock = Clock(5.0, 0.02, 0.02, 0.02, 0.1, 0.02)
    timing = measure(clock.call, 0.2, clock)
    assert (timing.seconds, timing.calls) == (pytest.approx(0.02), clock.calls - 1)


def test_timing_takes_one_call_of_slow_ones_and_batches_of_fast_ones():
    slow = Clock(2.0)
    assert measure(slow.call, 0.2, slow).calls == 1
    assert slow.calls == 2
    fast = Clock(1e-6)
    timing = measure(fast.call, 0.01, fast)
    assert (timing.seconds, timing.calls % 100 in (0, 99)) == (pytest.approx(1e-6), True)


# What is right


@pytest.mark.parametrize("products", [np.inf, 0], ids=["direct", "by FFT"])
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_right_result_is_within_its_bound_and_a_neighbours_is_not(monkeypatch, task, products):
    monkeypatch.setattr(checking, "DIRECT_PRODUCTS", products)
    x, kernel = task.arrays()
    reference = Reference.of(task, x, kernel)
    how = {} if task.is_float else {"dtype": task.dtype}
    y = getattr(ce, task.operation)(x, kernel, mode="same", boundary=task.boundary, backend="cython", **how)
    assert require(task, reference, y, direct(task)) <= 1
    for bound in (direct(task), fft(task)):
        with pytest.raises(AssertionError, match="times what its bound allows"):
            require(task, reference, np.roll(y, 1, -1), bound)
    with pytest.raises(AssertionError, match="the result must be"):
        require(task, reference, y[..., :-1], direct(task))
    if not task.is_float:
        y[0, 0] += 1
        with pytest.raises(AssertionError, match=r"result \(0, 0\) must be"):
            require(task, reference, y, direct(task))


def test_an_error_just_beyond_its_bound_is_found():
    x, kernel = SMALL.arrays()
    reference = Reference.of(SMALL, x, kernel)
    allowed = reference.allowed(direct(SMALL), "float32")
    y = reference.value.astype(np.float32)
    assert require(SMALL, reference, y, direct(SMALL)) <= 1
    y[5, 7] += np.float32(1.5 * allowed[5, 7])
    with pytest.raises(AssertionError, match=r"result \(5, 7\) must be"):
        require(SMALL, reference, y, direct(SMALL))
    y[5, 7] = np.nan
    with pytest.raises(AssertionError, match="got nan"):
        require(SMALL, reference, y, direct(SMALL))


def test_factors_are_allowed_what_they_differ_by_and_no_more():
    task = Task("gaussian", (24, 17), (5, 5), "float64")
    x, kernel = task.arrays()
    reference = Reference.of(task, x, kernel)
    rows, columns = (weights.astype(np.float32).astype(float) for weights in task.factors())
    other = ce.corr2d(x, np.outer(rows, columns), mode="same", boundary="reflect")
    assert require(task, reference, other, direct(task, 10, (rows, columns))) <= 1
    with pytest.raises(AssertionError):
        require(task, reference, other, direct(task, 10))


@pytest.mark.parametrize("name", PEERS)
def test_every_route_of_every_peer_is_within_its_bound(name):
    peer = PEERS[name]
    if peer.missing:
        pytest.skip(f"{name} is not installed (pip install {peer.install})")
    script = Path(__file__).with_name("bench_routes.py")
    environment = {**os.environ, **peer.environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run([sys.executable, script, peer.entry], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told.pop("version")
    fractions = [list(routes.values()) for routes in told.values() if isinstance(routes, dict)]
    assert fractions
    assert all(routes and max(routes) <= 1 for routes in fractions)
    assert all(len(reason) > 10 for reason in told.values() if isinstance(reason, str))


# What follows from the times


def compared(task=SMALL, **seconds):
    """A comparison from the rounds of each; "ours" is ours."""
    entries = [Entry(name, name.startswith("ours"), "avx2", list(rounds_)) for name, rounds_ in seconds.items()]
    return Comparison("s", task, entries, {"avx2": [1e9, 2e9, 1e9]}, [0.5, 0.5, 1.0], ["np.copyto"] * 3)


def test_ratios_are_of_the_same_round_and_of_the_best_peer_that_is_right():
    one = compared(ours=(1, 2, 4), slow=(9, 9, 9), fast=(3, 4, 4), wrong=(1e-9,) * 3)
    one.entries[3].end("wrong", "because")
    assert one.best_peer.name == "fast"
    assert one.ratio(one.ours[0]) == Spread(2, 1, 3)
    assert one.of_copy(one.ours[0]) == 0.25
    rate = 2 * SMALL.products
    assert one.of_flops(one.ours[0]) == pytest.approx(np.median([rate / 1e9, rate / 4e9, rate / 4e9]))
    assert one.ours[0].spread == 1.5
    told = one.to_dict()
    assert (told["best_peer"], told["entries"][0]["best_peer_over_this"]["median"]) == ("fast", 2)
    assert told["entries"][3]["spread"] is None
    json.dumps(told, allow_nan=False)


def test_leads_and_the_cost_of_twice_the_samples():
    sizes = [Task("image", (n, n), (5, 5), "float32") for n in (16, 32, 64)]
    comparisons = [compared(task, ours=(t,) * 3, peer=(2 * t * f,) * 3)
                   for task, t, f in zip(sizes, (1, 4, 25), (1, 2, 4), strict=True)]  # fmt: skip
    found = lead(comparisons, "ours")
    assert (found.least, found.least_at, found.tasks) == (2, str(sizes[0]), 3)
    assert found.mean == pytest.approx(4)
    cost, at = growth(comparisons, "ours")
    assert (cost, at) == (pytest.approx(2.5), "1024 to 4096 samples")
    assert lead([compared(ours=(1,))], "ours") is None
    assert growth(comparisons[:1], "ours") is None


# The picture


def test_the_picture_has_a_panel_for_each_shape_and_a_line_for_everybody():
    pytest.importorskip("matplotlib", reason="pictures need pip install 'convengine[cli]'")
    tasks = [Task("image", (n, n), (k, k), "float32") for n in (16, 32) for k in (3, 5, 9)]
    comparisons = [compared(task, ours=(1.0,), peer=(2.0 * task.taps,), gone=()) for task in tasks]
    drawn = chart.figure(comparisons)
    assert [axis.get_title() for axis in drawn.axes] == ["image, float32, 16 x 16", "image, float32, 32 x 32"]
    for axis in drawn.axes:
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == ["ours", "peer", "fastest copy", "direct at peak"]
        assert lines["peer"].get_xydata().tolist() == [[k, 2.0 * k * k] for k in (3, 5, 9)]
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        assert {text.get_text() for text in axis.texts} == set(lines)
        assert len({line.get_color() for line in list(lines.values())[:2]}) == 2


def test_tasks_of_one_kernel_are_drawn_over_their_sizes():
    pytest.importorskip("matplotlib", reason="pictures need pip install 'convengine[cli]'")
    tasks = [Task("image", (n, n), (5, 5), "float32") for n in (16, 64, 32)]
    (axis,) = chart.figure([compared(task, ours=(float(task.samples),)) for task in tasks]).axes
    assert axis.get_title() == "image, float32, kernel 5 x 5"
    assert axis.lines[0].get_xydata().tolist() == [[n, n * n] for n in (16, 32, 64)]


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.9, 0.99, 1.0], [0.0, 0.01], [0.2], []])
def test_labels_never_lie_on_each_other(heights):
    placed = chart._apart(heights)
    assert len(placed) == len(heights)
    assert all(b - a >= chart.GAP - 1e-9 for a, b in pairwise(placed))
    assert all(height <= 1 for height in placed)
