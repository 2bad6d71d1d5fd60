"""Plug-ins: how they are found, what becomes of broken ones, how one is chosen, what failing and declining ones do."""

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from installing import installed, lay_down

import convengine as ce
from convengine import registry
from convengine.plugin import API, Refusal
from convengine.testing import covering_cases
from convengine.testing.contract import BackendContract

PLUGINS = Path(__file__).parent / "plugins"
IMAGE, PAIR = np.arange(12.0).reshape(3, 4), np.array([[1.0, -1.0]])
ANSWER = np.full((3, 3), -1.0)

# A right plug-in for filters without borders and steps; tests change a line of it.
PLUGIN = """
import numpy as np
from convengine.plugin import Declined, Offer, Refusal, direct_error, finish


class Backend:
    name = "NAME"
    seconds = 1.0

    def offers(self, problem, facts):
        if problem.pads != ((0, 0),) * problem.ndim:
            return Refusal(f"NAME takes no pads; got {problem.pads}")
        return [Offer("sums", self.seconds, 0, direct_error(problem))]

    def plan(self, problem, offer, solve):
        return Plan(problem, offer)


class Plan:
    def __init__(self, problem, offer):
        self.problem, self.offer = problem, offer

    def prepare(self, kernel, bias=None):
        return Filter(self.problem, kernel.copy(), bias)


class Filter:
    def __init__(self, problem, kernel, bias):
        self.problem, self.kernel, self.bias = problem, kernel, bias

    def __call__(self, x, out=None):
        total = np.zeros(self.problem.out_shape, self.problem.sum_dtype)
        for tap in np.ndindex(*self.kernel.shape):
            slices = tuple(slice(a, a + n) for a, n in zip(tap, self.problem.out_spatial))
            total += x[(..., *slices)] * self.kernel[tap]
        return finish(self.problem, total, self.bias, out)
"""

Plug = Callable[..., None]


def changed(name: str, *changes: tuple[str, str]) -> str:
    source = PLUGIN
    for old, new in changes:
        assert old in source, f"the plug-in has no {old!r}"
        source = source.replace(old, new)
    return source.replace("NAME", name)


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    """Install a plug-in: plug(name, (old, new) ... in PLUGIN, or source=..., distribution=...)."""
    with ExitStack() as stack:

        def install(name: str, *changes: tuple[str, str], source: str = "", distribution: str = "") -> None:
            distribution = distribution or f"dist-{name}"
            text = textwrap.dedent(source) or changed(name, *changes)
            stack.enter_context(installed(lay_down(tmp_path / distribution, distribution, name, text)))

        yield install


# ---- a foreign plug-in


@pytest.fixture(scope="class")
def foreign() -> Iterator[None]:
    with installed(PLUGINS):
        yield


class TestForeign(BackendContract):
    name = "foreign"

    @pytest.fixture
    def installed(self, foreign: None) -> None:
        """The class's folder of plug-ins stays on the path."""


def test_a_foreign_plugin_is_found_listed_and_used() -> None:
    assert "foreign" not in ce.backends()
    with installed(PLUGINS):
        info = ce.backends()["foreign"]
        assert (info.usable, info.version, info.device) == (True, "1.0", "cpu")
        np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR, backend="foreign"), ANSWER)
        rows = {row.backend: row for row in ce.explain(IMAGE, PAIR).rows}
        assert rows["foreign"].method == "shifted sums"
        refused = {row.backend: row.status for row in ce.explain(IMAGE + 1j, PAIR).rows}
        assert refused["foreign"] == "does real numbers only, not complex128"
        assert "foreign" in str(ce.show_config())
        assert ce.crosscheck(backends="foreign", cases=covering_cases()[:60]).ok
    assert "foreign" not in ce.backends()
    with pytest.raises(ce.NoBackend, match="no backend is called 'foreign'; installed: "):
        ce.corr2d(IMAGE, PAIR, backend="foreign")


def test_a_plugin_without_info_has_the_version_of_its_distribution(plug: Plug) -> None:
    plug("quiet")
    info = ce.backends()["quiet"]
    assert (info.usable, info.version, info.reason) == (True, "1.0", "")


def test_an_entry_point_may_name_an_object_that_is_no_class(plug: Plug) -> None:
    plug("object", ("class Plan:", "Backend = Backend()\n\n\nclass Plan:"))
    np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR, backend="object"), ANSWER)


def test_a_plugin_is_made_once_also_for_many_threads(plug: Plug) -> None:
    slow = "    made = []\n\n    def __init__(self):\n        import time; time.sleep(0.05); self.made.append(1)\n\n"
    plug("single", ("    seconds = 1.0", slow + "    seconds = 1.0"))
    start = threading.Barrier(8, timeout=60)

    def use(_: int) -> np.ndarray:
        start.wait()
        return ce.corr2d(IMAGE, PAIR, backend="single")

    with ThreadPoolExecutor(8) as threads:
        for answer in threads.map(use, range(8)):
            np.testing.assert_array_equal(answer, ANSWER)
    assert len(sys.modules["dist_single_backend"].Backend.made) == 1


# ---- broken plug-ins


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence, 42')", "could not be loaded from dist-broken: RuntimeError: no licence, 42"),
        ("import no_such_library_42", "ModuleNotFoundError: No module named 'no_such_library_42'"),
        ("def", "could not be loaded from dist-broken: SyntaxError: "),
        ("raise SystemExit(3)", "could not be loaded from dist-broken: SystemExit: 3"),
        ("import sys; sys.exit()", "could not be loaded from dist-broken: SystemExit"),
        ("raise BaseException", "could not be loaded from dist-broken: BaseException"),
        ("x = 1", "could not be loaded from dist-broken: AttributeError: "),
        ("class Backend:\n    def __init__(self):\n        raise OSError('disk 7')", "OSError: disk 7"),
        ("class Backend:\n    def __init__(self, size):\n        pass", "TypeError: "),
        ("class Backend:\n    name = 'broken'\n    offers = print", "Backend has no name, offers and plan"),
        ("class Backend:\n    offers = plan = print", "Backend has no name, offers and plan"),
        ("Backend = 5", "Backend has no name, offers and plan"),
        (
            changed("broken", ("    seconds = 1.0", f"    api = {API + 1}")),
            f"dist-broken was built for plug-in API {API + 1}; this is API {API}; update it",
        ),
    ],
)
def test_a_broken_plugin_refuses_with_its_error(plug: Plug, source: str, reason: str) -> None:
    plug("broken", source=source)
    info = ce.backends()["broken"]
    assert not info.usable
    assert reason in info.reason
    assert "broken" not in {row.backend for row in ce.explain(IMAGE, PAIR).rows if row.offer}
    np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR), ANSWER)
    with pytest.raises(ce.NoBackend) as caught:
        ce.corr2d(IMAGE, PAIR, backend="broken")
    assert f"  broken: {info.reason}" in str(caught.value)
    assert "backends that can: cython" in str(caught.value)
    report = ce.crosscheck(backends="broken")
    assert not report.ok
    assert f"not usable: broken: {info.reason}" in repr(report)


def test_keyboard_interrupt_at_import_is_the_users(plug: Plug) -> None:
    plug("slow", source="raise KeyboardInterrupt")
    for _ in range(2):  # and nothing is left locked or half loaded
        with pytest.raises(KeyboardInterrupt):
            ce.backends()
    np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR, backend="cython"), ANSWER)


def test_two_plugins_of_one_name_both_refuse(plug: Plug) -> None:
    plug("twin", distribution="first-twin")
    plug("twin", distribution="second-twin")
    reason = ce.backends()["twin"].reason
    assert "several plug-ins are called 'twin'" in reason
    assert "first-twin (first_twin_backend:Backend) and second-twin (second_twin_backend:Backend)" in reason
    with pytest.raises(ce.NoBackend, match=r"first-twin .* and second-twin .*uninstall all but one"):
        ce.corr2d(IMAGE, PAIR, backend="twin")
    assert "first_twin_backend" not in sys.modules


def test_one_distribution_found_twice_is_one_plugin(tmp_path: Path) -> None:
    source = changed("double")
    folders = [lay_down(tmp_path / place, "double", "double", source) for place in ("site", "editable")]
    with installed(*folders):
        np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR, backend="double"), ANSWER)


def test_info_that_fails_is_a_reason(plug: Plug) -> None:
    plug("shy", ("    seconds = 1.0", "    def info(self):\n        raise OSError('driver 12.1 is too old')"))
    info = ce.backends()["shy"]
    assert not info.usable
    assert "OSError: driver 12.1 is too old" in info.reason


# ---- plug-ins that fail


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("raise ValueError('price 17')", "failed while pricing: ValueError: price 17"),
        ("return None", "NoneType"),
        ("return ['sums']", "str"),
        ("return [Offer('sums', float('nan'), 0, 0.1)]", "nan"),
    ],
)
def test_offers_that_are_none_are_a_refusal(plug: Plug, answer: str, reason: str) -> None:
    plug("dear", ('return [Offer("sums", self.seconds, 0, direct_error(problem))]', answer))
    np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR), ANSWER)
    statuses = {row.backend: row.status for row in ce.explain(IMAGE, PAIR).rows}
    assert reason in statuses["dear"]
    with pytest.raises(ce.NoBackend, match="dear: .*" + reason):
        ce.corr2d(IMAGE, PAIR, backend="dear")


BROKEN_STEPS = {
    "plan": ("return Plan(problem, offer)", "raise ZeroDivisionError('step 99')"),
    "prepare": ("return Filter(self.problem, kernel.copy(), bias)", "raise ZeroDivisionError('step 99')"),
    "call": ("total = np.zeros", "raise ZeroDivisionError('step 99')\n        total = np.zeros"),
}


@pytest.mark.parametrize("step", BROKEN_STEPS)
@pytest.mark.parametrize("how", [{"backend": "faulty"}, {}], ids=["explicit", "automatic"])
def test_a_failure_carries_the_whole_context(plug: Plug, step: str, how: dict[str, str]) -> None:
    plug("faulty", BROKEN_STEPS[step], ("seconds = 1.0", "seconds = 1e-12"))
    x = np.ones((2, 30, 40), np.float32)
    with pytest.raises(ce.BackendError) as caught:
        ce.corr2d(x, np.ones((3, 3), np.float32), dilation=2, **how)
    problem = "forward corr2d (2, 30, 40) * (3, 3) float32 dilation (2, 2)"
    assert str(caught.value) == f"backend 'faulty' failed on {problem}: ZeroDivisionError: step 99"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("returned", ["None", "total[:1]", "total[..., None]", "3.0"])
def test_a_result_of_another_shape_is_a_failure(plug: Plug, returned: str) -> None:
    plug("careless", ("return finish(self.problem, total, self.bias, out)", f"return {returned}"))
    with pytest.raises(ce.BackendError, match=r"backend 'careless' failed on forward corr2d \(3, 4\) \* \(1, 2\)"):
        ce.corr2d(IMAGE, PAIR, backend="careless")


@pytest.mark.parametrize("step", ["plan", "prepare", "call"])
def test_errors_that_are_the_users_pass_as_they_are(plug: Plug, step: str) -> None:
    old, new = BROKEN_STEPS[step]
    plug("exact", (old, new.replace("ZeroDivisionError", "OverflowError")))
    with pytest.raises(OverflowError, match="step 99"):
        ce.corr2d(IMAGE, PAIR, backend="exact")


@pytest.mark.parametrize("step", ["prepare", "call"])
def test_declining_runs_the_next_offer(plug: Plug, step: str) -> None:
    old, new = BROKEN_STEPS[step]
    plug("picky", (old, new.replace("ZeroDivisionError", "Declined")), ("seconds = 1.0", "seconds = 1e-12"))
    assert ce.explain(IMAGE, PAIR).chosen.backend == "picky"
    np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR), ANSWER)
    explanation = ce.explain(IMAGE, PAIR)
    rows = {row.backend: row for row in explanation.rows}
    assert rows["picky"].status == "declined: step 99"
    assert explanation.chosen.backend != "picky"
    assert "declined: step 99" in repr(explanation)
    with pytest.raises(ce.NoBackend, match=r"picky \(sums\): declined: step 99"):
        ce.corr2d(IMAGE, PAIR, backend="picky")


def test_a_decline_for_one_x_does_not_stand_for_the_next(plug: Plug) -> None:
    decline = "if x[0, 0] == 0: raise Declined('zero at 0')\n        total = np.zeros"
    plug("picky", ("total = np.zeros", decline), ("seconds = 1.0", "seconds = 1e-12"))
    with pytest.raises(ce.NoBackend, match="zero at 0"):
        ce.corr2d(IMAGE, PAIR, backend="picky")
    np.testing.assert_array_equal(ce.corr2d(IMAGE + 1, PAIR, backend="picky"), ANSWER)


def test_declining_in_plan_runs_the_next_offer(plug: Plug) -> None:
    plug("picky", ("return Plan(problem, offer)", "raise Declined('plan 7')"), ("seconds = 1.0", "seconds = 1e-12"))
    np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR), ANSWER)
    assert {row.backend: row.status for row in ce.explain(IMAGE, PAIR).rows}["picky"] == "declined: plan 7"


def test_the_other_method_of_a_backend_is_next(plug: Plug) -> None:
    two = "return [Offer('quick', 1e-12, 0, 0.5), Offer('sums', 1.0, 0, direct_error(problem))]"
    plug(
        "pair",
        ('return [Offer("sums", self.seconds, 0, direct_error(problem))]', two),
        ("return Filter(", "if self.offer.method == 'quick': raise Declined('quick 5')\n        return Filter("),
    )
    np.testing.assert_array_equal(ce.corr2d(IMAGE, PAIR, backend="pair"), ANSWER)
    chosen = ce.explain(IMAGE, PAIR, backend="pair").chosen
    assert (chosen.backend, chosen.method) == ("pair", "sums")


# ---- choice


def test_an_unknown_backend_names_those_installed() -> None:
    with pytest.raises(ce.NoBackend) as caught:
        ce.corr2d(IMAGE, PAIR, backend="warp")
    names = ", ".join(ce.backends())
    assert str(caught.value) == f"no backend is called 'warp'; installed: {names}; see ce.backends()"


def test_an_explicit_backend_that_refuses_names_those_that_can(plug: Plug) -> None:
    plug("bare")
    plug("plain")
    with pytest.raises(ce.NoBackend) as caught:
        ce.corr2d(IMAGE, PAIR, backend=["plain", "bare"], padding=((1, 2), 3))
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("no backend can run forward corr2d (3, 4) * (1, 2) float64")
    assert lines[:2] == [f"  {name}: {name} takes no pads; got ((1, 2), (3, 3))" for name in ("bare", "plain")]
    assert lines[2].startswith("  backends that can: ")
    assert "cython" in lines[2]


def test_ties_break_by_name(plug: Plug) -> None:
    cheap = ("seconds = 1.0", "seconds = 1e-12")
    for name in ("zebra", "aardvark", "mole"):  # installed in another order than that of names
        plug(name, cheap)
    rows = [row.backend for row in ce.explain(IMAGE, PAIR).rows]
    assert rows[:3] == ["aardvark", "mole", "zebra"]
    assert ce.explain(IMAGE, PAIR).chosen.backend == "aardvark"
    asked = ce.explain(IMAGE, PAIR, backend=["zebra", "mole"]).rows
    assert [(row.backend, row.status) for row in asked] == [("mole", "chosen"), ("zebra", "possible")]


def test_the_cheapest_offer_wins_whatever_its_name(plug: Plug) -> None:
    plug("aardvark", ("seconds = 1.0", "seconds = 1e-11"))
    plug("zebra", ("seconds = 1.0", "seconds = 1e-12"))
    assert ce.explain(IMAGE, PAIR).chosen.backend == "zebra"


def test_choice_is_the_same_every_time(plug: Plug) -> None:
    plug("again", ("seconds = 1.0", "seconds = 1e-6"))
    first = ce.explain(IMAGE, PAIR).to_dict()
    for _ in range(3):
        ce.clear_cache()
        assert ce.explain(IMAGE, PAIR).to_dict() == first


def test_a_plan_is_for_the_memory_that_its_x_lives_in(plug: Plug) -> None:
    elsewhere = "if problem.memory != 'cuda:3':\n            return Refusal(f'NAME has cuda:3, not {problem.memory}')"
    plug("card", ("if problem.pads", f"{elsewhere}\n        if problem.pads"))
    place = {"device": SimpleNamespace(id=3), "__cuda_array_interface__": {}}
    x = SimpleNamespace(shape=IMAGE.shape, ndim=2, dtype=IMAGE.dtype, **place)
    assert ce.explain(x, PAIR, backend="card").problem.memory == "cuda:3"
    assert ce.plan("corr2d", x, PAIR, backend="card").problem.memory == "cuda:3"
    with pytest.raises(ce.NoBackend, match="card has cuda:3, not host"):
        ce.plan("corr2d", IMAGE, PAIR, backend="card")


# ---- what is loaded

HEAVY = ("scipy", "torch", "cupy", "dask", "jax", "hypothesis", "pytest", "convengine_", "convengine.testing")


def loaded_by(code: str) -> list[str]:
    """Modules that a fresh interpreter has loaded after running code."""
    program = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_import_loads_no_backend_and_nothing_heavy() -> None:
    modules = loaded_by("import convengine")
    assert "convengine.api" in modules
    assert [name for name in modules if name.startswith(HEAVY) and not name.startswith("__editable__")] == []


def test_listing_the_backends_loads_no_library_behind_them() -> None:
    modules = loaded_by("import convengine as ce; ce.backends()")
    assert any(name.startswith("convengine_cython") for name in modules)
    libraries = ("scipy", "torch", "cupy", "dask", "jax")
    assert [name for name in modules if name.partition(".")[0] in libraries] == []


def test_several_backends_are_those_in_force(plug: Plug) -> None:
    asked = ("fft", "cython")
    assert registry.several(asked) == (("cython", registry.get("cython")), ("fft", registry.get("fft")))
    with pytest.raises(KeyError):
        registry.several(("cython", "neither"))
    other = SimpleNamespace(name="fft", offers=lambda *_: Refusal("stands in"), plan=None)
    before = registry.get("fft")
    try:
        registry.stand_in("fft", other)
        assert dict(registry.several(asked))["fft"] is other
    finally:
        registry.stand_in("fft", before)
    assert dict(registry.several(asked))["fft"] is before
