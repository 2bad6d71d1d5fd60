"""Prices: tables that correct what backends offer, where they are kept, how `tune` makes them, and who lies."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import convengine as ce
from convengine import config, prices, registry, running, select, tuning
from convengine.plugin import Declined, Offer, Refusal, finish, workers
from convengine.prices import Prices, Series

X, KERNEL = np.ones((64, 64), np.float32), np.arange(25, dtype=np.float32).reshape(5, 5) - 7


pytestmark = pytest.mark.usefixtures("own_prices")


class Timed:
    """Stands for a backend; each method offers at one price, and takes another time."""

    api = 1

    def __init__(self, name, methods):
        self.name, self.methods = name, methods

    def offers(self, problem, facts):
        if problem.op != "forward" or problem.is_layer or problem.ndim != 2 or problem.is_integer:
            return Refusal("filters images of floats only")
        return [Offer(method, offered, 0, 1e-3) for method, (offered, _) in self.methods.items()]

    def plan(self, problem, offer, solve):
        name, seconds = offer.method, self.methods[offer.method][1]

        class Plan:
            def prepare(self, kernel, bias=None):
                def filter_(x, out=None):
                    time.sleep(seconds)  # what it takes, whatever it offered
                    total = np.full(problem.out_shape, float(len(name)), problem.sum_dtype)
                    return finish(problem, total, bias, out)

                return filter_

        return Plan()


def series(quotient=1.0, sizes=(4.0, 8.0), widths=(0.0, 4.0)):
    """A table of one quotient."""
    return Series(sizes, widths, ((np.log2(quotient),) * len(widths),) * len(sizes))


class TestSeries:
    table = Series((2.0, 4.0), (0.0, 1.0, 3.0), ((0.0, 1.0, 2.0), (2.0, 3.0, -1.0)))

    @pytest.mark.parametrize(
        ("at", "log"),
        [
            ((2, 0), 0), ((4, 3), -1), ((2, 1), 1), ((3, 0), 1), ((2, 2), 1.5), ((3, 2), 1.25),
            ((-5, -5), 0), ((9, 9), -1), ((9, 0), 2), ((2, 50), 2),
        ],
    )  # fmt: skip
    def test_between_its_points(self, at, log):
        assert self.table.at(*at) == pytest.approx(2.0**log)

    def test_a_single_point(self):
        assert Series((3.0,), (1.0,), ((1.0,),)).at(7, 7) == 2


class TestKeys:
    def key(self, method="direct, avx512", **keywords):
        return prices.key_of("cython", ce.explain(X, KERNEL, **keywords).problem, method, 2)

    @pytest.mark.parametrize(
        ("method", "name"),
        [
            ("direct, avx512", "direct"),
            ("separable rank 2, avx2", "separable"),
            ("fft tile 32x64", "fft tile"),
            ("fft tile 4096", "fft tile"),
            ("overlap-save, tile 8x8x8", "overlap-save"),
            ("ndimage.correlate1d", "ndimage.correlate1d"),
        ],
    )
    def test_methods_without_tile_rank_and_level(self, method, name):
        assert self.key(method) == ("cython", name, 2, "float32", True)

    def test_what_no_table_knows(self):
        layer = ce.explain(np.ones((3, 8, 8)), np.ones((2, 3, 3, 3))).problem
        gradient = ce.explain(X[:60, :60], KERNEL, op="corr2d_grad_input", x_shape=(64, 64)).problem
        complex_ = ce.explain(X.astype(complex), KERNEL).problem
        wide = ce.explain(X.astype(np.int32), [[1]]).problem
        assert {prices.key_of("cython", one, "direct", 1) for one in (layer, gradient, complex_, wide)} == {None}

    def test_sizes_are_those_along_an_axis(self):
        problem = ce.explain(np.ones((4, 16, 64)), np.ones((2, 8)), mode="same").problem
        assert prices.sizes_of(problem) == (6.0, 2.0)  # 4096 results in all


class TestFiles:
    made = Prices({("cython", "direct", 2, "float32", True): series(0.25)}, "here")

    def store(self, text):
        file = prices.cache_file()
        file.parent.mkdir(parents=True)
        file.write_text(text)
        prices.forget()
        return file

    def test_what_is_written_is_read(self):
        file = self.store(json.dumps(self.made.to_dict()))
        found = prices.current()
        assert (dict(found.series), found.origin) == (dict(self.made.series), str(file))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{",
            '{"version": 99, "series": []}',
            '{"version": 1}',
            '{"version": 1, "series": [{}]}',
            json.dumps(made.to_dict()).replace("0.0", '"x"', 1),
            json.dumps(made.to_dict()).replace("-2.0", "NaN", 1),
            json.dumps(made.to_dict()).replace("[4.0, 8.0]", "[8.0, 4.0]"),
            json.dumps(made.to_dict()).replace("[4.0, 8.0]", "[4.0]"),
            json.dumps(made.to_dict()).replace('"widths": [0.0, 4.0]', '"widths": []').replace("[-2.0, -2.0]", "[]"),
            "\0\0\0",
            "[" * 200_000,
            json.dumps(made.to_dict()).replace("-2.0", "5000", 1),
            json.dumps(made.to_dict()).replace('"ndim": 2', '"ndim": Infinity'),
            json.dumps(made.to_dict()).replace("[4.0", "[" + "4" * 400),
            json.dumps(made.to_dict()).replace('"version": 1', '"version": true'),
        ],
    )
    def test_a_broken_file_is_told_and_left_out(self, text):
        file = self.store(text)
        with pytest.warns(UserWarning, match=r"holds no prices .*; (run 'convengine tune' again|remove it)") as told:
            found = prices.current()
        assert str(file) in str(told[0].message)
        assert found.origin != str(file)
        np.testing.assert_array_equal(ce.corr2d(X, KERNEL), ce.corr2d(X, KERNEL, backend="cython"))

    def test_a_warning_made_an_error_leaves_no_option_behind(self):
        self.store("junk")
        before = workers()
        with warnings.catch_warnings(), pytest.raises(UserWarning):
            warnings.simplefilter("error")
            ce.corr2d(X, KERNEL, workers=before + 1)
        assert workers() == before

    def test_without_a_home_nothing_is_kept_and_all_works(self, monkeypatch):
        def homeless():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("CONVENGINE_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
        prices.forget()
        assert prices.current().origin in ("shipped", "offered")

    def test_a_folder_in_its_place_is_none(self):
        prices.cache_file().mkdir(parents=True)
        prices.forget()
        assert prices.current().origin in ("shipped", "offered")

    def test_writers_at_once_leave_a_whole_file(self):
        file = prices.cache_file()
        others = [Prices({key: series(q) for key in self.made.series}, "") for q in (0.5, 2.0)]
        threads = [
            threading.Thread(target=lambda one=one: [tuning._write(file, one) for _ in range(50)]) for one in others
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if file.exists():
                Prices.from_dict(json.loads(file.read_text()), "")
        for thread in threads:
            thread.join()
        assert [path.name for path in file.parent.iterdir()] == [file.name]

    def test_an_interrupted_writer_leaves_nothing(self, monkeypatch):
        monkeypatch.setattr(json, "dump", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tuning._write(prices.cache_file(), self.made)
        assert list(prices.cache_file().parent.iterdir()) == []

    def test_shipped_tables_are_whole(self):
        for file in (Path(prices.__file__).parent).glob("*.json"):
            shipped = Prices.from_dict(json.loads(file.read_text()), "shipped")
            assert {"cython", "fft"} <= {key[0] for key in shipped.series}
            assert {1, 2, 3} == {key[2] for key in shipped.series}


class TestChoice:
    def test_the_price_decides_and_not_the_offer(self):
        first, second = ("scipy", "cheap", 2, "float32", True), ("scipy", "dear", 2, "float32", True)
        registry.stand_in("scipy", Timed("scipy", {"cheap": (1e-6, 0), "dear": (2e-6, 0)}))
        with ce.options(backend="scipy", workers=2):
            assert ce.explain(X, KERNEL).chosen.method == "cheap"
            prices.use(Prices({first: series(4.0), second: series(0.5)}))
            ce.clear_cache()
            found = ce.explain(X, KERNEL)
            assert found.chosen.method == "dear"
            assert [row.seconds for row in found.rows] == pytest.approx([1e-6, 4e-6])
            assert [row.offer.seconds for row in found.rows] == [2e-6, 1e-6]
            assert ce.corr2d(X, KERNEL)[0, 0] == len("dear")

    def test_ties_break_by_name(self):
        registry.stand_in("scipy", Timed("scipy", {"b": (1e-9, 0), "a": (1e-9, 0)}))
        prices.use(Prices())
        assert ce.explain(X, KERNEL).chosen.method == "a"


class Modest(Timed):
    """Says what its offers cost at least, and counts how often it is asked for them."""

    def __init__(self, methods, least):
        super().__init__("scipy", methods)
        self.least_seconds, self.asked = least, 0

    def offers(self, problem, facts):
        self.asked += 1
        return super().offers(problem, facts)


class TestLeast:
    """Backends that say what they cost at least."""

    @pytest.fixture
    def modest(self):
        backend = Modest({"slow": (9e-3, 0)}, lambda problem: 8e-3)
        registry.stand_in("scipy", backend)
        prices.use(Prices())
        return backend

    def test_who_cannot_be_cheaper_is_not_asked_until_somebody_wants_to_know(self, modest):
        plan = ce.plan("corr2d", X, KERNEL)
        plan(X)
        assert plan.backend == "cython" and modest.asked == 0
        found = ce.explain(X, KERNEL)
        assert modest.asked == 1
        assert [row.backend for row in found.rows if row.status == "possible"][-1] == "scipy"
        assert found.chosen.method == plan.method

    def test_who_may_be_cheaper_is_asked(self, modest):
        modest.methods = {"quick": (1e-9, 0)}
        for least in (0.0, 1e-9, 1e-6):
            modest.least_seconds = lambda problem, least=least: min(least, 1e-9)
            ce.clear_cache()
            assert ce.plan("corr2d", X, KERNEL).method == "quick"

    def test_a_table_that_makes_offers_cheaper_counts(self, modest):
        prices.use(Prices({("scipy", "slow", 2, "float32", threaded): series(1e-8) for threaded in (True, False)}))
        ce.clear_cache()
        assert ce.plan("corr2d", X, KERNEL).method == "slow"

    def test_one_that_is_asked_for_by_name_is_asked(self, modest):
        assert ce.plan("corr2d", X, KERNEL, backend="scipy").method == "slow"
        assert ce.plan("corr2d", X, KERNEL, backend=("scipy", "cython")).backend == "cython"

    @pytest.mark.parametrize("least", [float("nan"), "much", ZeroDivisionError])
    def test_what_says_nothing_is_asked(self, modest, least):
        def fail(problem):
            raise least

        modest.least_seconds = fail if isinstance(least, type) else lambda problem: least
        ce.plan("corr2d", X, KERNEL)
        assert modest.asked == 1

    def test_where_the_first_declines_the_others_are_asked(self, modest):
        class Declining(Timed):
            def plan(self, problem, offer, solve):
                raise Declined("not today")

        modest.methods = {"slow": (9e-3, 0)}
        registry.stand_in("cython", Declining("cython", {"never": (1e-9, 0)}))
        registry.stand_in("fft", Declining("fft", {"neither": (2e-9, 0)}))
        plan = ce.plan("corr2d", X, KERNEL)
        assert plan.backend == "cython" and modest.asked == 0
        assert plan(X)[0, 0] == len("slow") and plan.method == "slow"

    def test_the_first_is_the_cheapest_of_all(self, level):
        left_out = 0
        for case in tuning._random_cases(150, seed=11):
            prepared = case.prepared()
            decision = prepared.decision
            everyone = select._all_offers(decision.problem, prepared.facts, prepared.options, registry.names())[0]
            left_out += decision._ask is not None
            assert decision.first == everyone[0]
            assert decision.candidates == tuple(everyone)
        assert left_out >= 100

    def test_threads_may_want_to_know_at_once(self, modest):
        decision = ce.plan("corr2d", X, KERNEL)._call.prepared.decision
        with ThreadPoolExecutor(8) as executor:
            found = [future.result() for future in [executor.submit(lambda: decision.candidates) for _ in range(8)]]
        assert modest.asked == 1 and all(one is found[0] for one in found)

    def test_one_that_is_gone_when_all_are_asked_is_named(self, modest, monkeypatch):
        plan = ce.plan("corr2d", X, KERNEL)
        monkeypatch.setattr(registry, "names", lambda: ("cython", "fft"))
        decision = plan._call.prepared.decision
        assert ("scipy", "", "is no longer installed") in decision.refusals
        assert {one.backend for one in decision.candidates} == {"cython", "fft"}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_child_forked_while_somebody_is_asked_may_ask(self):
        code = """
            import os, signal, threading, warnings, numpy as np, convengine as ce
            from convengine import select
            warnings.simplefilter("ignore")
            held, done = threading.Event(), threading.Event()
            def hold():
                with select._asking:
                    held.set()
                    done.wait()
            threading.Thread(target=hold).start()
            held.wait()
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(0 if len(ce.explain(np.ones((64, 64)), np.ones((5, 5))).rows) > 3 else 1)
            status = os.waitpid(pid, 0)[1]
            done.set()
            assert status == 0, status
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


class TestMeasure:
    liar: ClassVar = {"quick": (1e-6, 0.01), "honest": (3e-6, 0.0)}

    def test_the_first_call_finds_the_fastest(self, monkeypatch):
        registry.stand_in("scipy", Timed("scipy", self.liar))
        prices.use(Prices())
        with ce.options(backend="scipy"):
            assert ce.corr2d(X, KERNEL)[0, 0] == len("quick")
            with ce.options(measure=True):
                for _ in range(4):  # read, prepared, and from then on recalled
                    assert ce.corr2d(X, KERNEL)[0, 0] == len("honest")
                found = ce.explain(X, KERNEL)
                assert found.chosen.method == "honest"
                assert found.chosen.measured < 5e-3 < found.rows[1].measured
                assert "measured" in repr(found)
                again = ce.plan("corr2d", X, KERNEL)
                assert (again(X)[0, 0], again.method) == (len("honest"), "honest")

    def test_from_the_environment(self, monkeypatch):
        monkeypatch.setenv("CONVENGINE_MEASURE", "1")
        assert config.current().measure is True

    def test_threads_agree(self):
        registry.stand_in("scipy", Timed("scipy", self.liar))
        prices.use(Prices())
        found = []
        with ce.options(backend="scipy", measure=True):
            plan = ce.plan("corr2d", X, KERNEL)
        threads = [threading.Thread(target=lambda: found.append(plan(X)[0, 0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [len("honest")] * 8

    def test_what_declines_is_passed_over(self):
        x = np.ones((80, 80))
        x[3, 3] = np.inf
        with ce.options(measure=True):
            result = ce.corr2d(x, np.ones((31, 31)) + np.eye(31))
        np.testing.assert_array_equal(np.isinf(result), np.isinf(ce.corr2d(x, np.ones((31, 31)), backend="cython")))


class TestTune:
    def test_a_lying_offer_is_found(self, monkeypatch):
        registry.stand_in("scipy", Timed("scipy", {"boast": (1e-6, 2e-3), "sober": (2.2e-3, 2e-3)}))
        monkeypatch.setattr(
            tuning, "_grid", lambda: [tuning.Case((n, n), (k, k), "float32", 1) for n in (32, 64) for k in (3, 31)]
        )
        shares = []
        found = ce.tune(progress=shares.append)
        assert [(one.backend, one.method) for one in found.lies] == [("scipy", "boast")]
        assert "scipy" in repr(found) and "not to be believed" in repr(found)
        assert shares == [0.25, 0.5, 0.75, 1.0]
        assert json.loads(json.dumps(found.to_dict()))["verdicts"]
        with ce.options(workers=1):
            assert ce.explain(X, KERNEL).chosen.method != "boast"  # from now on the choice knows
            prices.use(None)
            prices.forget()
            ce.clear_cache()
            assert prices.current().origin == str(found.file)  # another process would read it
            assert ce.explain(X, KERNEL).chosen.method != "boast"

    def test_without_saving(self, monkeypatch):
        monkeypatch.setattr(tuning, "_grid", lambda: [tuning.Case((32, 32), (3, 3), "float32", 1)])
        found = ce.tune(save=False)
        assert found.file is None and "not stored" in repr(found)
        assert not prices.cache_file().exists()
        assert prices.current() is found.prices

    def test_a_quick_look(self):
        with pytest.raises(ce.InvalidProblem, match="of 256 samples at least; got 3"):
            ce.tune(save=False, largest=3)

    def test_the_grid_has_every_kind_once(self):
        grid = tuning._grid()
        assert len(set(grid)) == len(grid) > 500
        assert {(len(case.shape), case.dtype) for case in grid} >= {
            (1, "float64"),
            (2, "uint8"),
            (3, "float32"),
            (3, "uint8"),
        }

    def test_the_cases_allow_all_methods(self):
        for case in (tuning.Case((40, 40), (7, 7), "float32", 1), tuning.Case((40, 40), (7, 7), "uint8", 1)):
            methods = {candidate.offer.method.split()[0] for candidate in case.prepared().decision.candidates}
            assert {"separable", "direct,"} <= methods
            plain = tuning.Case(case.shape, case.kernel_shape, case.dtype, 1, separable=False).prepared()
            assert "separable" not in {one.offer.method.split()[0] for one in plain.decision.candidates}


class TestCheck:
    def test_a_wrong_choice_shows(self, monkeypatch):
        registry.stand_in("scipy", Timed("scipy", {"boast": (1e-9, 5e-3)}))
        prices.use(Prices())
        case = tuning.Case((64, 64), (5, 5), "float32", 1)
        monkeypatch.setattr(tuning, "_random_cases", lambda count, seed: [case] * count)
        found = tuning.check(problems=2)
        assert found.choices[0].chosen == "scipy boast" and found.choices[0].ratio > 5
        assert found.quantiles[2] > 5 and "scipy boast" in repr(found)
        assert found.to_dict()["choices"][0]["chosen"] == "scipy boast"

    def test_twenty_microseconds_are_no_miss(self):
        choice = tuning.Choice(tuning.Case((9,), (3,), "float32", 1), "a", "b", 21e-6, 2e-6)
        assert choice.ratio == 1.0
        assert tuning.Choice(choice.case, "a", "b", 40e-6, 10e-6).ratio == pytest.approx(4)

    def test_problems_are_as_asked(self):
        cases = tuning._random_cases(200, 0)
        assert cases == tuning._random_cases(200, 0) != tuning._random_cases(200, 1)
        assert {len(case.shape) for case in cases} == {1, 2, 3}
        assert all(n >= 16 for case in cases for n in case.shape)
        assert max(max(case.kernel_shape) for case in cases) > 150
        assert not set(cases) & set(tuning._grid())


class TestNonnegative:
    def test_every_method(self):
        rng = np.random.default_rng(0)
        x = rng.random((200, 210)).astype(np.float32)
        x[:120] = 0
        x[150:] *= 1e6
        kernel = ce.filters.disk(12).astype(np.float32)
        for name in ("cython", "fft", "scipy"):
            assert ce.corr2d(x, kernel, mode="same", backend=name).min() >= 0
        raw = running.filter_of  # what a transform gives by itself errs below zero: else this could not fail
        call = ce.plan("corr2d", x, kernel, mode="same", backend="fft")._call.prepared
        bare = raw(call, call.decision.chosen)(x, np.empty_like(x))
        assert bare.min() < 0
        x[5, 5] = -1  # scanned: negative samples may have negative results
        kept = ce.corr2d(x, kernel, mode="same", backend="fft")
        assert kept.min() < 0
        x[5, 5] = np.nan  # neither
        with_nan = ce.corr2d(x, kernel, mode="same", backend="fft")
        assert np.nanmin(with_nan) >= 0 and np.isnan(with_nan).any()
        below = ce.corr2d(x[10:], kernel, mode="same", backend="fft", bias=-1)
        assert below.min() < 0  # a bias may well be negative
