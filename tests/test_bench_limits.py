"""What the machine can do at most: products, copies and parallel regions, as the benchmark measures them."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convengine.native import cpu, limits


@pytest.mark.parametrize("element", ["float32", "float64"])
@pytest.mark.parametrize("level", cpu.levels())
def test_every_level_multiplies(level, element):
    assert limits.flops(level, element, workers=2, seconds=1e-3) > 1e6


def test_limits_refuse():
    with pytest.raises(ValueError, match=r"level must be one that this CPU runs, .*; got 'mmx'"):
        limits.flops("mmx")
    with pytest.raises(ValueError, match="element must be float32 or float64; got 'int8'"):
        limits.flops(cpu.levels()[0], "int8")
    with pytest.raises(ValueError, match="workers must be at least 1; got 0"):
        limits.flops(cpu.levels()[0], workers=0)
    room = np.zeros(256, np.uint8)
    start = -room.ctypes.data % 64
    with pytest.raises(ValueError, match="one length; got 3 and 2 bytes"):
        limits.copy(room[:3], room[start : start + 2])
    with pytest.raises(ValueError, match="multiple of 64"):
        limits.copy(room[:3], room[start + 1 : start + 4])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("nontemporal", [False, True])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 1000, (1 << 17) + 5, 1 << 20])
def test_copies_copy(count, nontemporal, workers):
    if nontemporal and not limits.streams():
        pytest.skip("this CPU has no non-temporal stores here")  # none are written for it
    room = np.zeros(count + 192, np.uint8)
    start = -room.ctypes.data % 64
    source = np.random.default_rng(0).integers(1, 255, count + 1, np.uint8)[1:]
    limits.copy(source, room[start : start + count], nontemporal=nontemporal, workers=workers)
    assert_array_equal(room[start : start + count], source)
    assert not room[:start].any()
    assert not room[start + count :].any()


def test_regions_are_counted():
    assert len(limits.region(2, idle=1e-5, work=1e-5, repeats=4)) == 4
