"""Plans, explanations and options: how to compute, what would run and why, a filter to keep."""

import logging
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import convengine as ce

rng = np.random.default_rng(0)
X = rng.standard_normal((6, 7)).astype(np.float32)
K = rng.standard_normal((3, 2)).astype(np.float32)


class TestOptions:
    def test_a_keyword_beats_the_context_and_so_on(self, monkeypatch):
        monkeypatch.setenv("CONVENGINE_BACKEND", "from_environment")
        assert self.asked() == "from_environment"
        ce.set_options(backend="from_process")
        try:
            assert self.asked() == "from_process"
            with ce.options(backend="from_context"):
                assert self.asked() == "from_context"
                assert self.asked(backend="from_keyword") == "from_keyword"
            assert self.asked() == "from_process"
        finally:
            ce.set_options(backend=None)
        monkeypatch.delenv("CONVENGINE_BACKEND")
        ce.corr1d([1.0], [1.0])

    def asked(self, **keywords):
        with pytest.raises(ce.NoBackend, match="no backend is called") as caught:
            ce.corr1d([1.0], [1.0], **keywords)
        return str(caught.value).split("'")[1]

    def test_nested_blocks_add_up(self):
        with ce.options(backend="nobody"), ce.options(workers=1):
            assert self.asked() == "nobody"

    def test_a_thread_does_not_see_anothers_block(self):
        seen = []
        with ce.options(backend="nobody"):
            thread = threading.Thread(target=lambda: seen.append(ce.corr1d([1.0], [1.0])))
            thread.start()
            thread.join()
        assert seen[0].tolist() == [1.0]

    @pytest.mark.parametrize(
        ("values", "text"),
        [({"speed": 1}, "unknown option 'speed'"), ({"rtol": -1}, "rtol.*-1"), ({"strict": "maybe"}, "'maybe'")],
    )
    def test_refused(self, values, text):
        with pytest.raises(ce.InvalidProblem, match=text), ce.options(**values):
            pass

    def test_environment_names_the_variable(self, monkeypatch):
        monkeypatch.setenv("CONVENGINE_WORKERS", "many")
        with pytest.raises(ce.InvalidProblem, match=r"CONVENGINE_WORKERS: workers must be.*'many'"):
            ce.corr1d([1.0], [1.0])

    def test_strict_allows_componentwise_bounds_only(self):
        x, k = np.zeros((300, 300), np.float32), np.ones((61, 61), np.float32)
        with ce.options(strict=True):
            found = ce.explain(x, k)
        assert found.chosen.backend == "cython"
        assert any("strict=True" in row.status for row in found.rows if row.backend == "fft")

    def test_rtol_and_memory_limit(self):
        with ce.options(rtol=1e-12), pytest.raises(ce.NoBackend, match="above rtol=1e-12"):
            ce.corr2d(X, K)
        with ce.options(max_memory=10), pytest.raises(ce.NoBackend, match="max_memory is 10"):
            ce.corr2d(X, K)

    def test_log_says_what_ran(self, caplog):
        with caplog.at_level(logging.INFO, "convengine"), ce.options(verbose=True):
            ce.corr2d(X, K, backend="cython")
        assert "cython (direct" in caplog.text
        assert "(6, 7) * (3, 2)" in caplog.text

    def test_verbose_is_heard_where_no_logging_is_set_up(self):
        code = """if True:
            import sys
            import numpy as np
            import convengine as ce
            x, k = np.ones((6, 7)), np.ones((3, 2))
            ce.corr2d(x, k, backend="cython")
            with ce.options(verbose=True, backend="cython"):
                for _ in range(3):
                    ce.corr2d(x, k)
            ce.corr2d(x, k, backend="cython")
            import logging
            logging.basicConfig(level="INFO", format="logged: %(message)s")
            with ce.options(verbose=True, backend="cython"):
                ce.corr2d(x, k)
        """
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        lines = [line.split(", ")[0] for line in done.stderr.splitlines()]
        said = "forward corr2d (6"
        assert lines == [f"convengine: {said}"] * 3 + [f"logged: {said}"]
        assert all("cython (direct" in line for line in done.stderr.splitlines())


class TestPlan:
    def test_reused_over_frames(self):
        plan = ce.plan("conv2d", X, K, mode="same", boundary="edge")
        for frame in (X, X[::-1], np.asfortranarray(X)):
            np.testing.assert_array_equal(plan(frame), ce.conv2d(frame, K, mode="same", boundary="edge"))
        out = np.empty((6, 7), np.float32)
        assert plan(X, out=out) is out

    def test_picklable(self):
        plan = pickle.loads(pickle.dumps(ce.plan("corr2d", X, K, backend="cython", bias=1.0)))
        np.testing.assert_array_equal(plan(X), ce.corr2d(X, K, bias=1.0))
        assert "cython" in repr(plan)

    def test_kernel_is_copied(self):
        kernel = K.copy()
        plan = ce.plan("corr2d", X, kernel)
        expected = plan(X)
        kernel[:] = 0
        np.testing.assert_array_equal(plan(X), expected)

    def test_a_kernel_that_is_no_array_is_copied(self):
        class Shared:
            table = np.ones((3, 3))

            def __array__(self, dtype=None, copy=None):
                return self.table

        x = np.arange(64.0).reshape(8, 8)
        planned = ce.plan("corr2d", x, Shared())
        Shared.table[1] = 7
        np.testing.assert_array_equal(planned(x), ce.corr2d(x, np.ones((3, 3))))

    def test_x_must_match(self):
        plan = ce.plan("corr2d", X, K)
        with pytest.raises(ce.InvalidProblem, match=r"float32 \(6, 7\); got float64 \(6, 7\)"):
            plan(X.astype(float))
        with pytest.raises(ce.InvalidProblem, match=r"got float32 \(5, 7\)"):
            plan(X[1:])
        with pytest.raises(ce.InvalidProblem, match=r"float32, as planned; got float64"):
            plan(X, out=np.zeros((4, 6)))
        with pytest.raises(ce.InvalidProblem, match=r"corr1d.*got 'corr4d'"):
            ce.plan("corr4d", X, K)
        with pytest.raises(TypeError, match="unexpected keyword 'pad'"):
            ce.plan("corr2d", X, K, pad=1)
        with pytest.raises(TypeError, match="unexpected keyword 'pad'"):
            ce.plan("corr2d", X, K, pad=threading.Lock())  # before anything is copied


class TestExplain:
    def test_shows_the_choice_and_the_reasons(self):
        found = ce.explain(np.zeros((64, 64), np.float32), np.ones((3, 3), np.float32), mode="same", boundary="reflect")
        assert found.chosen.status == "chosen"
        text = repr(found)
        assert "(64, 64) * (3, 3) float32 reflect" in text
        assert "cupy" in text
        fields = {"backend", "method", "seconds", "measured", "memory", "error", "bound", "status"}
        assert fields == set(found.to_dict()["candidates"][0])

    def test_an_explicit_backend_that_cannot_names_those_that_can(self):
        with pytest.raises(ce.NoBackend) as caught:
            ce.corr2d(X, K, stride=2, backend="scipy")
        assert "scipy" in str(caught.value)
        assert "stride" in str(caught.value)
        assert "backends that can: cython" in str(caught.value)

    def test_several_names(self):
        np.testing.assert_array_equal(ce.corr2d(X, K, stride=2, backend=("scipy", "cython")), ce.corr2d(X, K)[::2, ::2])


def test_config_shows_versions_and_backends():
    text = ce.show_config()
    assert f"convengine {ce.__version__}" in text
    assert "cython" in text


class TestLike:
    """What stands for x in a plan or explanation is read as x itself."""

    @pytest.mark.parametrize("use", [lambda x: ce.plan("corr2d", x, K), lambda x: ce.explain(x, K)])
    def test_refused(self, use):
        for x, text in (
            (np.ma.masked_array(X, X > 0), "masked"),
            (X.astype(np.longdouble), "longdouble|float128"),
            (X.astype(object), "dtype object"),
            (None, "dtype object"),
        ):
            with pytest.raises(ce.InvalidProblem, match=text):
                use(x)

    def test_lists_and_byte_orders(self):
        assert ce.plan("corr1d", [1, 2, 3], [1])([4, 5, 6]).tolist() == [4, 5, 6]
        swapped = X.astype(">f4")
        assert ce.plan("corr2d", swapped, K).problem == ce.plan("corr2d", X, K).problem
        np.testing.assert_array_equal(ce.plan("corr2d", swapped, K)(swapped), ce.corr2d(X, K))

    def test_a_plans_out_is_checked(self):
        plan = ce.plan("corr2d", X, K)
        for out in (np.ma.zeros((4, 6), np.float32), [[0.0]]):
            with pytest.raises(ce.InvalidProblem, match="out must be an array"):
                plan(X, out=out)
