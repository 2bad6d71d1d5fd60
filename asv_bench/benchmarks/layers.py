"""Layers of convolutional networks, forward and backward, and the training of a small one, by backend."""

import numpy as np

import convengine as ce

BACKENDS = ["cython", "fft", "torch"]
LAYERS = {  # (N, C_in, size), (C_out, k), stride: layers of ResNet-50, He et al. 2015
    "first": ((8, 3, 224), (64, 7), 2),
    "early": ((8, 64, 56), (64, 3), 1),
    "strided": ((8, 128, 56), (128, 3), 2),
    "deep": ((8, 256, 14), (256, 3), 1),
    "pointwise": ((8, 64, 56), (256, 1), 1),
}


class Layer:
    """One call of a layer or of a gradient, float32, two workers."""

    params = (BACKENDS, list(LAYERS))
    param_names = ("backend", "layer")

    def setup(self, backend, layer):
        (n, channels, size), (outputs, k), stride = LAYERS[layer]
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((n, channels, size, size)).astype(np.float32)
        self.kernel = rng.standard_normal((outputs, channels, k, k)).astype(np.float32)
        self.how = {"padding": k // 2, "stride": stride, "backend": backend, "workers": 2}
        try:
            self.dy = ce.corr2d(self.x, self.kernel, **self.how)
        except ce.NoBackend as refusal:
            raise NotImplementedError from refusal  # asv shows n/a

    def time_forward(self, backend, layer):
        ce.corr2d(self.x, self.kernel, **self.how)


class Gradient(Layer):
    """The gradients of the same layers."""

    def setup(self, backend, layer):
        super().setup(backend, layer)
        try:
            self.time_grad_input(backend, layer)
            self.time_grad_kernel(backend, layer)
        except ce.NoBackend as refusal:
            raise NotImplementedError from refusal  # asv shows n/a

    time_forward = None  # timed above

    def time_grad_input(self, backend, layer):
        ce.corr2d_grad_input(self.dy, self.kernel, self.x.shape, **self.how)

    def time_grad_kernel(self, backend, layer):
        ce.corr2d_grad_kernel(self.x, self.dy, self.kernel.shape, **self.how)


class FilterGradient:
    """The gradients of one filter on a square float32 image, "reflect" border, two workers."""

    params = (["cython", "fft"], [256, 1024], [3, 7, 31])
    param_names = ("backend", "n", "k")

    def setup(self, backend, n, k):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((n, n)).astype(np.float32)
        self.kernel = rng.standard_normal((k, k)).astype(np.float32)
        self.how = {"mode": "same", "boundary": "reflect", "backend": backend, "workers": 2}

    def time_grad_input(self, backend, n, k):
        ce.corr2d_grad_input(self.x, self.kernel, self.x.shape, **self.how)

    def time_grad_kernel(self, backend, n, k):
        ce.corr2d_grad_kernel(self.x, self.x, self.kernel.shape, **self.how)


class Training:
    """One step of a small network on 64 pictures of 8 by 8, as in the tutorial."""

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
