"""The thread pool: regions, signals and forks in them; the scratch memory of each thread."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from convengine.native import pool

# Python 3.12 and later warn of any fork beside threads; that it is safe with the pool's is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .*is multi-threaded:DeprecationWarning")


@pytest.fixture(autouse=True)
def _alone() -> None:
    if "jax" in sys.modules:  # whose threads no fork survives, and whose memory comes and goes
        pytest.skip("JAX is loaded in this process; run this file by itself")


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or limits memory as Linux does")
plain_memory = pytest.mark.skipif(
    sys.platform == "linux" and "/libasan" in Path("/proc/self/maps").read_text(),
    reason="AddressSanitizer ends a process that runs out of memory, and keeps what was freed",
)


# ---- the pool


def exercise(items: int, workers: int, milliseconds: float = 0.0, inner: int = 0) -> set[int]:
    """Run a region, prove that it kept its contract, and tell which workers took part."""
    counts, seen, clashes, inner_runs = pool._exercise(items, workers, milliseconds, inner=inner)
    assert counts == b"\1" * items
    assert clashes == 0
    assert inner_runs == items * inner
    assert set(seen) <= set(range(max(workers, 1)))
    return set(seen)


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true within ten seconds, however busy the machine is."""
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def in_child(action: Callable[[], None]) -> None:
    """Run an action in a forked child, and fail if it fails or hangs there."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    ends: list[int] = []

    def ended() -> bool:
        done, status = os.waitpid(pid, os.WNOHANG)
        ends.extend([status] if done else [])
        return bool(done)

    if not eventually(ended):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pytest.fail("the child hung")
    assert os.waitstatus_to_exitcode(ends[0]) == 0


@contextmanager
def busy_pool() -> Iterator[None]:
    """Have another thread in a region of its own for as long as the block runs."""
    counts, held = bytearray(3), bytearray(b"\1")
    with ThreadPoolExecutor(1) as executor:
        region = executor.submit(pool._exercise, len(counts), 3, counts=counts, held=held)
        try:
            assert eventually(lambda: sum(counts) > 0)
            yield
            assert not region.done()
        finally:
            held[0] = 0
        assert region.result()[0] == b"\1" * len(counts)


@pytest.mark.parametrize(
    ("items", "workers"), [(0, 4), (1, 4), (2, 4), (7, 1), (3, 8), (1000, 2), (5000, 5), (5, 0), (5, -3)]
)
def test_each_item_runs_once(items: int, workers: int) -> None:
    for _ in range(5):
        exercise(items, workers)


def test_a_record_of_the_wrong_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="one byte for each of 5 items; got 4"):
        pool._exercise(5, 2, counts=bytearray(4))


def test_threads_are_hired_when_a_region_asks_for_them() -> None:
    def sizes() -> None:
        assert pool.size() == 0  # a child of a fork has none
        exercise(1, 8)
        exercise(9, 1)
        assert pool.size() == 0
        exercise(3, 9)
        assert pool.size() == 2
        exercise(50, 2)
        assert pool.size() == 2
        exercise(50, 6)
        assert pool.size() == 5

    in_child(sizes)


def test_all_workers_take_part_also_after_a_sleep() -> None:
    def all_take_part(workers: int) -> bool:
        return exercise(60, workers, 1.0) == set(range(workers))

    for pause in (0, 0.02):
        time.sleep(pause)
        for workers in (2, 3, 7):
            assert eventually(partial(all_take_part, workers))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("pause", [0.0, 1e-3])
def test_what_a_region_costs_can_be_measured(pause: float, together: bool) -> None:
    seconds = pool.overhead(2, pause_seconds=pause, together=together, regions=20)
    assert len(seconds) == 20
    assert all(0 < second < 1 for second in seconds)


def test_a_nested_region_runs_on_its_caller() -> None:
    for workers in (1, 2, 5):
        exercise(40, workers, 0.1, inner=10)


def test_a_region_beside_another_runs_on_its_caller() -> None:
    with busy_pool():
        for _ in range(10):
            assert exercise(5, 3, 0.1) == {0}


def test_many_threads_may_call_at_once() -> None:
    def calls() -> None:
        for items in range(40):
            exercise(items, 3, inner=items % 3)

    with ThreadPoolExecutor(6) as executor:
        for future in [executor.submit(calls) for _ in range(6)]:
            future.result()


class Alarm(Exception):
    pass


def ring(_number: int, _frame: FrameType | None) -> None:
    raise Alarm


@contextmanager
def alarm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Send this process one signal in a few hundredths of a second."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_signal_handler_that_raises_stops_the_region(workers: int) -> None:
    counts = bytearray(5000)
    with alarm(ring), pytest.raises(Alarm):
        pool._exercise(len(counts), workers, 1.0, counts=counts)
    left = bytes(counts)
    assert 0 < sum(left) < len(left)
    time.sleep(0.01)
    assert bytes(counts) == left, "items ran on after the call had returned"
    exercise(100, workers, 0.1)


def test_a_signal_stops_a_region_that_found_the_pool_busy() -> None:
    counts = bytearray(5000)
    with busy_pool(), alarm(ring), pytest.raises(Alarm):
        pool._exercise(len(counts), 3, 1.0, counts=counts)
    assert 0 < sum(counts) < len(counts)


def test_a_signal_handler_that_returns_does_not_disturb_the_region() -> None:
    heard = []
    with alarm(lambda number, _frame: heard.append((number, exercise(20, 3)))):
        exercise(300, 3, 1.0)
    assert heard == [(signal.SIGALRM, {0})]  # and a region that the handler starts is a nested one


def test_control_c_stops_a_region() -> None:
    def interrupted() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            pool._exercise(20_000, 3, 1.0)

    in_child(interrupted)


def test_a_region_outside_the_main_thread_leaves_signals_to_it() -> None:
    heard: list[int] = []
    with ThreadPoolExecutor(1) as executor, alarm(lambda number, _frame: heard.append(number)):
        executor.submit(exercise, 200, 3, 1.0).result()
        assert eventually(lambda: heard == [signal.SIGALRM])


def test_a_region_outside_the_main_thread_never_waits_for_the_gil() -> None:
    counts, interval = bytearray(30), sys.getswitchinterval()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(pool._exercise, len(counts), 1, 3.0, counts=counts)
        assert eventually(lambda: counts[0] == 1)
        try:
            sys.setswitchinterval(100)  # from here on this thread keeps the GIL
            end = time.monotonic() + 10
            while counts[-1] == 0 and time.monotonic() < end:
                pass
            assert counts[-1] == 1
        finally:
            sys.setswitchinterval(interval)


def begin_anew() -> None:
    assert pool.size() == 0
    exercise(50, 3, 0.1)
    assert pool.size() == 2


def test_a_forked_child_hires_its_own_threads() -> None:
    exercise(50, 3, 0.1)
    for _ in range(5):
        in_child(begin_anew)
    exercise(50, 3, 0.1)


def test_a_child_forked_during_a_region_is_free_to_compute() -> None:
    with busy_pool():
        for _ in range(3):
            in_child(begin_anew)


def test_a_grandchild_may_compute_too() -> None:
    def child() -> None:
        begin_anew()
        in_child(begin_anew)
        with busy_pool():
            in_child(begin_anew)
        exercise(50, 3, 0.1)

    exercise(50, 3, 0.1)
    in_child(child)


def test_a_fork_inside_a_region_is_an_error_in_the_child_alone() -> None:
    def child() -> None:
        forked: list[int] = []
        with alarm(lambda _number, _frame: forked.append(os.fork())):
            try:
                exercise(300, 3, 1.0)
            except RuntimeError as error:
                assert forked == [0]
                assert "this process was forked, by a signal handler" in str(error)
                begin_anew()
                os._exit(0)
        assert forked != [0]
        assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == 0

    in_child(child)


@linux
@plain_memory
def test_a_region_goes_on_when_the_system_gives_no_more_threads() -> None:
    def starved() -> None:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**22
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        exercise(500, 200, 0.1)
        assert pool.size() < 199  # each thread's stack needs megabytes

    in_child(starved)


def helpers() -> dict[str, str]:
    """The status of each thread of this process but the calling one, as Linux shows it."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(threading.get_native_id())]
    return {task.name: (task / "status").read_text() for task in tasks}


@linux
def test_idle_helpers_sleep_and_signals_never_reach_them() -> None:
    def child() -> None:
        others = helpers().keys()  # OpenBLAS starts threads of its own in a child

        def ours() -> list[str]:
            return [status for name, status in helpers().items() if name not in others]

        exercise(50, 4, 0.1)
        assert len(ours()) == 3
        assert eventually(lambda: all("State:\tS" in status for status in ours()))
        for status in ours():
            blocked = int(next(x for x in status.splitlines() if x.startswith("SigBlk")).split()[1], 16)
            for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD):
                assert blocked >> (number - 1) & 1

    in_child(child)


# ---- scratch memory


def test_scratch_is_aligned_kept_and_grown() -> None:
    def scratches() -> None:
        small = pool._scratch(1000)
        assert small % 64 == 0
        ctypes.memset(small, 1, 1000)
        assert pool._scratch(10) == pool._scratch(0) == pool._scratch(1000) == small
        large = pool._scratch(1 << 20)
        assert large % 64 == 0
        ctypes.memset(large, 1, 1 << 20)
        assert pool._scratch(1000) == large

    with ThreadPoolExecutor(1) as executor:  # a thread that has none yet
        executor.submit(scratches).result()


def test_scratch_of_no_bytes_is_not_the_sign_of_no_memory() -> None:
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(pool._scratch, 0).result() != 0


@plain_memory
@pytest.mark.parametrize("bytes_", [2**62, 2**64 - 1])
def test_scratch_tells_when_there_is_no_memory(bytes_: int) -> None:
    assert pool._scratch(bytes_) == 0
    address = pool._scratch(100)
    assert address != 0
    ctypes.memset(address, 1, 100)


def test_each_thread_has_its_own_scratch() -> None:
    together = threading.Barrier(4)

    def address() -> int:
        together.wait(10)
        mine = pool._scratch(100)
        together.wait(10)
        return mine

    with ThreadPoolExecutor(4) as executor:
        assert len({future.result() for future in [executor.submit(address) for _ in range(4)]}) == 4


FREED = """
import ctypes, os, threading
from pathlib import Path
from convengine.native import pool

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

def touch():
    ctypes.memset(pool._scratch(1 << 24), 1, 1 << 24)

before = resident()
for _ in range(16):
    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()
print(resident() - before)
"""


@linux
@plain_memory
def test_scratch_is_freed_when_its_thread_ends() -> None:
    # In a process of its own: what other tests have left to the allocator would count, too.
    ran = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 4 << 24
