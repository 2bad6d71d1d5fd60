"""The benchmark: what it measures, how it checks, what it prints, and what becomes of libraries that break down.

No test says how fast anything is.
"""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import bench
from convengine.bench import chart, checking, rounds
from convengine.bench.checking import Reference, require
from convengine.bench.contest import direct, fft
from convengine.bench.contestants import Contestant
from convengine.bench.peers import PEERS, Peer
from convengine.bench.processes import Broken, Failed, Process
from convengine.bench.results import Comparison, Entry, Spread, growth, lead
from convengine.bench.suites import SUITES, Suite
from convengine.bench.tasks import Task
from convengine.bench.timing import measure
from convengine.native import cpu, limits

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import RUNNER, application, done, leftovers, refused

SMALL = Task("image", (24, 17), (3, 3), "float32")
TASKS = [
    SMALL,
    Task("image", (24, 17), (4, 5), "float64"),
    Task("image", (24, 17), (3, 5), "uint8"),
    Task("gaussian", (24, 17), (5, 5), "float32"),
    Task("signal", (99,), (16,), "float32"),
]
FAKES = {
    name: Peer(f"bench_peers:{name.capitalize()}", ("numpy",), name)
    for name in ("right", "chatty", "wrong", "refuses", "raises", "dies", "unloadable")
} | {"absent": Peer("bench_peers:Absent", ("no_such_module",), "no-such-package")}


@pytest.fixture
def fakes():
    """Take the fakes for the libraries."""
    known = dict(PEERS)
    PEERS.clear()
    PEERS.update(FAKES)
    yield
    PEERS.clear()
    PEERS.update(known)


def running(pid):
    """The state of a process as the system writes it, or None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


def comes_to(pid, states, seconds=20):
    """Whether a process comes to one of these states in time."""
    until = time.monotonic() + seconds
    while (state := running(pid)) not in states and time.monotonic() < until:
        time.sleep(0.02)
    return state in states


def gone(pids):
    """Whether all processes end."""
    return all(comes_to(pid, (None, "Z")) for pid in pids)


def alone(name, limit=60.0):
    """One fake in its process."""
    return rounds.Arena(bench.Settings(1, limit=limit)), Contestant(name, f"bench_peers:{name.capitalize()}")


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


# Processes


def test_a_process_is_stopped_between_its_turns_and_gone_at_the_end():
    arena, right = alone("right")
    with arena:
        folder = arena.folder
        arena.place(SMALL)
        arena.ask(right, {"do": "modules", "task": SMALL.to_dict(), "folder": str(folder)})
        assert arena.versions == {"right": "Right 1.0"}
        pid = arena._processes["right"]._process.pid
        if Path("/proc").exists():
            assert comes_to(pid, ("T",))
    assert gone([pid])
    assert not folder.exists()


@pytest.mark.parametrize(("name", "kind", "text"), [
    ("raises", Failed, "RuntimeError: out of; order"),
    ("dies", Broken, "ended with exit code 3: fatal: core melted"),
    ("unloadable", Failed, "ImportError: libmissing.so: cannot open"),
    ("hangs", Broken, "gave no answer within 0.5 s"),
])  # fmt: skip
def test_what_breaks_down_says_how_and_the_next_request_finds_a_process(name, kind, text):
    arena, contestant = alone(name, limit=0.5 if name == "hangs" else 60)
    with arena:
        arena.place(SMALL)
        request = {"do": "modules", "task": SMALL.to_dict(), "folder": str(arena.folder)}
        for _ in range(2):
            with pytest.raises(Failed) as caught:
                arena.ask(contestant, request)
            assert str(caught.value) == text
        assert type(caught.value) is (kind if name != "unloadable" else Failed)


def test_an_unknown_entry_is_a_failure_with_its_reason():
    process = Process("bench_peers:Nobody", {}, 1, {})
    try:
        with pytest.raises(Broken, match=r"exit code 1: AttributeError: module 'bench_peers' has no attribute"):
            process.ask({"do": "hello"}, 60)
    finally:
        process.end()


def test_memory_is_what_a_call_takes_beyond_its_arrays():
    task = Task("image", (1024, 1024), (3, 3), "float32")
    arena, hungry = alone("hungry")
    with arena:
        found = arena.memory(task, hungry)
        assert (found["method"], found["reason"]) == ("hungry", "")
        assert (
            47 << 20 < found["bytes"] < 50 << 20
        )  # the system counts pages of each CPU apart, and adds them now and then
        (one,) = bench.our_contestants(["cython"], [])
        assert 0 <= arena.memory(task, one)["bytes"] < 48 << 20
        failed = arena.memory(task, Contestant("refuses", "bench_peers:Refuses"))
        assert (failed["bytes"], failed["reason"]) == (None, "ValueError: has no float32")


def test_our_methods_are_forced_one_by_one():
    cases = {"auto": ("convengine", ""), "fft": ("fft", "fft: "), "cython/direct": ("cython/direct", "cython: direct")}
    ours = bench.our_contestants(list(cases), [])
    assert [one.name for one in ours] == [name for name, _ in cases.values()]
    ours += [Contestant("no such", ours[0].entry, True, "avx2", {"backend": "cython", "method": "magic"})]
    levels = list(cpu.levels())
    ours += [one for one in bench.our_contestants(["cython"], levels)] if len(levels) > 1 else []
    suite = {"s": Suite("", (24,), (3,))}
    report = bench.Run(suite, ours, bench.Settings(1, rounds=1, seconds=1e-3)).report("", {}, lambda step: None)
    (one,) = report.comparisons
    found = {entry.name: entry for entry in one.entries}
    for name, method in cases.values():
        assert found[name].method.startswith(method)
        assert found[name].error <= 1
    assert found["no such"].status == "refused"
    assert found["no such"].reason.startswith("cython has no method 'magic' for this; it has 'direct, ")
    assert report.ok
    for level in levels if len(levels) > 1 else []:
        assert found[f"cython {level}"].method.endswith(level)
        assert one.flops[level]


# The command


def test_the_command_tells_who_is_right_wrong_broken_and_absent(fakes, tmp_path):
    json_file, picture = tmp_path / "all.json", tmp_path / "all.png"
    result = RUNNER.invoke(application, [
        "bench", "--sizes", "24", "--widths", "3,5", "--threads", "1", "--rounds", "3", "--seconds", "0.002",
        "--methods", "auto,cython/direct", "--json", str(json_file), "--plot", str(picture),
    ])  # fmt: skip
    assert result.exit_code == 1, result.output  # a wrong answer
    told = json.loads(json_file.read_text())
    assert set(told) == {
        *("command", "machine", "settings", "versions", "missing", "others", "comparisons", "summary", "memory"),
        *("limits", "regions", "ok"),
    }
    assert told["command"].startswith("convengine bench --sizes 24 --widths 3,5")
    assert (told["missing"], told["ok"]) == ({"absent": "pip install no-such-package"}, False)
    assert {name: told["versions"][name] for name in ("right", "chatty")} == {
        "right": "Right 1.0", "chatty": "Chatty 1.0"
    }  # fmt: skip
    assert [one["title"] for one in told["comparisons"]] == ["float32 24x24 * 3x3", "float32 24x24 * 5x5"]
    for one in told["comparisons"]:
        found = {entry["name"]: entry for entry in one["entries"]}
        assert {name: entry["status"] for name, entry in found.items()} == {
            "convengine": "ok", "cython/direct": "ok", "right": "ok", "chatty": "ok", "wrong": "wrong",
            "refuses": "refused", "raises": "failed", "dies": "failed", "unloadable": "failed",
        }  # fmt: skip
        assert len(found["right"]["seconds"]) == len(found["convengine"]["seconds"]) == 3
        assert found["right"]["routes"] == {"best": 3}
        assert [text.partition(":")[0] for text in found["right"]["skipped"]] == ["endless", "broken"]
        assert 0 < found["right"]["error"] <= 1
        assert one["best_peer"] in ("right", "chatty")
        assert len(one["limits"]["copy_seconds"]) == 3
        (rates,) = one["limits"]["flops"].values()
        assert len(rates) == 3
        ratio = found["convengine"]["best_peer_over_this"]
        assert ratio["least"] <= ratio["median"] <= ratio["most"]
    lines = result.stdout.splitlines()
    assert lines[0] == "chosen:"
    assert lines[1].split()[:4] == ["problem", "ours", "time", "method"]
    assert lines[2].startswith("float32 24x24 * 3x3  convengine ")
    assert " failed " in lines[2]
    assert " wrong " in lines[2]
    assert lines[3].split()[0] == "cython/direct"
    for text in (
        "chosen: convengine leads the best peer ",
        "wrong: wrong, float32 24x24 * 3x3: best: result ",
        "failed: dies, float32 24x24 * 5x5: ended with exit code 3: fatal: core melted",
        "failed: raises, float32 24x24 * 3x3: RuntimeError: out of; order",
        "not taking part: refuses: has no float32",
        "not installed: absent (pip install no-such-package)",
        "right (Right 1.0): best",
    ):
        assert any(line.startswith(text) for line in lines), text
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert leftovers(tmp_path) == []


def test_json_alone_and_the_suites_that_time_nothing():
    told = json.loads(done(
        "bench", "--suite", "limits", "--suite", "pool", "--suite", "memory", "--sizes", "64", "--widths", "3",
        "--seconds", "0.002", "--threads", "1", "--peers", "none", "--json", "-",
    ))  # fmt: skip
    assert told["comparisons"] == []
    assert {line["level"] for line in told["limits"]["peaks"]} == set(cpu.levels())
    assert all(line["flops"] > 0 for line in told["limits"]["peaks"])
    assert {line["nbytes"] for line in told["limits"]["copies"]} == {4 * 64 * 64}
    assert [line["pause"] for line in told["regions"]] == ["at once", "after 20 us", "after 1 ms, asleep"]
    (line,) = told["memory"]
    assert (line["title"], line["name"]) == ("float32 64x64 * 3x3", "convengine")


def test_tables_of_limits_memory_and_regions():
    result = RUNNER.invoke(application, [
        "bench", "--suite", "limits", "--suite", "pool", "--suite", "memory", "--sizes", "64", "--widths", "3",
        "--seconds", "0.002", "--threads", "1", "--peers", "none",
    ])  # fmt: skip
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    heads = ("memory beside x and out", "level", "copied", "parallel region")
    assert [line.startswith(head) for head in heads for line in lines].count(True) == 4
    assert lines[-1].startswith(f"convengine {ce.__version__}, ")


def test_the_command_refuses_before_it_works(tmp_path):
    assert "needed are whole numbers with commas between" in refused("bench", "--widths", "3,x")
    assert "needed are whole numbers" in refused("bench", "--sizes", "0")
    assert "needed is one of all, none, opencv" in refused("bench", "--peers", "matlab")
    assert "needed is one of auto, " in refused("bench", "--methods", "magic/direct")
    assert f"needed is one of {', '.join(cpu.levels())}" in refused("bench", "--isa", "mmx")
    assert "this process may use" in refused("bench", "--threads", "4096")
    assert "a signal must be as long as its kernel" in refused("bench", "--suite", "signals", "--sizes", "3")
    assert "has float32 and float64" in refused("bench", "--suite", "gaussian", "--dtypes", "uint8")
    assert "--plot draws times" in refused("bench", "--suite", "limits", "--plot", tmp_path / "a.png")
    assert "the picture is a PNG" in refused("bench", "--plot", tmp_path / "a.jpg")
    assert "there is no folder" in refused("bench", "--json", tmp_path / "no" / "a.json")


def test_a_long_run_says_so_first(monkeypatch, fakes):
    monkeypatch.setattr(bench.Run, "report", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    result = RUNNER.invoke(application, ["bench", "--suite", "direct", "--peers", "right"])
    assert result.exit_code == 130
    assert result.stderr.splitlines()[0].startswith("about 2 min or more: 225 turns and")


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def long_run(tmp_path):
    """A benchmark of many rounds that has begun, and its processes."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc to see processes")
    code = "from convengine.cli import main; main()"
    words = ["bench", "--sizes", "32", "--widths", "3", "--threads", "1", "--peers", "numpy", "--rounds", "100000",
             "--seconds", "0.01", "--json", "out.json", "--plot", "out.png"]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            until = time.monotonic() + 60
            while len(found := children(process.pid)) < 3 and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.5)
            yield process, found, tmp_path
        finally:
            process.kill()


def test_ctrl_c_ends_every_process_and_writes_nothing(long_run):
    process, workers, folder = long_run
    assert len(workers) == 3
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "convengine: interrupted"
    assert gone(workers)
    assert list(folder.iterdir()) == []


def test_a_killed_benchmark_leaves_no_process_behind(long_run):
    process, workers, _ = long_run
    process.kill()
    process.wait()
    assert gone(workers)


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


# The machine's limits


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("level", cpu.levels())
def test_every_level_multiplies(level, element):
    assert limits.flops(level, element, workers=2, seconds=1e-3) > 1e6


def test_limits_refuse():
    with pytest.raises(ValueError, match=r"level must be one that this CPU runs, .*; got 'mmx'"):
        limits.flops("mmx")
    with pytest.raises(ValueError, match="element must be float32 or float64; got 'int8'"):
        limits.flops(cpu.levels()[0], "int8")
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        limits.flops(cpu.levels()[0], workers=0)
    room = np.zeros(256, np.uint8)
    start = -room.ctypes.data % 64
    with pytest.raises(ValueError, match="one length; got 3 and 2 bytes"):
        limits.copy(room[:3], room[start : start + 2])
    with pytest.raises(ValueError, match="multiple of 64"):
        limits.copy(room[:3], room[start + 1 : start + 4])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("nontemporal", [False, True])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 1000, (1 << 17) + 5, 1 << 20])
def test_copies_copy(count, nontemporal, workers):
    if nontemporal and not limits.streams():
        pytest.skip("this CPU has no non-temporal stores here")
    room = np.zeros(count + 192, np.uint8)
    start = -room.ctypes.data % 64
    source = np.random.default_rng(0).integers(1, 255, count + 1, np.uint8)[1:]
    limits.copy(source, room[start : start + count], nontemporal=nontemporal, workers=workers)
    assert_array_equal(room[start : start + count], source)
    assert not room[:start].any()
    assert not room[start + count :].any()


def test_regions_are_counted():
    assert len(limits.region(2, idle=1e-5, work=1e-5, repeats=4)) == 4
