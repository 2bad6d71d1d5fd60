"""Layers of convolutional networks, forward and backward, and the training of a small one, by library."""

import functools
import multiprocessing
import site
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import convengine as ce
from convengine.bench.peers import PEERS
from convengine.bench.timing import measure

from .subjects import THREADS, confine, refuse

ROUNDS, SECONDS = 5, 0.05
HERE = str(Path(__file__).parents[1])  # where a new process finds this module
LIBRARIES = ["convengine", "convengine/cython", "convengine/fft", "convengine/torch", "torch"]
LAYERS = {  # (N, C_in, size), (C_out, k), stride: layers of ResNet-50, He et al. 2015
    "first": ((8, 3, 224), (64, 7), 2),
    "early": ((8, 64, 56), (64, 3), 1),
    "strided": ((8, 128, 56), (128, 3), 2),
    "deep": ((8, 256, 14), (256, 3), 1),
    "pointwise": ((8, 64, 56), (256, 1), 1),
}


@functools.cache
def _ours(backend, layer, threads):
    """A layer's forward pass, and its gradients by x and by the kernel."""
    (n, channels, size), (outputs, k), stride = LAYERS[layer]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, channels, size, size)).astype(np.float32)
    kernel = rng.standard_normal((outputs, channels, k, k)).astype(np.float32)
    how = {"padding": k // 2, "stride": stride, "workers": confine(threads)}
    how |= {"backend": backend.partition("/")[2] or None}
    dy = ce.corr2d(x, kernel, **how)
    return {
        "forward": lambda: ce.corr2d(x, kernel, **how),
        "grad_input": lambda: ce.corr2d_grad_input(dy, kernel, x.shape, **how),
        "grad_kernel": lambda: ce.corr2d_grad_kernel(x, dy, kernel.shape, **how),
    }


@functools.cache
def _theirs(layer, threads):
    """The same by PyTorch alone."""
    count = confine(threads)
    try:
        import torch
    except ImportError:
        refuse("pip install torch")
    torch.set_num_threads(count)
    (n, channels, size), (outputs, k), stride = LAYERS[layer]
    x, kernel = torch.randn(n, channels, size, size), torch.randn(outputs, channels, k, k)
    how = {"padding": k // 2, "stride": stride}
    dy = torch.nn.functional.conv2d(x, kernel, **how)
    return {
        "forward": lambda: torch.nn.functional.conv2d(x, kernel, **how),
        "grad_input": lambda: torch.nn.grad.conv2d_input(x.shape, kernel, dy, **how),
        "grad_kernel": lambda: torch.nn.grad.conv2d_weight(x, kernel.shape, dy, **how),
    }


class Layers:
    """One call of a layer, or of one of its gradients, float32."""

    version = "1"
    params = (LIBRARIES, list(LAYERS), ["forward", "grad_input", "grad_kernel"], THREADS)
    param_names = ("backend", "layer", "operation", "threads")

    def setup(self, backend, layer, operation, threads):
        try:
            ways = _theirs(layer, threads) if backend == "torch" else _ours(backend, layer, threads)
            self.call = ways[operation]
            self.call()
        except ce.NoBackend as refusal:
            refuse(str(refusal))

    def time_call(self, backend, layer, operation, threads):
        self.call()


@functools.cache
def _filter(n, k, dtype):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, n)).astype(dtype), rng.standard_normal((k, k)).astype(dtype)


class FilterGradients:
    """The gradients of one filter on a square image, "reflect" border."""

    version = "2"
    params = (
        ["convengine", "convengine/cython", "convengine/fft"],
        [256, 1024],
        [3, 7, 31],
        ["float32", "float64"],
        THREADS,
    )
    param_names = ("backend", "n", "k", "dtype", "threads")

    def setup(self, backend, n, k, dtype, threads):
        self.x, self.kernel = _filter(n, k, dtype)
        name = backend.partition("/")[2] or None
        self.how = {"mode": "same", "boundary": "reflect", "backend": name, "workers": confine(threads)}
        try:
            self.time_grad_input(backend, n, k, dtype, threads)
            self.time_grad_kernel(backend, n, k, dtype, threads)
        except ce.NoBackend as refusal:
            refuse(str(refusal))

    def time_grad_input(self, backend, n, k, dtype, threads):
        ce.corr2d_grad_input(self.x, self.kernel, self.x.shape, **self.how)

    def time_grad_kernel(self, backend, n, k, dtype, threads):
        ce.corr2d_grad_kernel(self.x, self.x, self.kernel.shape, **self.how)


def _seconds(library, layer, operation):
    """Time one call; in a process of the library's own."""
    ways = _theirs(layer, "all") if library == "torch" else _ours(library, layer, "all")
    return measure(ways[operation], SECONDS).seconds


class LayerRatio:
    """Our time over PyTorch's, all threads: 0.5 is twice as fast. Each in a process of its own, in turn."""

    version = "1"
    params = (["torch"], list(LAYERS), ["forward", "grad_input", "grad_kernel"])
    param_names = ("library", "layer", "operation")
    unit = "ours / theirs"
    timeout = 120

    def setup(self, library, layer, operation):
        if PEERS[library].missing:
            refuse(f"pip install {PEERS[library].install}")

    def track_time(self, library, layer, operation):
        alone = functools.partial(
            ProcessPoolExecutor, 1, multiprocessing.get_context("spawn"), site.addsitedir, (HERE,)
        )
        ratios = []
        with alone() as ours, alone() as theirs:
            for _ in range(ROUNDS):
                mine = ours.submit(_seconds, "convengine", layer, operation).result()
                ratios.append(mine / theirs.submit(_seconds, library, layer, operation).result())
        return statistics.median(ratios)


class Training:
    """One step of a small network on 64 pictures of 8 by 8, as in the tutorial."""

    version = "1"

    def setup(self):
        rng = np.random.default_rng(0)
        self.x, self.labels = rng.random((64, 1, 8, 8), np.float32), rng.integers(0, 10, 64)
        nn = ce.nn
        first, second = nn.Conv2D(16, 3, padding=1, rng=rng), nn.Conv2D(32, 3, padding=1, rng=rng)
        self.net = nn.Sequential(
            first, nn.ReLU(), nn.MaxPool2D(2), second, nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.Linear(10, rng=rng)
        )
        self.descent = nn.SGD(self.net.parameters(), lr=0.01, momentum=0.9)
        self.loss = nn.softmax_cross_entropy

    def time_step(self):
        _, gradient = self.loss(self.net(self.x), self.labels)
        self.net.zero_grad()
        self.net.backward(gradient)
        self.descent.step()
