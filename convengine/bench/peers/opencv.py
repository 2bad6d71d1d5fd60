"""OpenCV: cv2.filter2D and, for Gaussians and signals, cv2.sepFilter2D."""

from collections.abc import Callable
from typing import Any

import numpy as np

from convengine.bench.contest import Bound, Job, Route, Run, direct, either, thread_counts
from convengine.bench.tasks import Array, sigma_of

__all__ = ["OpenCV"]

DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
DFT_TAPS = 50  # from there on filter2D may turn to its own DFT


class OpenCV:
    """On all threads and on one, with Intel's IPP and without: which is fastest depends on the size."""

    def version(self) -> str:
        """Import it."""
        import cv2

        self._has_ipp = hasattr(cv2, "ipp") and cv2.ipp.useIPP()  # before a route switches it off
        return f"OpenCV {cv2.__version__}"

    def routes(self, job: Job) -> list[Route] | str:
        """filter2D; for a Gaussian also sepFilter2D and GaussianBlur, for a signal sepFilter2D with one tap across."""
        import cv2

        task = job.task
        if task.dtype not in DTYPES:
            return f"has no filter of {task.dtype}"
        border = cv2.BORDER_CONSTANT if task.boundary == "constant" else cv2.BORDER_REFLECT_101
        x, out, kernel = _plane(job.x), _plane(job.out), _plane(job.kernel)
        kernel = kernel if task.is_float else kernel.astype(np.float32)
        dft = either(task) if task.taps >= DFT_TAPS else direct(task)
        ways: dict[str, tuple[Callable[[], Any], Bound, float]] = {}
        if task.kind != "gaussian":
            ways["filter2D"] = lambda: cv2.filter2D(x, -1, kernel, dst=out, borderType=border), dft, 0.0
        if task.kind == "signal":
            one = np.ones(1, task.dtype)
            ways["sepFilter2D"] = (
                lambda: cv2.sepFilter2D(x, -1, kernel[0], one, dst=out, borderType=border),
                direct(task, task.taps + 1),
                5e9,
            )
        if task.kind == "gaussian":
            ways |= _gaussian(cv2, job, x, out, border)
        return [
            Route(f"{name}{how}", _starter(cv2, call, bound, job.out, threads, ipp), rate)
            for name, (call, bound, rate) in ways.items()
            for how, threads, ipp in _settings(self._has_ipp, job.threads)
        ]


def _plane(array: Array) -> Array:
    """The array as OpenCV takes it, with two axes."""
    return np.atleast_2d(array)


def _gaussian(
    cv2: Any, job: Job, x: Array, out: Array, border: int
) -> dict[str, tuple[Callable[[], Any], Bound, float]]:
    task = job.task
    height, width = task.kernel_shape
    rows, columns = (weights.astype(task.dtype) for weights in task.factors())
    own = [cv2.getGaussianKernel(size, sigma_of(size), cv2.CV_64F)[:, 0] for size in (height, width)]
    terms = height + width
    return {
        "sepFilter2D": (
            lambda: cv2.sepFilter2D(x, -1, columns, rows, dst=out, borderType=border),
            direct(task, terms, (rows.astype(float), columns.astype(float))),
            0.0,
        ),
        "GaussianBlur": (
            lambda: cv2.GaussianBlur(
                x, (width, height), sigma_of(width), dst=out, sigmaY=sigma_of(height), borderType=border
            ),
            direct(task, terms + 2, own),  # its weights are rounded once more
            0.0,
        ),
    }


def _settings(has_ipp: bool, threads: int) -> list[tuple[str, int, bool]]:
    return [
        (f", {text}{', no IPP' * (has_ipp and not ipp)}", count, ipp)
        for ipp in ([True, False] if has_ipp else [False])
        for count, text in thread_counts(threads)
    ]


def _starter(cv2: Any, call: Callable[[], Any], bound: Bound, out: Array, threads: int, ipp: bool) -> Callable[[], Run]:
    def start() -> Run:
        cv2.setNumThreads(threads)
        if hasattr(cv2, "ipp"):  # x86 builds have it
            cv2.ipp.setUseIPP(ipp)
        return Run(call, bound, lambda returned: out)

    return start
