"""Extension modules only; everything else about the package stands in pyproject.toml.

One kernel source is compiled once per target of the table below: an ISA level and an
element type. cythonize() cannot make several modules of one .pyx, and sharing one .c would
share its object file, so each target gets its own copy of the source in the build folder.

CONVENGINE_DEBUG=1 builds with bounds checks, assertions, ASan and UBSan (nox -s sanitize).
"""

import os
import platform
import sys
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("CONVENGINE_DEBUG", "") not in ("", "0")
GENERATED = Path("build") / ("kernels-debug" if DEBUG else "kernels")
NATIVE = Path("convengine") / "native"
BACKENDS = Path("backends")

# name: (compiler flags, vector bytes)
AVX512 = ["-march=x86-64-v4", "-mprefer-vector-width=512"]
X86_LEVELS = {
    "baseline": ([], 16),
    "avx2": (["-march=x86-64-v3"], 32),
    "avx512": (AVX512, 64),
}
LEVELS = {
    "x86_64": X86_LEVELS,
    "amd64": X86_LEVELS,
    "aarch64": {"arm64": ([], 16)},
    "arm64": {"arm64": ([], 16)},
}.get(platform.machine().lower(), {"baseline": ([], 16)})

# Instructions that a level's CPUs may have or lack: variants of a level, for sources that gain by them.
VARIANTS = {"avx512vnni": ([*AVX512, "-mavx512vnni"], 64)} if LEVELS is X86_LEVELS else {}

# module suffix: C element type, and the code that convengine/native/codes.py gives it
ELEMENTS = {
    "f4": ("float", 9),
    "f8": ("double", 10),
    "u1": ("uint8_t", 0),
    "i2": ("int16_t", 3),
    "i4": ("int32_t", 5),
    "i8": ("int64_t", 7),
}

# Sources compiled once per level and element type, as modules package.source_level_element.
KERNELS = {
    ("convengine_cython", "kernels"): dict.fromkeys(LEVELS, ("f4", "f8", "i4", "i8")),
    ("convengine_cython", "dots"): dict.fromkeys(LEVELS, ("i2",)) | dict.fromkeys(VARIANTS, ("u1", "i2")),
    ("convengine_fft", "tiles"): dict.fromkeys(LEVELS, ("f4", "f8")),
}

COMMON_FLAGS = [
    "-O3",
    "-g0",
    "-pthread",
    # A sum may use fused multiply-adds (strict -std=c11 would imply off): fewer roundings, still within the bound.
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-unreachable-code",
]
# The register tiles must unroll whole: without these gcc keeps the accumulators in memory.
KERNEL_FLAGS = (
    []
    if sys.platform == "darwin"
    else [
        "--param=max-completely-peeled-insns=40000",
        "--param=max-completely-peel-times=200",
        "--param=max-peel-branches=1000",
    ]
)
SANITIZE = [
    "-O1",
    "-g",
    "-fsanitize=address,undefined",
    "-fno-wrapv",
    "-fno-omit-frame-pointer",
    "-fno-sanitize-recover=undefined",
]
MACROS = [("CYTHON_INLINE", "inline __attribute__((always_inline))")]
DIRECTIVES = {
    "language_level": 3,
    "freethreading_compatible": True,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
}


def extension(name, source, flags=(), macros=()):
    """One compiled module."""
    return Extension(
        name,
        [str(source)],
        include_dirs=[str(NATIVE), np.get_include()],
        depends=[str(path) for path in sorted(NATIVE.glob("*.h"))],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), *macros],
        extra_compile_args=[*COMMON_FLAGS, *flags, *(SANITIZE if DEBUG else [])],
        extra_link_args=["-pthread", *(["-fsanitize=address,undefined"] if DEBUG else [])],
    )


def copied(source, target):
    """Copy a source into the build folder, only when it changed, so that nothing is compiled twice."""
    text = source.read_text(encoding="utf-8")
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return target


def kernel(package, source, level, suffix):
    """One source of a backend, for one level and element type."""
    flags, vector_bytes = (LEVELS | VARIANTS)[level]
    element, code = ELEMENTS[suffix]
    name = f"{source}_{level}_{suffix}"
    return extension(
        f"{package}.{name}",
        copied(BACKENDS / package / f"{source}.pyx", GENERATED / f"{name}.pyx"),
        [*flags, *KERNEL_FLAGS],
        [
            *MACROS,
            ("CE_T", element),
            ("CE_CODE", str(code)),
            ("CE_FLOATING", str(int(suffix[0] == "f"))),
            ("CE_VECTOR_BYTES", str(vector_bytes)),
        ],
    )


def extensions():
    """Every compiled module of the package."""
    modules = [extension(f"convengine.native.{path.stem}", path) for path in sorted(NATIVE.glob("*.pyx"))]
    modules.append(extension("convengine_fft.pricing", BACKENDS / "convengine_fft" / "pricing.pyx"))
    for (package, source), levels in KERNELS.items():
        modules += [kernel(package, source, level, suffix) for level in levels for suffix in levels[level]]
    return modules


class ParallelBuild(build_ext):
    """Compile on every core: the kernels unroll a lot."""

    def finalize_options(self):
        """Default to one job per core."""
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count() or 1


setup(
    ext_modules=cythonize(
        extensions(),
        build_dir="build/cython",
        include_path=[".", *(str(BACKENDS / package) for package, _ in KERNELS)],
        compiler_directives=DIRECTIVES,
        nthreads=0,
    ),
    cmdclass={"build_ext": ParallelBuild},
)
