"""The compiled modules hold the instructions of their level and no others; the sources are in nobody's way."""

import importlib.util
import platform
import re
import shutil
import subprocess

import pytest
from convengine_cython.backend import compiled_levels
from convengine_fft.compiled import compiled_levels as tile_levels

SUFFIXES = ("f4", "f8", "i4", "i8")
MODULES = [f"convengine_cython.kernels_{{}}_{suffix}" for suffix in SUFFIXES] + ["convengine_cython.dots_{}_i2"]
MODULES += [f"convengine_fft.tiles_{{}}_{suffix}" for suffix in ("f4", "f8")]
X86 = platform.machine().lower() in ("x86_64", "amd64")


def disassembly(module):
    path = importlib.util.find_spec(module).origin
    return subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True
    ).stdout


needs_objdump = pytest.mark.skipif(not shutil.which("objdump"), reason="objdump (binutils) is not installed")


@needs_objdump
@pytest.mark.skipif(not X86, reason="the levels of x86-64")
@pytest.mark.parametrize("module", MODULES)
class TestLevels:
    def test_baseline_runs_anywhere(self, module):
        text = disassembly(module.format("baseline"))
        assert "%xmm" in text
        assert not re.search(r"%[yz]mm", text)

    def test_avx2_has_no_wider_registers(self, module):
        text = disassembly(module.format("avx2"))
        assert "%ymm" in text
        assert not re.search(r"%zmm|%k[0-7]\b", text)
        assert "vfmadd" in text or "_f" not in module

    def test_avx512_uses_its_registers(self, module):
        text = disassembly(module.format("avx512"))
        assert text.count("%zmm") > 1000
        assert not re.search(VNNI, text)


@needs_objdump
@pytest.mark.skipif(not X86, reason="the levels of x86-64")
@pytest.mark.parametrize("level", ["avx2", "avx512"])
@pytest.mark.parametrize("side", [3, 5, 7, 9])
def test_square_tiles_unroll_whole(level, side):
    """A tile that a compiler leaves a loop keeps its sums in memory: a tenth to a third slower, yet right."""
    text = disassembly(f"convengine_cython.kernels_{level}_f4")
    body = re.search(rf"^[0-9a-f]+ <\w*line_{side}>:$(.*?)^$", text, flags=re.MULTILINE | re.DOTALL)[1]
    sums = 16 if level == "avx512" else 9  # at least, of a tile
    assert body.count("vfmadd") >= 2 * side * side * sums  # stored plainly, and past the caches


VNNI = r"\bvpdp(bu|ws)sds?\b"


@needs_objdump
@pytest.mark.skipif(not X86, reason="the levels of x86-64")
def test_dot_instructions():
    """Every level has its own; those that not all CPUs of a level have are in a variant of it."""
    assert "pmaddwd" in disassembly("convengine_cython.dots_baseline_i2")
    assert re.search(r"vpmaddwd.*%ymm", disassembly("convengine_cython.dots_avx2_i2"))
    assert re.search(r"vpmaddwd.*%zmm", disassembly("convengine_cython.dots_avx512_i2"))
    assert re.search(r"vpdpwssd.*%zmm", disassembly("convengine_cython.dots_avx512vnni_i2"))
    assert re.search(r"vpdpbusd.*%zmm", disassembly("convengine_cython.dots_avx512vnni_u1"))


@needs_objdump
@pytest.mark.skipif(not X86, reason="the levels of x86-64")
@pytest.mark.parametrize("module", ["cpu", "pool"])
def test_what_is_imported_first_runs_anywhere(module):
    assert not re.search(r"%[yz]mm", disassembly(f"convengine.native.{module}"))


@needs_objdump
@pytest.mark.skipif(not X86, reason="the levels of x86-64")
def test_only_the_loops_of_wider_levels_hold_their_registers():
    functions = re.split(r"^[0-9a-f]+ <(.+)>:$", disassembly("convengine.native.limits"), flags=re.MULTILINE)
    wide = {name for name, text in zip(functions[1::2], functions[2::2], strict=True) if re.search(r"%[yz]mm", text)}
    assert wide == {f"ce_fma_{level}_{element}" for level in ("avx2", "avx512") for element in ("f4", "f8")}


def test_every_level_of_this_architecture_is_compiled():
    assert compiled_levels() == (("avx512", "avx2", "baseline") if X86 else compiled_levels()[:1])
    assert tile_levels() == compiled_levels()
    for level in compiled_levels():
        for module in MODULES:
            assert importlib.util.find_spec(module.format(level))
