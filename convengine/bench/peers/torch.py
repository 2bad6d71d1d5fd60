"""PyTorch: torch.nn.functional.conv1d and conv2d, in inference mode."""

from collections.abc import Callable
from typing import Any

from convengine.bench.contest import Bound, Job, Route, Run, direct, thread_counts
from convengine.bench.tasks import Array

__all__ = ["Torch"]

RATE = 2e9  # multiply-adds a second: one channel is what its loops are not made for


class Torch:
    """With oneDNN and without, on all threads and on one; the border is around the image before the clock starts."""

    def version(self) -> str:
        """Import it."""
        import torch

        self._mode = torch.inference_mode()
        self._mode.__enter__()  # for the rest of the process: entering it takes longer than a small filter
        return f"torch {torch.__version__}"

    def routes(self, job: Job) -> list[Route] | str:
        """Conv2d and conv1d on arrays of one channel; for a Gaussian, one conv2d along each axis."""
        import torch

        task = job.task
        if not task.is_float:
            return f"has no sums of {task.dtype} that saturate"
        function: Any = torch.nn.functional.conv1d if task.kind == "signal" else torch.nn.functional.conv2d
        x = torch.from_numpy(job.padded())[None, None]
        if task.kind == "gaussian":
            rows, columns = (weights.astype(task.dtype) for weights in task.factors())
            down = torch.from_numpy(rows)[None, None, :, None]
            across = torch.from_numpy(columns)[None, None, None, :]
            name, call = "conv2d, twice", lambda: function(function(x, down), across)
            bound = direct(task, sum(task.kernel_shape), (rows.astype(float), columns.astype(float)))
            rate = RATE * task.taps / sum(task.kernel_shape)
        else:
            kernel = torch.from_numpy(job.kernel)[None, None]
            name, call = function.__name__, lambda: function(x, kernel)
            bound, rate = direct(task), RATE
        return [
            Route(f"{name}{how}", _starter(torch, call, bound, threads, onednn), rate)
            for how, threads, onednn in _settings(torch, job.threads)
        ]


def _settings(torch: Any, threads: int) -> list[tuple[str, int, bool]]:
    has_onednn = torch.backends.mkldnn.is_available()
    return [
        (f", {text}{', no oneDNN' * (has_onednn and not onednn)}", count, onednn)
        for onednn in ([True, False] if has_onednn else [False])
        for count, text in thread_counts(threads)
    ]


def _starter(torch: Any, call: Callable[[], Any], bound: Bound, threads: int, onednn: bool) -> Callable[[], Run]:
    def start() -> Run:
        torch.set_num_threads(threads)
        torch.backends.mkldnn.set_flags(onednn)
        return Run(call, bound, _plain)

    return start


def _plain(tensor: Any) -> Array:
    array: Array = tensor[0, 0].numpy()
    return array
