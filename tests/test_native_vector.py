"""vector.h: half precision as NumPy has it, vectors of every element and width in a plug-in's program."""

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from convengine import native
from convengine.native import cpu


@pytest.fixture(params=["portable", "f16c"])
def route(request: pytest.FixtureRequest) -> str:
    if request.param not in cpu._half_routes():
        pytest.skip(f"this CPU has no {request.param} instructions")
    return str(request.param)


def test_every_half_becomes_the_float_that_numpy_gives(route: str) -> None:
    halves = np.arange(2**16, dtype=np.uint16)
    got = np.array([cpu._half_to_float(half, route) for half in halves.tolist()], np.uint32)
    want = halves.view(np.float16).astype(np.float32)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(got[number], want.view(np.uint32)[number])
    # A NaN keeps its sign and payload, and is quiet.
    payload = halves[~number].astype(np.uint32)
    np.testing.assert_array_equal(got[~number], (payload & 0x8000) << 16 | 0x7FC00000 | (payload & 0x3FF) << 13)


def test_floats_become_the_halves_that_numpy_gives(route: str) -> None:
    exact = np.arange(0x7C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact[-1] = 65536  # where the half after the largest would lie
    ties = (exact[1:] + exact[:-1]) / 2
    smallest = np.float32(2) ** -149
    corner = np.array([0, smallest, 2**-25, 65519.996, 65520, 3e38, np.inf, 2**-126, 1.1754942e-38], np.float32)
    drawn = np.random.default_rng(0).integers(0, 2**32, 60_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([exact, ties, np.nextafter(ties, 0), np.nextafter(ties, np.float32(np.inf)), corner, drawn])
    bits = x.view(np.uint32)
    bits[::2] ^= 0x80000000
    got = np.array([cpu._float_to_half(value, route) for value in bits.tolist()], np.uint16)
    with np.errstate(over="ignore", under="ignore"):
        want = x.astype(np.float16)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(got[number], want.view(np.uint16)[number])
    payload = bits[~number]
    np.testing.assert_array_equal(got[~number], payload >> 16 & 0x8000 | 0x7E00 | payload >> 13 & 0x3FF)


def test_an_unknown_route_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"one of \('portable'.*got 'sse'"):
        cpu._half_to_float(0, "sse")
    with pytest.raises(ValueError, match=r"one of \('portable'.*got 'sse'"):
        cpu._float_to_half(0, "sse")


VECTOR_PROGRAM = """
#include "vector.h"
__attribute__((noinline)) void triple(const CE_T *x, CE_T *out) /* whose alignment is not known in here */
{
    ce_store(out, ce_load(x) * ce_splat(3) + ce_zero());
}
int main(void)
{
    CE_T x[CE_LANES], out[CE_LANES + 2];
    for (int i = 0; i < CE_LANES; i++)
        x[i] = (CE_T)(i + 1);
    for (int i = 0; i < CE_LANES + 2; i++)
        out[i] = -1;
    triple(x, out + 1); /* these two are not both aligned as vectors */
    if (CE_LANES * sizeof(CE_T) != CE_VECTOR_BYTES || out[0] != -1 || out[CE_LANES + 1] != -1)
        return 1;
    for (int i = 0; i < CE_LANES; i++)
        if (out[i + 1] != 3 * x[i])
            return 2;
    ce_store(out, ce_splat((CE_T)-0.0));
    const CE_T zero = (CE_T)-0.0;
    for (int i = 0; i < CE_LANES; i++)
        if (memcmp(out + i, &zero, sizeof zero))
            return 3;
    ce_vec square[CE_LANES];
    for (int i = 0; i < CE_LANES; i++)
        for (int j = 0; j < CE_LANES; j++)
            square[i][j] = (CE_T)(i * CE_LANES + j);
    ce_transpose(square);
    for (int i = 0; i < CE_LANES; i++)
        for (int j = 0; j < CE_LANES; j++)
            if (square[i][j] != (CE_T)(j * CE_LANES + i))
                return 5;
    return ce_float_to_half(ce_half_to_float(0x3555)) == 0x3555 ? 0 : 4;
}
"""


@pytest.mark.parametrize(
    ("element", "bytes_"),
    [("float", 16), ("float", 32), ("float", 64), ("double", 64), ("int32_t", 32), ("int64_t", 16)],
)
def test_a_plugin_compiles_against_the_header(tmp_path: Path, element: str, bytes_: int) -> None:
    # Wider vectors than the CPU's are split by the compiler, so every width runs everywhere.
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"the compiler {compiler[0]} is not installed")
    source, program = tmp_path / "vector.c", tmp_path / "vector"
    source.write_text(VECTOR_PROGRAM)
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-DCE_T={element}", f"-DCE_VECTOR_BYTES={bytes_}"]
    subprocess.run([*compiler, *flags, f"-I{native.include()}", str(source), "-o", str(program)], check=True)
    assert subprocess.run([str(program)], check=False).returncode == 0


def test_the_include_folder_serves_plugins() -> None:
    folder = Path(native.include())
    assert folder.is_absolute()
    assert (folder / "vector.h").is_file()
    assert (folder / "pool.pxd").is_file()
