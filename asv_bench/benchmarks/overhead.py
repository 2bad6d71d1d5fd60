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
