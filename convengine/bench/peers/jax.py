"""JAX: jax.lax.conv_general_dilated and, for signals, jax.scipy.signal.fftconvolve, compiled."""

from functools import cache, partial
from typing import Any

import numpy as np

from convengine.bench.contest import Job, Route, Run, direct, fft

__all__ = ["JAX"]

RATE = 2e9  # multiply-adds a second


class JAX:
    """Compiled before the clock starts, arrays on their device; it has no output of the caller's."""

    def version(self) -> str:
        """Import it."""
        import jax

        return f"jax {jax.__version__}"

    def routes(self, job: Job) -> list[Route] | str:
        """One convolution of arrays with one channel; for a Gaussian, one along each axis."""
        import jax

        task = job.task
        if not task.is_float:
            return f"has no sums of {task.dtype} that saturate"
        conv = _compiled()
        x = jax.device_put(job.padded()[None, None])
        rate, bound = RATE, direct(task)
        if task.kind == "gaussian":
            rows, columns = (weights.astype(task.dtype) for weights in task.factors())
            kernels = [jax.device_put(rows[None, None, :, None]), jax.device_put(columns[None, None, None, :])]
            bound = direct(task, sum(task.kernel_shape), (rows.astype(float), columns.astype(float)))
            rate = RATE * task.taps / sum(task.kernel_shape)
        else:
            kernels = [jax.device_put(job.kernel[None, None])]

        def call() -> Any:
            return conv(x, *kernels).block_until_ready()

        routes = [Route("lax.conv", lambda: Run(call, bound, lambda y: np.asarray(y)[0, 0]), rate)]
        if task.kind == "signal":
            flipped = jax.device_put(np.flip(job.kernel).copy())
            line = jax.device_put(job.padded())
            by_fft = Run(lambda: _compiled_fft()(line, flipped).block_until_ready(), fft(task), np.asarray)
            routes.append(Route("fftconvolve", lambda: by_fft))
        return routes


@cache  # a new function would be compiled again
def _compiled() -> Any:
    import jax

    def filtered(x: Any, *kernels: Any) -> Any:
        for kernel in kernels:
            x = jax.lax.conv_general_dilated(
                x, kernel, (1,) * (x.ndim - 2), "VALID", precision=jax.lax.Precision.HIGHEST
            )
        return x

    return jax.jit(filtered)


@cache
def _compiled_fft() -> Any:
    import jax

    return jax.jit(partial(jax.scipy.signal.fftconvolve, mode="valid"))
