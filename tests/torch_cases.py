"""What the tests of torch tensors share; they are skipped where torch is not installed."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install convengine[peers])")

BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")
SEED = 5


def random(*shape, dtype=torch.float64, seed=SEED):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, dtype=dtype, generator=generator)


def leaf(*shape, **how):
    return random(*shape, **how).requires_grad_()
