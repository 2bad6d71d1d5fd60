"""Single filters: planning, preparing and calling timed apart, by backend."""

import numpy as np

import convengine as ce

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

    def time_warm_small_call(self, k):
        ce.corr2d(self.x[:32, :32], self.kernel[:3, :3])


class Import:
    """What `import convengine` costs beyond NumPy."""

    def timeraw_import(self):
        return "import convengine"
