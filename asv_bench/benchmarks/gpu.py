"""On a CUDA device: filters and layers on its own arrays, timed by its own events; n/a without one.

Every call gets other arrays than the one before, more of them together than the second-level cache holds; outputs are
preallocated where a library allows it. Results are compared with convengine's before anything is timed.
"""

from statistics import median

import numpy as np

import convengine as ce

from .subjects import refuse

PEERS = ("ndimage", "signal", "torch", "torch, TF32")
LIBRARIES = ("convengine", *PEERS)
BEYOND_CACHES = 192 << 20  # bytes; an H100 has 50 MB of second-level cache
SECONDS, ROUNDS = 0.02, 7
CLOSE = {"torch, TF32": 1e-2}  # of the largest result; 1e-4 for the others: a wrong border is far beyond
# Those of ResNet-50, on 32 images: channels in and out, width of the image, of the kernel, stride
LAYERS = {
    "first, 7x7": (3, 64, 224, 7, 2),
    "3x3 of 64": (64, 64, 56, 3, 1),
    "3x3 of 128": (128, 128, 28, 3, 1),
    "3x3 of 256": (256, 256, 14, 3, 1),
    "3x3 of 512": (512, 512, 7, 3, 1),
    "1x1, 256 to 64": (256, 64, 56, 1, 1),
    "1x1, 1024 to 2048": (1024, 2048, 14, 1, 2),
}


def _cupy():
    """CuPy, where there is a device for it."""
    if not (found := ce.backends()["cupy"]).usable:
        refuse(found.reason)
    import cupy

    return cupy


def _seconds(cupy, call, count):
    """Median over the rounds of the seconds of a call, which is given its number, one after the other on one stream."""
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()

    def lap(calls):
        start.record()
        for number in range(calls):
            call(number % count)
        stop.record()
        stop.synchronize()
        return cupy.cuda.get_elapsed_time(start, stop) / 1000 / calls

    lap(2 * count)  # compiles, and takes memory from the pool
    calls = max(count, int(SECONDS / max(lap(count), 1e-9)))
    return median(lap(calls) for _ in range(ROUNDS))


def _torch(tf32):
    try:
        import torch
    except ImportError:
        refuse("pip install torch")
    if not torch.cuda.is_available():
        refuse("torch sees no CUDA device")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    return torch


def _check(cupy, library, found, expected):
    error = float(cupy.abs(found - expected).max() / cupy.abs(expected).max())
    if not error <= CLOSE.get(library, 1e-4):
        raise AssertionError(f"{library} is off by {error:.2g} of the largest result")


def _filter(cupy, library, kernel):
    """How a library filters x into out, zeros beyond the border; who has no `out` copies nothing, and returns it."""
    if library == "convengine":
        return lambda x, out: ce.corr2d(x, kernel, mode="same", out=out)
    if library == "ndimage":
        from cupyx.scipy.ndimage import correlate

        taps = cupy.asarray(kernel)
        return lambda x, out: correlate(x, taps, output=out, mode="constant")
    if library == "signal":
        from cupyx.scipy.signal import fftconvolve

        flipped = cupy.asarray(kernel[::-1, ::-1].copy())
        return lambda x, out: fftconvolve(x, flipped, mode="same")
    torch = _torch(library.endswith("TF32"))
    weights = torch.from_dlpack(cupy.asarray(kernel))[None, None]
    return lambda x, out: torch.nn.functional.conv2d(torch.from_dlpack(x)[None, None], weights, padding="same")


class Images:
    """Device seconds of a filter of a float32 image, with a kernel of no structure."""

    version = "1"
    params = (LIBRARIES, [1024, 4096, 8192, 16384], [3, 5, 7, 9, 15, 31, 63, 127])
    param_names = ("library", "n", "k")
    unit = "seconds"
    timeout = 300

    def setup(self, library, n, k):
        self.cupy = cupy = _cupy()
        if library != "convengine" and n * n * k * k > 3e12:
            refuse("takes too long")
        rng = np.random.default_rng(0)
        kernel = rng.standard_normal((k, k)).astype(np.float32)
        count = max(2, BEYOND_CACHES // (8 * n * n))
        device = cupy.random.default_rng(0)
        self.x = [device.standard_normal((n, n), dtype=np.float32) for _ in range(count)]
        self.out = [cupy.empty_like(x) for x in self.x]
        self.filter = _filter(cupy, library, kernel)
        made = self.filter(self.x[0], self.out[0])
        found = self.out[0] if library in ("convengine", "ndimage") else cupy.asarray(made).reshape(n, n)
        _check(cupy, library, found, ce.corr2d(self.x[0], kernel, mode="same"))

    def track_time(self, library, n, k):
        return _seconds(self.cupy, lambda number: self.filter(self.x[number], self.out[number]), len(self.x))


class OfCopy(Images):
    """What part of the fastest copy of the same bytes' speed convengine's filter reaches: 1 is the limit."""

    params = (["convengine"], [4096, 8192, 16384], [3, 5, 7, 9])
    unit = "of copy"

    def track_time(self, library, n, k):
        copy = _seconds(self.cupy, lambda number: self.cupy.copyto(self.out[number], self.x[number]), len(self.x))
        return copy / super().track_time(library, n, k)


class Layers:
    """Device seconds of a layer of ResNet-50 in float32."""

    version = "1"
    params = (("convengine", "torch", "torch, TF32"), list(LAYERS))
    param_names = ("library", "layer")
    unit = "seconds"
    timeout = 300

    def setup(self, library, layer):
        self.cupy = cupy = _cupy()
        c_in, c_out, n, k, stride = LAYERS[layer]
        weights = np.random.default_rng(0).standard_normal((c_out, c_in, k, k)).astype(np.float32)
        device = cupy.random.default_rng(0)
        count = max(2, BEYOND_CACHES // (4 * 32 * c_in * n * n))
        self.x = [device.standard_normal((32, c_in, n, n), dtype=np.float32) for _ in range(count)]
        how = {"padding": k // 2, "stride": stride}
        expected = ce.corr2d(self.x[0], weights, **how)
        if library == "convengine":
            out = cupy.empty_like(expected)
            self.layer = lambda x: ce.corr2d(x, weights, out=out, **how)
        else:
            torch = _torch(library.endswith("TF32"))
            theirs = torch.from_dlpack(cupy.asarray(weights))
            self.layer = lambda x: torch.nn.functional.conv2d(torch.from_dlpack(x), theirs, **how)
        _check(cupy, library, cupy.asarray(self.layer(self.x[0])), expected)

    def track_time(self, library, layer):
        return _seconds(self.cupy, lambda number: self.layer(self.x[number]), len(self.x))
