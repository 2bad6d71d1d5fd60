"""What is asked of the CPU: its levels, the one that runs, a name, how many workers there may be."""

import os
import platform
import sys
from pathlib import Path

import pytest

from convengine import native
from convengine.native import cpu


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels of x86-64")
def test_levels_agree_with_the_flags_that_the_system_reports() -> None:
    flags = set(next(x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("flags")).split())
    v3 = {"avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe"} <= flags
    v4 = v3 and {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags
    assert cpu.levels() == ("avx512",) * v4 + ("avx2",) * v3 + ("baseline",)
    assert cpu.avx512_vnni() == (v4 and "avx512_vnni" in flags)


def test_levels_end_with_the_one_that_every_cpu_of_the_kind_has() -> None:
    assert cpu.levels()[-1] == ("arm64" if platform.machine() in ("aarch64", "arm64") else "baseline")


def test_the_cpu_has_a_name() -> None:
    assert cpu.name() == cpu.name().strip() != ""


@pytest.mark.parametrize("setting", ["1", "1,4", " 1 "])
def test_available_workers_obeys_the_omp_limit(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert cpu.available_workers() == 1


@pytest.mark.parametrize("setting", ["", "0", "-1", "many", "1.5", ",1", "100000"])
def test_available_workers_ignores_an_omp_limit_that_sets_none(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cpus = cpu.available_workers()
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert cpu.available_workers() == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_available_workers_follows_the_affinity_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    assert cpu.available_workers() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cpu.available_workers() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def middling_cpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(cpu, "levels", lambda: ("avx2", "baseline"))
    monkeypatch.delenv("CONVENGINE_ISA", raising=False)
    return monkeypatch


@pytest.mark.parametrize("compiled", [("avx512", "avx2", "baseline"), ("baseline", "avx2")])
@pytest.mark.usefixtures("middling_cpu")
def test_isa_level_is_the_best_that_is_compiled_and_runs(compiled: tuple[str, ...]) -> None:
    assert native.isa_level(compiled) == "avx2"
    assert native.isa_level([level for level in compiled if level != "avx2"]) == "baseline"


def test_the_environment_forces_a_level_at_each_call(middling_cpu: pytest.MonkeyPatch) -> None:
    for level in ("baseline", "avx2", "baseline"):
        middling_cpu.setenv("CONVENGINE_ISA", level)
        assert native.isa_level(["avx512", "avx2", "baseline"]) == level
    middling_cpu.setenv("CONVENGINE_ISA", "")
    assert native.isa_level(["avx512", "avx2", "baseline"]) == "avx2"


@pytest.mark.parametrize(
    ("asked", "compiled", "usable"),
    [
        pytest.param("sse9", "avx2, baseline", "avx2 or baseline", id="unknown"),
        pytest.param("avx512", "avx512, avx2", "avx2", id="not this CPU's"),
        pytest.param("avx2", "avx512, baseline", "baseline", id="not compiled"),
    ],
)
def test_a_forced_level_that_cannot_run_is_an_error(
    middling_cpu: pytest.MonkeyPatch, asked: str, compiled: str, usable: str
) -> None:
    middling_cpu.setenv("CONVENGINE_ISA", asked)
    with pytest.raises(RuntimeError) as caught:
        native.isa_level(compiled.split(", "))
    assert str(caught.value) == (
        f"CONVENGINE_ISA needs a compiled level that this CPU runs; got {asked!r}; "
        f"this CPU runs avx2, baseline; compiled are {compiled}; set it to {usable}, or unset it"
    )


@pytest.mark.parametrize(("compiled", "shown"), [((), "none"), (("avx512", "arm64"), "avx512, arm64")])
@pytest.mark.usefixtures("middling_cpu")
def test_no_usable_level_is_an_error(compiled: tuple[str, ...], shown: str) -> None:
    with pytest.raises(RuntimeError, match=f"this CPU runs avx2, baseline; compiled are {shown}; build it on"):
        native.isa_level(compiled)
