"""Calls that came before: found again whenever they say the same, never when anything differs, with the same answer."""

import asyncio
import inspect
import logging
import pickle
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warm_calls import REFLECT, K, X, rng, warmed

import convengine as ce
from convengine import api

pytestmark = pytest.mark.usefixtures("cold")

LAYER = rng.standard_normal((4, 3, 3, 3))
FORMS = {
    "plain": lambda: ce.corr2d(X, K),
    "words": lambda: ce.corr2d(X, K, **REFLECT),
    "defaults said": lambda: ce.corr2d(X, K, stride=1, dilation=1, fill_value=0, boundary="constant", out=None),
    "tuples": lambda: ce.corr2d(X, K, padding=((1, 2), (0, 1)), stride=(2, 1), boundary=("edge", "wrap")),
    "fill": lambda: ce.corr2d(X, K, padding=1, fill_value=2.5),
    "nan": lambda: ce.corr2d(X, K, padding=1, fill_value=float("nan")),
    "options": lambda: ce.corr2d(X, K, backend="cython", workers=1),
    "names": lambda: ce.corr2d(X, K, backend=("cython", "scipy")),
    "flipped": lambda: ce.conv2d(X, K, **REFLECT),
    "1-D": lambda: ce.corr1d(X, K[0]),
    "3-D": lambda: ce.corr3d(X.reshape(3, 4, 13), K.reshape(2, 3, 1)),
    "bias": lambda: ce.corr2d(X, K, bias=0.5),
    "dtype": lambda: ce.corr2d(X, K, dtype=np.float64),
    "dtype by name": lambda: ce.corr2d(X, K, dtype="float16"),
    "dtype object": lambda: ce.corr2d(X, K, dtype=np.dtype("f8")),
    "strided x": lambda: ce.corr2d(X[::-1, ::2], K),
    "Fortran order": lambda: ce.corr2d(np.asfortranarray(X), K),
    "strided kernel": lambda: ce.corr2d(X, K[::-1]),
    "channels last": lambda: ce.corr2d(X.reshape(3, 4, 13).transpose(1, 2, 0), K, channel_axis=-1),
    "layer": lambda: ce.corr2d(X[:, :12].reshape(3, 6, 8), LAYER, bias=np.arange(4.0), mode="same"),
    "complex": lambda: ce.corr2d(X * 1j, K, conjugate=True),
    "bytes": lambda: ce.corr2d(X.astype(np.uint8), K.astype(np.int8)),
    "halves": lambda: ce.corr2d(X.astype(np.float16), K),
    "saturated": lambda: ce.corr2d((X * 99).astype(np.int16), K, dtype=np.uint8),
    "scipy's filter": lambda: ce.corr2d(X, K, backend="scipy", **REFLECT),
    "fft's filter": lambda: ce.corr2d(X, K, backend="fft"),
    "a new out": lambda: ce.corr2d(X, K, out=np.zeros((10, 12), np.float32)),
    "strided out": lambda: ce.corr2d(X, K, out=np.zeros((20, 36), np.float64)[::-2, ::3]),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_third_call_is_found(form, ways):
    cold = FORMS[form]()
    assert warmed(FORMS[form]).tobytes() == cold.tobytes()
    ways.clear()
    FORMS[form]()
    assert not ways


class Sub(np.ndarray):
    pass


MISSED = {
    "list": lambda: ce.corr2d(X, [[1.0, 2.0]]),
    "subclass": lambda: ce.corr2d(X.view(Sub), K),
    "kernel's subclass": lambda: ce.corr2d(X, K.view(Sub)),
    "out's subclass": lambda: ce.corr2d(X, K, out=np.zeros((10, 12), np.float32).view(Sub)),
    "byte order": lambda: ce.corr2d(X.astype(">f4"), K),
    "out's byte order": lambda: ce.corr2d(X, K, out=np.zeros((10, 12), ">f4")),
    "unaligned": lambda: ce.corr2d(np.zeros(X.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(X.shape), K),
    "out backwards": lambda: ce.corr2d(X, K, out=np.zeros((12, 10), np.float32).T),
    "limits to check": lambda: ce.corr2d(X.astype(np.int64), K.astype(np.int64)),
    "list among words": lambda: ce.corr2d(X, K, stride=[1, 1]),
    "array among words": lambda: ce.corr2d(X, K, stride=np.array([1, 1])),
    "NumPy's number": lambda: ce.corr2d(X, K, fill_value=np.float32(0)),
    "metadata": lambda: ce.corr2d(X, K, dtype=np.dtype("f8", metadata={"held": X})),
    "many axes": lambda: ce.corr2d(X.reshape(*(1,) * 8, 12, 13), K),
    "nothing to compute": lambda: ce.corr2d(X[:0], K, padding=((2, 0), (0, 0))),
    "large kernel": lambda: ce.corr1d(np.ones(40_000), np.ones(40_000)),
}


@pytest.mark.parametrize("form", MISSED)
def test_what_cannot_be_told_for_good_takes_the_ordinary_way(form, ways):
    warmed(MISSED[form])
    ways.clear()
    MISSED[form]()
    assert len(ways) == 1


class TestDifference:
    """A call that differs in anything gets its own answer at once."""

    def test_content_of_the_kernel(self):
        kernel = K.copy()
        before = warmed(lambda: ce.corr2d(X, kernel))
        kernel[2, 1] += 1
        np.testing.assert_array_equal(ce.corr2d(X, kernel), oracle_free(X, kernel))
        assert (ce.corr2d(X, kernel) != before).any()

    def test_content_of_the_bias(self):
        bias = np.zeros(4)
        x = X[:, :12].reshape(3, 6, 8)
        before = warmed(lambda: ce.corr2d(x, LAYER, bias=bias))
        bias[3] = 1
        np.testing.assert_allclose(ce.corr2d(x, LAYER, bias=bias)[3], before[3] + 1, rtol=1e-12)

    def test_zero_and_minus_zero(self):
        x, kernel = np.zeros(4), np.ones(1)
        plus = warmed(lambda: ce.corr1d(x, kernel, padding=1, fill_value=0.0))
        minus = warmed(lambda: ce.corr1d(x, kernel, padding=1, fill_value=-0.0))
        assert not np.signbit(plus).any()
        assert minus.tobytes() == ce.corr1d(x, [1.0], padding=1, fill_value=-0.0).tobytes()

    @pytest.mark.parametrize("words", [{"stride": True}, {"stride": 1.0}, {"padding": (0, 0.0)}, {"groups": True}])
    def test_types_of_numbers(self, words):
        warmed(lambda: ce.corr2d(X, K, stride=1, padding=(0, 0), groups=1))
        with pytest.raises(ce.InvalidProblem, match="must hold integers"):
            ce.corr2d(X, K, **words)

    def test_equal_words_need_not_be_the_same_objects(self, ways):
        warmed(lambda: ce.corr2d(X, K, mode="same", padding=None, center=(1, 300)[:1] * 2))
        ways.clear()
        ce.corr2d(X, K, mode="".join(["sa", "me"]), center=tuple([1] * 2))
        assert not ways

    def test_dtypes_shapes_ranks_and_operations(self):
        warmed(lambda: ce.corr2d(X, K))
        assert ce.corr2d(X.astype(np.float64), K).dtype == np.float64
        assert ce.corr2d(X, K.astype(np.float64)).dtype == np.float64
        assert ce.corr2d(X[1:], K).shape == (9, 12)
        assert ce.corr2d(X, K.reshape(2, 3)).shape == (11, 11)
        assert ce.corr2d(X[None], K).shape == (1, 10, 12)
        assert (ce.conv2d(X, K) != ce.corr2d(X, K)).any()
        assert ce.corr2d(X, K, out=np.zeros((10, 12))).dtype == np.float64

    def test_same_bytes_of_another_dtype(self):
        kernel = np.ones(2, np.float32)
        warmed(lambda: ce.corr1d(X, kernel))
        assert ce.corr1d(X, kernel.view(np.int32)).dtype == np.float64

    def test_deep_tuples_are_refused_in_words(self):
        deep = ()
        for _ in range(200_000):
            deep = (deep,)
        with pytest.raises((ce.InvalidProblem, RecursionError)):
            ce.corr2d(X, K, stride=deep)

    def test_a_warning_comes_each_time(self):
        x = np.zeros((9, 8, 3))
        for _ in range(4):
            with pytest.warns(UserWarning, match="channel_axis=-1"):
                ce.corr2d(x, np.ones((2, 2)))


def oracle_free(x, kernel):
    """The answer of a call that no other came before."""
    ce.clear_cache()
    return ce.corr2d(x, kernel)


class TestOptions:
    """How to compute is asked for anew at each call."""

    def nobody(self):
        with pytest.raises(ce.NoBackend, match="no backend is called 'nobody'"):
            ce.corr2d(X, K)

    def test_context(self, ways):
        warmed(lambda: ce.corr2d(X, K))
        with ce.options(backend="nobody"):
            self.nobody()
        ways.clear()
        ce.corr2d(X, K)
        assert not ways

    def test_process(self):
        warmed(lambda: ce.corr2d(X, K))
        ce.set_options(backend="nobody")
        try:
            self.nobody()
        finally:
            ce.set_options(backend=None)
        ce.corr2d(X, K)

    def test_environment(self, monkeypatch):
        warmed(lambda: ce.corr2d(X, K))
        monkeypatch.setenv("CONVENGINE_BACKEND", "nobody")
        self.nobody()
        monkeypatch.setenv("CONVENGINE_BACKEND", "scipy")
        warmed(lambda: ce.corr2d(X, K))
        monkeypatch.setenv("CONVENGINE_BACKEND", "nobody")
        self.nobody()
        monkeypatch.delenv("CONVENGINE_BACKEND")
        ce.corr2d(X, K)

    def test_keyword(self):
        warmed(lambda: ce.corr2d(X, K))
        with pytest.raises(ce.NoBackend, match="'nobody'"):
            ce.corr2d(X, K, backend="nobody")
        with pytest.raises(ce.InvalidProblem, match="workers"):
            ce.corr2d(X, K, workers=0)

    def test_blocks_that_say_the_same_find_the_same(self, ways):
        for _ in range(3):
            with ce.options(workers=1, strict=True):
                ce.corr2d(X, K)
        assert len(ways) == 2

    def test_another_thread_and_another_task(self):
        warmed(lambda: ce.corr2d(X, K))

        async def inside():
            with ce.options(backend="nobody"):
                await asyncio.sleep(0)
                self.nobody()

        async def outside():
            await asyncio.sleep(0)
            return ce.corr2d(X, K)

        async def both():
            return await asyncio.gather(inside(), outside(), outside())

        assert len(asyncio.run(both())) == 3
        seen = []
        with ce.options(backend="nobody"):
            thread = threading.Thread(target=lambda: seen.append(ce.corr2d(X, K)))
            thread.start()
            thread.join()
        assert len(seen) == 1

    def test_what_runs_is_logged_as_soon_as_it_is_asked_for(self, caplog):
        warmed(lambda: ce.corr2d(X, K))
        with caplog.at_level(logging.DEBUG, "convengine"):
            ce.corr2d(X, K)
        assert "(12, 13) * (3, 2)" in caplog.text
        caplog.clear()
        ce.corr2d(X, K)
        with caplog.at_level(logging.INFO, "convengine"), ce.options(verbose=True):
            warmed(lambda: ce.corr2d(X, K))
        assert caplog.text.count("(12, 13) * (3, 2)") == 3


class TestOut:
    def test_is_filled_and_returned(self, ways):
        out = np.zeros((10, 12), np.float32)
        warmed(lambda: ce.corr2d(X, K, out=out))
        out[:] = 0
        ways.clear()
        assert ce.corr2d(X, K, out=out) is out
        assert not ways
        np.testing.assert_array_equal(out, ce.corr2d(X, K))

    def test_may_lie_where_x_or_the_kernel_lie(self):
        samples = rng.standard_normal((300, 40)).astype(np.float32)  # more than a kernel fetches before it writes
        wanted = warmed(lambda: ce.corr2d(samples, K, **REFLECT, out=np.zeros_like(samples)))
        x = samples.copy()
        assert ce.corr2d(x, K, **REFLECT, out=x) is x
        np.testing.assert_array_equal(x, wanted)
        for step in (1, -1):
            room = np.zeros((302, 40), np.float32)[::step]
            room[1:-1] = samples
            np.testing.assert_array_equal(ce.corr2d(room[1:-1], K, **REFLECT, out=room[2:]), wanted)
            room[1:-1] = samples
            np.testing.assert_array_equal(ce.corr2d(room[1:-1], K, **REFLECT, out=room[:-2]), wanted)
        kernel = np.array([1.0, 2.0, 4.0])
        for _ in range(4):
            kernel[:] = 1, 2, 4
            assert ce.corr1d(np.arange(5.0), kernel, out=kernel).tolist() == [10.0, 17.0, 24.0]

    def test_errors_are_those_of_the_first_call(self):
        frozen = np.zeros((10, 12), np.float32)
        frozen.flags.writeable = False
        wrong = {
            "shape": np.zeros((9, 12), np.float32),
            "rank": np.zeros((1, 10, 12), np.float32),
            "read-only": frozen,
            "meets itself": np.lib.stride_tricks.as_strided(np.zeros(200, np.float32), (10, 12), (4, 4)),
            "steps of zero": np.lib.stride_tricks.as_strided(np.zeros(200, np.float32), (10, 12), (0, 4)),
            "bool": np.zeros((10, 12), bool),
            "list": [[0.0]],
            "masked": np.ma.zeros((10, 12), np.float32),
        }
        for out in wrong.values():
            ce.clear_cache()
            with pytest.raises(ce.InvalidProblem) as cold:
                ce.corr2d(X, K, out=out)
            warmed(lambda: ce.corr2d(X, K, out=np.zeros((10, 12), np.float32)))
            with pytest.raises(ce.InvalidProblem) as warm:
                ce.corr2d(X, K, out=out)
            assert str(warm.value) == str(cold.value)


class TestWords:
    """What a public function shows of itself is what it showed when it was plain Python."""

    def test_signature_and_pickle(self):
        assert list(inspect.signature(ce.corr2d).parameters)[:3] == ["x", "kernel", "bias"]
        assert inspect.signature(ce.corr2d).parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY
        assert ce.corr2d.__name__ == ce.corr2d.__qualname__ == "corr2d"
        assert ce.corr2d.__doc__.startswith("Cross-correlate")
        assert pickle.loads(pickle.dumps(ce.conv3d)) is ce.conv3d

    def test_wrong_keywords(self):
        warmed(lambda: ce.corr2d(X, K))
        with pytest.raises(TypeError, match=r"corr2d\(\) got an unexpected keyword argument 'pad'"):
            ce.corr2d(X, K, pad=1)
        with pytest.raises(TypeError, match=r"corr2d\(\) missing 1 required positional argument: 'kernel'"):
            ce.corr2d(X)

    def test_errors_of_results(self):
        x, kernel = np.full((4, 4), 200, np.uint8), np.full((2, 2), 3, np.uint8)
        texts = set()
        for _ in range(4):
            with pytest.raises(OverflowError) as caught:
                ce.corr2d(x, kernel, dtype=np.int8, overflow="raise")
            texts.add(str(caught.value))
            ce.corr2d(np.zeros_like(x), kernel, dtype=np.int8, overflow="raise")
        assert len(texts) == 1

    def test_a_warm_call_passes_one_file(self):
        warmed(lambda: ce.corr2d(X, K, **REFLECT))
        files = set()
        sys.setprofile(lambda frame, event, _: files.add(frame.f_code.co_filename) if event == "call" else None)
        try:
            ce.corr2d(X, K, **REFLECT)
        finally:
            sys.setprofile(None)
        assert {file for file in files if "convengine" in file} == {api.__file__}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_warm_and_cold_agree(data):
    draw = data.draw
    dtype = draw(st.sampled_from(["u1", "i2", "f2", "f4", "f8", "c8"]))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    sides = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    x = (random.standard_normal(shape) * 50).astype(dtype)
    x = x[:: draw(st.sampled_from([1, -1, 2])), :: draw(st.sampled_from([1, -1, 3]))]
    kernel = (random.standard_normal(sides) * 5).astype(draw(st.sampled_from(["i1", "f4", "f8"])))
    words = {
        "mode": draw(st.sampled_from(["same", "full"])),
        "boundary": draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"])),
        "fill_value": draw(st.sampled_from([0, 1])),
        "stride": draw(st.sampled_from([1, 2, (1, 3)])),
        "bias": draw(st.sampled_from([None, 2])),
        "workers": draw(st.sampled_from([None, 1])),
    }
    call = draw(st.sampled_from([ce.corr2d, ce.conv2d]))
    ce.clear_cache()
    cold = call(x, kernel, **words)
    for _ in range(3):
        out = np.zeros_like(cold) if draw(st.booleans()) else None
        warm = call(x, kernel, **words, out=out)
        assert warm.dtype == cold.dtype
        assert warm.tobytes() == cold.tobytes()
