"""Single filters on the host, by library: images, Gaussians, signals, volumes; outputs preallocated, "same" size."""

import functools

import numpy as np

import convengine as ce
from convengine import registry

from .subjects import LIBRARIES, OURS, THREADS, call, confine, refuse


class Images:
    """A warm call on a square image with a kernel of no structure, "reflect" border."""

    version = "1"
    params = (
        ("convengine", "convengine/cython/direct", *LIBRARIES[1:]),
        [64, 256, 1024, 4096],
        [3, 7, 15, 31, 63, 127],
        ["float32", "float64", "uint8"],
        THREADS,
    )
    param_names = ("backend", "n", "k", "dtype", "threads")

    def setup(self, backend, n, k, dtype, threads):
        self.call = call(backend, "image", (n, n), (k, k), dtype, threads)

    def time_call(self, backend, n, k, dtype, threads):
        self.call()


class Gaussians:
    """The same with a Gaussian, given to convengine as a plain array, to the others as its factors."""

    version = "1"
    params = (("convengine", "convengine/cython/separable", *LIBRARIES[1:]), [1024, 4096], [3, 7, 15, 31, 63], THREADS)
    param_names = ("backend", "n", "k", "threads")

    def setup(self, backend, n, k, threads):
        self.call = call(backend, "gaussian", (n, n), (k, k), "float32", threads)

    def time_call(self, backend, n, k, threads):
        self.call()


class Signals:
    """A warm call on a long signal, zeros beyond its ends."""

    version = "1"
    params = (LIBRARIES, [10**4, 10**6], [15, 63, 255, 1023, 4095], ["float32", "float64"], THREADS)
    param_names = ("backend", "n", "k", "dtype", "threads")

    def setup(self, backend, n, k, dtype, threads):
        self.call = call(backend, "signal", (n,), (k,), dtype, threads)

    def time_call(self, backend, n, k, dtype, threads):
        self.call()


@functools.cache
def _volume(backend, n, k, threads):
    """A prepared filter of a cube, with the cube and room for the result."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, n, n)).astype(np.float32)
    kernel = rng.standard_normal((k, k, k)).astype(np.float32)
    how = {"mode": "same", "boundary": "reflect", "workers": confine(threads)}
    _, _, name = backend.partition("/")
    try:
        planned = ce.plan("corr3d", x, kernel, backend=name or None, **how)
    except ce.NoBackend as refusal:
        refuse(str(refusal))
    out = np.zeros_like(x)
    planned(x, out=out)
    return planned, x, out


class Volumes:
    """A warm call on a cube, float32, "reflect" border."""

    version = "1"
    params = (["convengine", "convengine/cython", "convengine/fft", "convengine/scipy"], [32, 128], [3, 5, 9], THREADS)
    param_names = ("backend", "n", "k", "threads")

    def setup(self, backend, n, k, threads):
        self.filter, self.x, self.out = _volume(backend, n, k, threads)

    def time_call(self, backend, n, k, threads):
        self.filter(self.x, out=self.out)


class Stages:
    """A 512 x 512 image: choosing the method, preparing the kernel, the call, each by itself; and all at once, new."""

    version = "1"
    params = (OURS, [3, 31])
    param_names = ("backend", "k")

    def setup(self, backend, k):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((512, 512)).astype(np.float32)
        self.kernel = rng.standard_normal((k, k)).astype(np.float32)
        self.out = np.zeros_like(self.x)
        _, _, name = backend.partition("/")
        self.how = {"mode": "same", "boundary": "reflect", "backend": name or None}
        try:
            self.planned = ce.plan("corr2d", self.x, self.kernel, **self.how)
        except ce.NoBackend as refusal:
            refuse(str(refusal))
        self.planned(self.x, out=self.out)
        chosen = ce.explain(self.x, self.kernel, **self.how).chosen
        problem = self.planned.problem
        self.plan = registry.get(chosen.backend).plan(problem, chosen.offer, None)

    def time_choose(self, backend, k):
        ce.clear_cache()
        ce.explain(self.x, self.kernel, **self.how)

    def time_prepare(self, backend, k):
        self.plan.prepare(self.kernel)

    def time_call(self, backend, k):
        self.planned(self.x, out=self.out)

    def time_new_call(self, backend, k):
        ce.clear_cache()
        ce.corr2d(self.x, self.kernel, out=self.out, **self.how)
