"""The benchmark's processes: their turns, memory and methods; what becomes of those that break down or are ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convengine import bench
from convengine.bench import rounds
from convengine.bench.contestants import Contestant
from convengine.bench.processes import Broken, Failed, Process
from convengine.bench.suites import Suite
from convengine.bench.tasks import Task
from convengine.native import cpu

SMALL = Task("image", (24, 17), (3, 3), "float32")


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


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def long_run(tmp_path):
    """A benchmark of many rounds that has begun, and its processes."""
    pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
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
            time.sleep(0.5)  # into the rounds
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
