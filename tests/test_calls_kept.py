"""What is kept of calls that came before: how many, for how long, and beside whom; the table that keeps them."""

import gc
import os
import subprocess
import sys
import textwrap
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import numpy as np
import pytest
from warm_calls import K, X, warmed

import convengine as ce
from convengine import api
from convengine.native.calls import Table
from convengine.plugin import WORKERS, Declined

pytestmark = pytest.mark.usefixtures("cold")


class TestKeeping:
    def test_clear_cache_forgets(self, ways):
        warmed(lambda: ce.corr2d(X, K))
        assert len(api._warm) == 1
        ce.clear_cache()
        assert len(api._warm) == 0
        ways.clear()
        ce.corr2d(X, K)
        assert len(ways) == 1

    def test_no_array_of_the_users_lives_on(self):
        arrays = [X.copy(), K.copy(), np.zeros((10, 12), np.float32), np.ones(1)]
        watched = [weakref.ref(array) for array in arrays]
        warmed(lambda: ce.corr2d(arrays[0], arrays[1], out=arrays[2], bias=arrays[3]))
        assert len(api._warm) == 1
        arrays.clear()
        gc.collect()
        assert [reference() for reference in watched] == [None] * 4

    def test_kernels_without_end(self):
        most = 0
        for number in range(1500):
            kernel = np.full((60, 60), number, np.float32)
            for _ in range(2):
                ce.corr2d(np.ones((60, 60), np.float32), kernel)
            most = max(most, len(api._warm))
        assert 100 < most < 1500

    def test_threads_with_kernels_of_their_own(self):
        kernels = [np.full((3, 2), number, np.float32) for number in range(8)]
        wanted = [ce.corr2d(X, kernel, out=np.zeros((10, 12), np.float32)) for kernel in kernels]

        def work(first):
            for turn in range(400):
                at = (first + turn) % 8
                if turn % 100 == 99:
                    ce.clear_cache()
                out = np.empty((10, 12), np.float32) if turn % 2 else None
                np.testing.assert_array_equal(ce.corr2d(X, kernels[at], out=out), wanted[at])

        with ThreadPoolExecutor(6) as executor:
            for future in [executor.submit(work, first) for first in range(6)]:
                future.result()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_forked_child_starts_empty_and_computes(self):
        code = """
            import os, threading, warnings, numpy as np, convengine as ce
            from convengine import api
            warnings.simplefilter("ignore")
            x, k, stop = np.ones((4, 4)), np.ones((2, 2)), threading.Event()
            def work():
                while not stop.is_set():
                    ce.corr2d(x, k)
                    ce.corr2d(x, np.random.rand(2, 2))
            threads = [threading.Thread(target=work) for _ in range(4)]
            [t.start() for t in threads]
            for _ in range(5):
                ce.corr2d(x, k)
            assert len(api._warm)
            for _ in range(30):
                pid = os.fork()
                if pid == 0:
                    assert len(api._warm) == 0
                    assert [ce.corr2d(x, k)[0, 0] for _ in range(4)] == [4.0] * 4
                    assert len(api._warm) == 1
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            stop.set()
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


class TestTable:
    """The table itself, with filters made up here."""

    def table(self, limit=1 << 20):
        context = ContextVar("context", default=0)
        return Table(
            context=context,
            workers=WORKERS,
            settings={"_process": 0},
            environment={},
            names=("A",),
            logs=lambda level: False,
            defaults=("", None),
            limit=limit,
        )

    def keep(self, table, kernel, filter_, workers=None, nbytes=1000):
        table.keep(
            X, kernel, None, None, ("one", None), standing=(0, 0, None), filter=filter_, settle=self.settle,
            out_shape=(2,), out_dtype=np.dtype(float), axes=None, workers=workers, nbytes=nbytes,
        )  # fmt: skip

    def settle(self, returned, target):
        target[:] = returned

    def test_workers_are_set_for_the_filter_alone(self):
        seen, table = [], self.table()
        self.keep(table, K, lambda x, out: (seen.append(WORKERS.get()), out)[1], workers=7)
        assert table.run(X, K, None, None, "one", None).shape == (2,)
        assert (seen, WORKERS.get()) == ([7], None)

    def test_a_filters_own_array_is_copied(self):
        table = self.table()
        self.keep(table, K, lambda x, out: np.array([1.0, 2.0]))
        assert table.run(X, K, None, None, "one", None).tolist() == [1.0, 2.0]

    @pytest.mark.parametrize("error", [Declined("no"), ValueError(), MemoryError(), SystemExit()])
    def test_what_fails_is_forgotten(self, error):
        def fails(x, out):
            raise error

        table = self.table()
        self.keep(table, K, fails, workers=3)
        assert len(table) == 1
        assert table.run(X, K, None, None, "one", None) is None
        assert (len(table), WORKERS.get()) == (0, None)

    def test_an_interrupt_is_not_caught(self):
        def interrupted(x, out):
            raise KeyboardInterrupt

        table = self.table()
        self.keep(table, K, interrupted)
        with pytest.raises(KeyboardInterrupt):
            table.run(X, K, None, None, "one", None)

    def test_bytes_are_bounded(self):
        table = self.table(limit=20_000)
        for number in range(100):
            self.keep(table, np.full(3, number), print)
            assert len(table) <= 19
        self.keep(table, K, print, nbytes=2000)
        assert table.run(X, K, None, None, "two", None) is None
        before = len(table)
        self.keep(table, np.zeros(200), print)
        assert len(table) == before

    def test_a_call_is_kept_once(self):
        table = self.table()
        for _ in range(3):
            self.keep(table, K, print)
        assert len(table) == 1

    def test_kernels_of_one_digest_are_told_apart(self):
        def mixed(seed, word):
            seed = (seed ^ word) * 0x9E3779B97F4A7C15 % 2**64
            return seed ^ (seed >> 29)

        kernels = np.array([[1, 2], [3, 0]])
        seed = 0
        for word in (X.dtype.num, *(2, *X.shape), kernels.dtype.num, *(1, 2)):
            seed = mixed(seed, word)
        kernels.view(np.uint64)[1, 1] = 2 ^ mixed(seed, 1) ^ mixed(seed, 3)
        table = self.table()
        self.keep(table, kernels[0], lambda x, out: np.array([0.0, 1.0]))
        assert table.run(X, kernels[0], None, None, "one", None).tolist() == [0.0, 1.0]
        assert table.run(X, kernels[1], None, None, "one", None) is None

    def test_calls_that_differ_in_their_options_alone_are_bounded(self):
        table = self.table()
        for number in range(1, 100):  # none of them in force
            table.keep(
                X, K, None, None, ("one", None), standing=(number, 0, None), filter=print, settle=print,
                out_shape=(2,), out_dtype=np.dtype(float), axes=None, workers=None, nbytes=1000,
            )  # fmt: skip
        assert len(table) == 16
