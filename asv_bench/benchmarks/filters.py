"""Single filters: planning, preparing and calling timed apart, by backend."""

import statistics

import numpy as np

import convengine as ce
from convengine.native import pool

BACKENDS = ["cython", "fft", "scipy"]


class Call2D:
    """One warm call on a square float image, output preallocated, two workers."""

    params = (BACKENDS, [256, 1024], [3, 7, 11, 31], ["float32", "float64"])
    param_names = ("backend", "n", "k", "dtype")

    def setup(self, backend, n, k, dtype):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((n, n)).astype(dtype)
        self.out = np.zeros_like(self.x)
        kernel = rng.standard_normal((k, k)).astype(dtype)
        try:
            self.filter = ce.plan("corr2d", self.x, kernel, mode="same", boundary="reflect", backend=backend, workers=2)
        except ce.NoBackend as refusal:
            raise NotImplementedError from refusal  # asv shows n/a
        self.filter(self.x, out=self.out)

    def time_call(self, backend, n, k, dtype):
        self.filter(self.x, out=self.out)


class SmallCall:
    """A call that came before, through the public function: what it costs beside the sums."""

    params = ([8, 16, 32, 64, 128, 256], [True, False])
    param_names = ("n", "out")

    def setup(self, n, out):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((n, n)).astype(np.float32)
        self.kernel = rng.standard_normal((3, 3)).astype(np.float32)
        self.out = np.zeros_like(self.x) if out else None
        for _ in range(3):
            self.time_call(n, out)

    def time_call(self, n, out):
        ce.corr2d(self.x, self.kernel, mode="same", boundary="reflect", out=self.out)


class Region:
    """What a parallel region of two workers costs beside its work; 0 and 1 ms after the one before."""

    params = ([0.0, 1e-3], [False, True])
    param_names = ("pause", "until the helper works")
    unit = "seconds"

    def track_overhead(self, pause, together):
        return statistics.median(pool.overhead(2, pause_seconds=pause, together=together, regions=500))


class Plan2D:
    """A new problem: reading the arguments, asking every backend, choosing; and preparing the kernel."""

    params = ([3, 31],)
    param_names = ("k",)

    def setup(self, k):
        self.x = np.zeros((512, 512), np.float32)
        self.kernel = np.ones((k, k), np.float32)
        ce.corr2d(self.x, self.kernel)

    def time_plan(self, k):
        ce.clear_cache()
        ce.explain(self.x, self.kernel)


class Import:
    """What `import convengine` costs beyond NumPy."""

    def timeraw_import(self):
        return "import convengine"
