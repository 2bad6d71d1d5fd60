"""SciPy and NumPy: scipy.ndimage, scipy.signal, numpy.correlate."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from convengine.bench.contest import Bound, Job, Route, Run, direct, either, fft, thread_counts
from convengine.bench.tasks import Array, gaussian_weights, sigma_of

__all__ = ["NDImage", "NumPy", "Signal"]

# Multiply-adds a second on one thread of a current CPU.
CORRELATE, CORRELATE1D, DOT, UPFIRDN = 1.2e9, 1.5e9, 5e9, 1.5e9


def _version() -> str:
    import scipy

    return f"SciPy {scipy.__version__}"


class NDImage:
    """scipy.ndimage, which has one thread. `convolve` is `correlate` with the kernel turned round."""

    def version(self) -> str:
        """Import it."""
        from scipy import ndimage  # noqa: F401  # loaded before the clock runs

        return _version()

    def routes(self, job: Job) -> list[Route] | str:
        """Correlate, correlate1d, and for a Gaussian gaussian_filter and correlate1d along each axis."""
        from scipy import ndimage

        task, x, kernel, out = job.task, job.x, job.kernel, job.out
        if not task.is_float and np.dtype(task.dtype).itemsize < 4:
            return f"results of {task.dtype} wrap around instead of saturating"

        def route(name: str, call: Callable[[], Any], bound: Bound, rate: float) -> Route:
            return Route(name, lambda: Run(call, bound, lambda returned: out), rate)

        if task.kind == "signal":
            call = partial(ndimage.correlate1d, x, kernel, output=out, mode="constant")
            return [route("correlate1d", call, direct(task), CORRELATE1D)]
        if task.kind == "image":
            call = partial(ndimage.correlate, x, kernel, output=out, mode="mirror")
            return [route("correlate", call, direct(task), CORRELATE)]
        rows, columns = task.factors()
        between = np.empty_like(out)
        terms = sum(task.kernel_shape) + 2

        def pair() -> None:
            ndimage.correlate1d(x, rows, axis=0, output=between, mode="mirror")
            ndimage.correlate1d(between, columns, axis=1, output=out, mode="mirror")

        radius = [width // 2 for width in task.kernel_shape]
        sigma = [sigma_of(width) for width in task.kernel_shape]
        rate = CORRELATE1D * task.taps / sum(task.kernel_shape)
        own = [gaussian_weights(width) for width in task.kernel_shape]
        routes = [route("correlate1d, twice", pair, direct(task, terms, (rows, columns)), rate)]
        if all(width % 2 for width in task.kernel_shape):
            call = partial(ndimage.gaussian_filter, x, sigma, output=out, mode="mirror", radius=radius)
            routes.append(route("gaussian_filter", call, direct(task, terms + 2, own), rate))
        return routes


class Signal:
    """scipy.signal by FFT, on all threads and on one; the image has its border around it before the clock starts."""

    def version(self) -> str:
        """Import it."""
        from scipy import signal  # noqa: F401  # loaded before the clock runs

        return _version()

    def routes(self, job: Job) -> list[Route] | str:
        """Oaconvolve, fftconvolve, and the choice of correlate; for a signal upfirdn too."""
        from scipy import fft as transforms
        from scipy import signal

        task = job.task
        if not task.is_float:
            return f"gives floats or wraps around, not {task.dtype} that saturates"
        padded, flipped = job.padded(), np.flip(job.kernel).copy()

        def within(threads: int, call: Callable[[], Array]) -> Callable[[], Array]:
            def called() -> Array:
                with transforms.set_workers(threads):
                    return call()

            return called

        routes = []
        for name in ("oaconvolve", "fftconvolve"):
            function = getattr(signal, name)

            def call(function: Callable[..., Array] = function) -> Array:
                return function(padded, flipped, mode="valid")

            for threads, text in thread_counts(job.threads):
                routes.append(Route(f"{name}, {text}", _ready(within(threads, call), fft(task))))
        routes.append(
            Route("correlate", _ready(lambda: signal.correlate(padded, job.kernel, mode="valid"), either(task)))
        )
        if task.kind == "signal":
            first = task.taps - 1
            upfirdn = _ready(lambda: signal.upfirdn(flipped, padded)[first : first + task.samples], direct(task))
            routes.append(Route("upfirdn", upfirdn, UPFIRDN))
        return routes


def _ready(call: Callable[[], Array], bound: Bound) -> Callable[[], Run]:
    return lambda: Run(call, bound)


class NumPy:
    """numpy.correlate, which sums directly on one thread. `convolve` is `correlate` with the kernel turned round."""

    def version(self) -> str:
        """Tell it."""
        return f"NumPy {np.__version__}"

    def routes(self, job: Job) -> list[Route] | str:
        """Correlate."""
        if job.task.kind != "signal":
            return "correlates signals only"
        call = _ready(lambda: np.correlate(job.x, job.kernel, "same"), direct(job.task))
        return [Route("correlate", call, DOT)]
