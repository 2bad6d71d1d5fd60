"""What everything beside the sums costs: a small call, a parallel region, the import, memory."""

import statistics

import numpy as np

import convengine as ce
from convengine.bench.contestants import our_contestants
from convengine.bench.rounds import Arena, Settings
from convengine.bench.tasks import Task
from convengine.native import pool

from .subjects import OURS, refuse


class SmallCall:
    """A 3 x 3 filter that came before, through the public function: what it costs beside the sums."""

    version = "2"
    params = (OURS, [8, 16, 32, 64, 128], [True, False])
    param_names = ("backend", "n", "out")

    def setup(self, backend, n, out):
        self.backend = backend.partition("/")[2] or None
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((n, n)).astype(np.float32)
        self.kernel = rng.standard_normal((3, 3)).astype(np.float32)
        self.out = np.zeros_like(self.x) if out else None
        for _ in range(3):
            self.time_call(backend, n, out)

    def time_call(self, backend, n, out):
        ce.corr2d(self.x, self.kernel, mode="same", boundary="reflect", backend=self.backend, out=self.out)


SAME = {"mode": "same", "boundary": "reflect"}
PLANS = {  # operation, the shape of x but for its first axis, samples, kernel, keywords
    "image 3x3": ("corr2d", (64,), "f4", (3, 3), SAME),
    "image 7x7": ("corr2d", (512,), "f4", (7, 7), SAME),
    "image 31x31": ("corr2d", (1024,), "f4", (31, 31), SAME),
    "float64 image 31x31, zeros": ("corr2d", (512,), "f8", (31, 31), {"mode": "same"}),
    "uint8 image 7x7": ("corr2d", (512,), "u1", (7, 7), SAME),
    "Gaussian 9x9": ("corr2d", (300,), "f4", "gaussian", SAME),
    "signal 63 taps": ("corr1d", (), "f4", (63,), SAME),
    "volume 5x5x5": ("corr3d", (24, 24), "f4", (5, 5, 5), SAME),
    "layer 8 to 4, 3x3": ("corr2d", (8, 32, 32), "f4", (4, 8, 3, 3), {"padding": 1}),
}


class Planning:
    """`ce.plan` of a new problem: x has another size at every call, and a kernel of random values."""

    version = "1"
    params = (list(PLANS),)
    param_names = ("problem",)

    def setup(self, problem):
        self.operation, self.rest, dtype, kernel, self.how = PLANS[problem]
        rng = np.random.default_rng(0)
        if kernel == "gaussian":
            kernels = [ce.filters.gaussian(1 + i / 600, ndim=2).astype(np.float32) for i in range(64)]
        elif dtype == "u1":
            kernels = list(rng.integers(-9, 10, (64, *kernel)).astype(np.int8))
        else:
            kernels = list(rng.standard_normal((64, *kernel)).astype(dtype))
        self.sample, self.kernels, self.size = np.zeros((), dtype), kernels, 64

    def time_plan(self, problem):
        self.size += 1
        x = np.broadcast_to(self.sample, (self.size, *self.rest))  # takes no memory
        ce.plan(self.operation, x, self.kernels[self.size % 64], **self.how)


class Region:
    """What a parallel region of two workers costs beside its work; 0 and 1 ms after the one before."""

    version = "1"
    params = ([0.0, 1e-3], [False, True])
    param_names = ("pause", "until the helper works")
    unit = "seconds"

    def track_overhead(self, pause, together):
        return statistics.median(pool.overhead(2, pause_seconds=pause, together=together, regions=500))


class Import:
    """What `import convengine` costs, NumPy's part too."""

    version = "1"

    def timeraw_import(self):
        return "import convengine"


class Memory:
    """Peak bytes of the first call on an image, beside x, the kernel and the result."""

    version = "1"
    params = (OURS, [1024, 4096], [3, 31, 127])
    param_names = ("backend", "n", "k")
    unit = "bytes"

    def setup(self, backend, n, k):
        method = backend.partition("/")[2] or "auto"
        (contestant,) = our_contestants([method], [])
        with Arena(Settings(threads=2)) as arena:
            found = arena.memory(Task("image", (n, n), (k, k), "float32"), contestant)
        if found["reason"]:
            refuse(found["reason"])
        self.bytes = found["bytes"]

    def track_peak(self, backend, n, k):
        return self.bytes
