"""What the tests of calls that came before share: arrays, and a call that has come twice."""

import numpy as np

rng = np.random.default_rng(0)
X = rng.standard_normal((12, 13)).astype(np.float32)
K = rng.standard_normal((3, 2)).astype(np.float32)
REFLECT = {"mode": "same", "boundary": "reflect"}


def warmed(call):
    """What a call gives at last, having come twice before; the same bits each time."""
    first, second, third = (call() for _ in range(3))
    for other in (second, third):
        assert (other.dtype, other.shape) == (first.dtype, first.shape)
        assert other.tobytes() == first.tobytes()
    return third
