"""ONNX Runtime: a graph of one Conv, or of one QLinearConv, whose integers saturate."""

from collections.abc import Callable
from typing import Any

import numpy as np

from convengine.bench.contest import Job, Route, Run, direct, thread_counts
from convengine.bench.tasks import Array

__all__ = ["ONNXRuntime"]

RATE = 2e9  # multiply-adds a second: one channel is what its loops are not made for
OPSET, IR = 17, 8


class ONNXRuntime:
    """Output bound to an array; the border is around the image before the clock starts."""

    def version(self) -> str:
        """Import it, and what makes its graphs."""
        import onnx  # noqa: F401  # that it lacks is said now
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def routes(self, job: Job) -> list[Route] | str:
        """Conv of float32; QLinearConv of uint8 and int8 with scales of 1."""
        task = job.task
        if task.kind == "gaussian":
            return "has no separable filter"
        if task.dtype not in ("float32", "uint8", "int8"):
            return f"has no Conv of {task.dtype}"
        name = "Conv" if task.is_float else "QLinearConv"
        return [Route(f"{name}, {text}", _starter(job, count), RATE) for count, text in thread_counts(job.threads)]


def _starter(job: Job, threads: int) -> Callable[[], Run]:
    def start() -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        model = _model(job.task.dtype, job.kernel)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        x, out = job.padded()[None, None], job.out[None, None]
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)

        def call() -> None:
            session.run_with_iobinding(binding)

        return Run(call, direct(job.task), lambda returned: out[0, 0])

    return start


def _model(dtype: str, kernel: Array) -> bytes:
    """The graph x -> y with the kernel in it."""
    from onnx import TensorProto, helper, numpy_helper

    element = getattr(TensorProto, {"float32": "FLOAT"}.get(dtype, dtype.upper()))
    dims = ["n", "c", "height", "width"][: 2 + kernel.ndim]
    tensors: dict[str, Any] = {"kernel": kernel[None, None]}
    if dtype == "float32":
        names, kind = ["x", "kernel"], "Conv"
    else:
        tensors |= {"one": np.ones((), np.float32), "zero": np.zeros((), dtype), "kernel_zero": np.zeros((), np.int8)}
        names, kind = ["x", "one", "zero", "kernel", "one", "kernel_zero", "one", "zero"], "QLinearConv"
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"])],
        "filter",
        [helper.make_tensor_value_info("x", element, dims)],
        [helper.make_tensor_value_info("y", element, [f"{dim}_out" for dim in dims])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    serialized: bytes = model.SerializeToString()
    return serialized
