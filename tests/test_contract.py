"""The contract over every backend that is usable here; for the compiled ones, over every level that this CPU runs."""

import pytest
from convengine_cython.backend import compiled_levels

import convengine as ce
from convengine.native import cpu
from convengine.testing.contract import BackendContract

BACKENDS = ce.backends()
LEVELS = tuple(level for level in cpu.levels() if level in compiled_levels())
COMPILED = ("cython", "fft")  # one build per level
TARGETS = [
    (name, level) for name, info in BACKENDS.items() if info.usable for level in (LEVELS if name in COMPILED else ("",))
]


class TestBackend(BackendContract):
    @pytest.fixture(params=TARGETS, ids=[f"{name}-{level}".rstrip("-") for name, level in TARGETS])
    def installed(self, request: pytest.FixtureRequest) -> None:
        self.name, self.level = request.param


@pytest.mark.parametrize("level", compiled_levels())
def test_a_level_runs_when_it_is_forced(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if level not in LEVELS:
        pytest.skip(f"this CPU does not run {level}; it runs {', '.join(cpu.levels())}")
    monkeypatch.setenv("CONVENGINE_ISA", level)
    ce.clear_cache()
    assert ce.explain([1.0, 2.0], [1.0], backend="cython").chosen.method == f"direct, {level}"
    assert ce.backends()["cython"].isa == level


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_is_examined_above_or_says_why_not(name: str) -> None:
    info = BACKENDS[name]
    if not info.usable:
        pytest.skip(f"{name}: {info.reason}")
    assert name in dict(TARGETS)
