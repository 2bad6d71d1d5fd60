# cython: freethreading_compatible=True, language_level=3
"""What this CPU can run, what it is called, and how many CPUs this process may use.

Compiled for the baseline, as all of convengine.native: it runs before a level is chosen.
"""

import os
import platform
from pathlib import Path

from libc.stdint cimport uint16_t, uint32_t


# Clang before 18 knows fewer names in __builtin_cpu_supports than GCC, so f16c, lzcnt and movbe are read from CPUID.
# They need no more of the operating system than AVX does; whether it saves the wide registers, the builtin asks.
cdef extern from "vector.h":
    """
    #if defined(__x86_64__)
    #include <cpuid.h>
    #define ce_has(feature) (__builtin_cpu_supports(feature) != 0)

    static int ce_cpuid_ecx(unsigned leaf, int bit)
    {
        unsigned eax, ebx, ecx, edx;
        return __get_cpuid(leaf, &eax, &ebx, &ecx, &edx) && (ecx >> bit & 1);
    }

    static int ce_has_f16c(void)
    {
        __builtin_cpu_init();
        return ce_has("avx") && ce_cpuid_ecx(1, 29);
    }

    static int ce_has_avx2(void) /* all that -march=x86-64-v3 may use */
    {
        int lzcnt = ce_cpuid_ecx(0x80000001, 5), movbe = ce_cpuid_ecx(1, 22);
        return ce_has_f16c() && ce_has("avx2") && ce_has("fma") && ce_has("bmi") && ce_has("bmi2") && lzcnt && movbe;
    }

    static int ce_has_avx512(void) /* all that -march=x86-64-v4 may use */
    {
        return ce_has_avx2() && ce_has("avx512f") && ce_has("avx512bw") && ce_has("avx512cd") && ce_has("avx512dq")
            && ce_has("avx512vl");
    }

    static int ce_has_avx512_vnni(void) { return ce_has_avx512() && ce_has("avx512vnni"); }

    CE_TARGET_F16C static float ce_to_float(uint16_t half) { return ce_half_to_float_f16c(half); }
    CE_TARGET_F16C static uint16_t ce_to_half(float value) { return ce_float_to_half_f16c(value); }
    #else
    static int ce_has_f16c(void) { return 0; }
    static int ce_has_avx2(void) { return 0; }
    static int ce_has_avx512(void) { return 0; }
    static int ce_has_avx512_vnni(void) { return 0; }
    static float ce_to_float(uint16_t half) { return ce_half_to_float(half); }
    static uint16_t ce_to_half(float value) { return ce_float_to_half(value); }
    #endif

    #if defined(__linux__)
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sched.h>
    static int ce_affinity_count(void)
    {
        cpu_set_t mask;
        return sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 0;
    }
    #else
    static int ce_affinity_count(void) { return 0; }
    #endif

    #if defined(__aarch64__)
    #define CE_BASE_LEVEL "arm64"
    #else
    #define CE_BASE_LEVEL "baseline"
    #endif
    """
    const char* BASE_LEVEL "CE_BASE_LEVEL"
    int affinity_count "ce_affinity_count"()
    bint has_f16c "ce_has_f16c"()
    bint has_avx2 "ce_has_avx2"()
    bint has_avx512 "ce_has_avx512"()
    bint has_avx512_vnni "ce_has_avx512_vnni"()
    float half_to_float_f16c "ce_to_float"(uint16_t)
    uint16_t float_to_half_f16c "ce_to_half"(float)
    float half_to_float_portable "ce_half_to_float_portable"(uint16_t)
    uint16_t float_to_half_portable "ce_float_to_half_portable"(float)
    uint32_t bits_from_float "ce_bits_from_float"(float)
    float float_from_bits "ce_float_from_bits"(uint32_t)


def levels() -> tuple[str, ...]:
    """Name the instruction-set levels whose kernels this CPU and this operating system run.

    Returns
    -------
    tuple of str
        Best first: from "avx512" (x86-64-v4), "avx2" (x86-64-v3) and "baseline" on x86-64; "arm64" on 64-bit Arm;
        "baseline" on other CPUs.

    Examples
    --------
    >>> from convengine.native import cpu
    >>> cpu.levels()[-1] in ("baseline", "arm64")
    True
    """
    found = []
    if has_avx512():
        found.append("avx512")
    if has_avx2():
        found.append("avx2")
    found.append(BASE_LEVEL.decode())
    return tuple(found)


def avx512_vnni() -> bool:
    """Tell whether this CPU has AVX-512's dot instructions of small integers, which the level "avx512" lacks.

    Examples
    --------
    >>> from convengine.native import cpu
    >>> "avx512" in cpu.levels() or not cpu.avx512_vnni()
    True
    """
    return has_avx512_vnni()


def name() -> str:
    """Tell the CPU's name as the system gives it, or else its family, such as "aarch64"."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


# os.environ encodes a key at every look-up, and sched_getaffinity makes a set: together they would cost a parallel call
# 3 us. The mapping under os.environ, and the system's own mask, tell the same in 0.2.
cdef object raw_environment = getattr(os.environ, "_data", os.environ)
cdef object encoded = getattr(os.environ, "encodekey", str)
cdef object omp_limit = encoded("OMP_NUM_THREADS"), isa_asked = encoded("CONVENGINE_ISA")


def asked_level() -> str:
    """Read which instruction-set level the environment variable CONVENGINE_ISA names; empty for none."""
    return os.environ["CONVENGINE_ISA"].strip() if raw_environment.get(isa_asked) else ""


def available_workers() -> int:
    """Count the CPUs that this process may use.

    Returns
    -------
    int
        The CPUs in the affinity mask (where the system has none, all of them), but no more than the environment's
        OMP_NUM_THREADS where that is a positive integer or a list that starts with one. At least 1.
    """
    cdef int cpus = affinity_count()
    if cpus < 1:  # a system without masks, or with more CPUs than a plain mask holds
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not raw_environment.get(omp_limit):
        return cpus
    wanted = os.environ["OMP_NUM_THREADS"].partition(",")[0].strip()
    return min(cpus, int(wanted)) if wanted.isdecimal() and int(wanted) > 0 else cpus


cdef tuple half_routes = ("portable", "f16c") if has_f16c() else ("portable",)


def _half_routes() -> tuple[str, ...]:
    """For the tests: the ways of converting halves in vector.h that this CPU can run."""
    return half_routes


def _half_to_float(uint16_t half, str route) -> int:
    """For the tests: the bits of the float that equals the half with these bits."""
    if route not in half_routes:
        raise ValueError(f"route must be one of {half_routes}; got {route!r}")
    return bits_from_float(half_to_float_f16c(half) if route == "f16c" else half_to_float_portable(half))


def _float_to_half(uint32_t value, str route) -> int:
    """For the tests: the bits of the half nearest to the float with these bits."""
    if route not in half_routes:
        raise ValueError(f"route must be one of {half_routes}; got {route!r}")
    cdef float single = float_from_bits(value)
    return float_to_half_f16c(single) if route == "f16c" else float_to_half_portable(single)
