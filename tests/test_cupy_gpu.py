"""The backend cupy on a GPU: every method's answers, gradients, the current stream. Skipped where there is none."""

import numpy as np
import pytest
from convengine_cupy import Backend, device
from convengine_cupy.backend import DIRECT, ELEMENTWISE, IMPLICIT, MATMUL, NDIMAGE, SEPARABLE
from cupy_stand_in import offers_of, unneeded
from device_arrays import (
    as_user_gradient,
    bound_holds,
    bound_of,
    canonical,
    facts_of,
    gradients,
    on_device,
    problems,
    reading_of,
)

from convengine.arguments import read_array
from convengine.plugin import Refusal
from convengine.problem import KernelFacts

MISSING = device.missing() or device.missing_device(0)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)  # "cupy is not installed", "no CUDA driver", and why
KERNELS = (DIRECT, SEPARABLE, IMPLICIT)
TILES = "fft tile "


@pytest.mark.parametrize("method", [*KERNELS, TILES, ELEMENTWISE, MATMUL, NDIMAGE])
def test_a_gpu_gives_every_answer_within_its_bound(method: str) -> None:
    import cupy

    done = 0
    for case, reading, expected in problems():
        answer = Backend().offers(reading.problem, facts_of(reading))
        assert not isinstance(answer, Refusal), answer
        for offer in answer:
            if offer.method == method or (method == TILES and offer.method.startswith(method)):
                ready = Backend().plan(reading.problem, offer, unneeded).prepare(reading.kernel, reading.bias)
                got = ready(cupy.asarray(read_array(case.x, "x")).transpose(reading.x_axes))
                assert isinstance(got, cupy.ndarray)
                answer, bound = cupy.asnumpy(got), bound_of(reading.problem, offer, expected)
                bound_holds(case.id, answer.transpose(np.argsort(reading.out_axes)), expected, bound)
                done += 1
    assert done >= 15


@pytest.mark.parametrize("method", [*KERNELS, ELEMENTWISE])
def test_a_gpu_works_on_the_current_stream(method: str) -> None:
    import cupy

    shape, taps = ((1, 64, 64), (1, 1, 3, 3)) if method == IMPLICIT else ((64, 64), (3, 3))
    reading = reading_of("corr2d", np.ones(shape), np.ones(taps), mode="same")
    ready = Backend().plan(reading.problem, offers_of(reading)[method], unneeded).prepare(reading.kernel)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        got = ready(cupy.ones(shape))
    stream.synchronize()
    assert float(got[..., 32, 32].sum()) == 9


@pytest.mark.parametrize("op", ["grad_input", "grad_kernel"])
def test_a_gpu_gives_every_gradient_within_its_bound(op: str) -> None:
    import cupy

    for case, reading, expected in gradients(op):
        problem, on_gpu = reading.problem, Backend()
        offers = on_gpu.offers(problem, facts_of(reading) if op == "grad_input" else KernelFacts.unknown(problem.ndim))
        if isinstance(offers, Refusal):
            assert "past int64" in offers.reason
            continue
        kernel = reading.kernel if op == "grad_input" else cupy.asarray(reading.kernel.view(np.ndarray))
        x = cupy.asarray(canonical(reading, case.x).view(np.ndarray))
        for offer in offers:
            got = cupy.asnumpy(on_gpu.plan(problem, offer, unneeded).prepare(kernel)(x))
            bound = bound_of(problem, offer, expected)
            bound_holds(case.id, as_user_gradient(case, reading, on_device(got)), expected, bound)
