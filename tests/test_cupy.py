"""The backend named cupy: on which device it runs, what it compiles there, and what it refuses, with a stand-in."""

import ctypes
import sys
from dataclasses import replace
from typing import Any, Never

import numpy as np
import pytest
from convengine_cupy import Backend, device, layers, transfer
from convengine_cupy.backend import DIRECT, ELEMENTWISE, IMPLICIT, MATMUL, NDIMAGE
from cupy_stand_in import Driver, offers_of, unneeded
from device_arrays import Device, Link, facts_of, on_device, reading_of

import convengine as ce
from convengine.api import DEFAULTS
from convengine.plugin import Refusal
from convengine.reading import Reading
from convengine.reading_gradients import read_grad_input, read_grad_kernel
from convengine.testing.oracle import reference
from convengine.testing.oracle_gradients import gradient_reference

# ---- devices


@pytest.mark.parametrize("method", [ELEMENTWISE, MATMUL, NDIMAGE])
def test_a_filter_runs_on_the_device_of_its_problem(cupy: Driver, method: str) -> None:
    x, kernel = np.arange(50.0).reshape(2, 5, 5), np.ones((3, 3)) if method == NDIMAGE else np.ones((1, 2, 3, 3))
    reading = reading_of("corr2d", x, kernel, mode="same", memory="cuda:1")
    plan = Backend().plan(reading.problem, offers_of(reading)[method], unneeded)
    ready = plan.prepare(reading.kernel, None)
    assert cupy.current == [1]
    out = on_device(np.empty(reading.problem.out_shape))
    assert ready(on_device(x), out) is out
    assert cupy.current == [1, 1]
    expected = reference("corr2d", x, kernel, mode="same").final
    np.testing.assert_array_equal(out.view(np.ndarray), expected)
    np.testing.assert_array_equal(ready(on_device(x)).view(np.ndarray), expected)
    assert cupy.current == [1, 1, 1]


def test_kernels_are_compiled_once_for_each_device(cupy: Driver) -> None:
    x = np.ones((300, 300), np.float32)
    for number in (0, 1, 1):
        for kernel in (np.ones((3, 3), np.float32), np.full((3, 3), 2, np.float32)):
            reading = reading_of("corr2d", x, kernel, mode="same", memory=f"cuda:{number}")
            plan = Backend().plan(reading.problem, offers_of(reading)[DIRECT], unneeded)
            assert (plan.prepare(reading.kernel)(on_device(x)) == number + 1).all()
    assert cupy.compiled == [0, 1]
    assert cupy.launched == [(0, 15), (0, 15), *[(1, 15)] * 4]


def test_a_layer_is_launched_on_the_device_of_its_problem(cupy: Driver) -> None:
    x, kernel = np.ones((2, 30, 30), np.float32), np.ones((40, 2, 3, 3), np.float32)
    reading = reading_of("corr2d", x, kernel, mode="same", memory="cuda:1", bias=[0.5] * 40)
    plan = Backend().plan(reading.problem, offers_of(reading)[IMPLICIT], unneeded)
    ready = plan.prepare(reading.kernel, reading.bias)
    assert (ready(on_device(x)) == 1).all()
    assert cupy.compiled == [1] and [number for number, _ in cupy.launched] == [1]
    assert cupy.launched[0][1] == layers.blocks(reading.problem, layers.tile_of(reading.problem))


def test_an_input_gradient_runs_on_the_device_of_its_problem(cupy: Driver) -> None:
    dy, kernel = np.arange(50.0).reshape(2, 5, 5) * (1 + 2j), np.arange(36.0).reshape(2, 2, 3, 3) * (2 - 1j)
    keywords = {"mode": "same", "boundary": "wrap", "stride": 1}
    reading = read_grad_input(
        2, False, dy, kernel, x_shape=(2, 5, 5), out=None, memory="cuda:1", **(DEFAULTS | keywords)
    )
    (offer,) = offers_of(reading).values()
    ready = Backend().plan(reading.problem, offer, unneeded).prepare(reading.kernel)
    expected = gradient_reference("corr2d_grad_input", dy, kernel, x_shape=(2, 5, 5), **keywords).final
    got = ready(on_device(dy))
    assert set(cupy.current) == {1} and type(got) is Device
    np.testing.assert_allclose(got.view(np.ndarray), expected, rtol=1e-13)
    x = on_device(dy.copy())
    assert ready(x, x) is x and x.tobytes() == got.tobytes()


def test_a_kernel_gradient_runs_on_the_device_of_its_problem(cupy: Driver) -> None:
    x, dy = np.arange(50.0).reshape(2, 5, 5) * (1 + 2j), np.arange(75.0).reshape(3, 5, 5) * (2 - 1j)
    keywords = {"mode": "same", "boundary": "wrap"}
    shape = {"kernel_shape": (3, 2, 3, 3)}
    expected = gradient_reference("corr2d_grad_kernel", x, dy, **shape, **keywords).final
    for place in (on_device, np.array):  # an output's gradient may be on the host, as a kernel may
        reading = read_grad_kernel(
            2, False, on_device(x), dy, out=None, memory="cuda:1", **shape, **(DEFAULTS | keywords)
        )
        offers = offers_of(reading)
        assert set(offers) == {ELEMENTWISE}
        ready = Backend().plan(reading.problem, offers[ELEMENTWISE], unneeded).prepare(place(reading.kernel))
        got = ready(on_device(x))
        assert set(cupy.current) == {1} and type(got) is Device
        np.testing.assert_allclose(got.view(np.ndarray).conj(), expected, rtol=1e-13)  # conjugated after all


def test_a_host_array_goes_by_way_of_the_device_where_that_is_allowed(
    cupy: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, kernel = np.arange(2000.0).reshape(50, 40), np.ones((3, 3))
    there = {method for method in offers_of(reading_of("corr2d", x, kernel, mode="same")) if method != NDIMAGE}
    with ce.options(transfer=True, backend="cupy"):
        rows = ce.explain(x, kernel, mode="same").rows
    offers = {row.method: row.offer for row in rows if row.offer is not None}
    assert set(offers) == {f"{method}, by way of the device" for method in there}
    assert all(offer.seconds > 1e-4 and offer.memory >= x.nbytes for offer in offers.values())

    monkeypatch.setattr(transfer, "CupyLink", Link)
    monkeypatch.setattr(transfer, "CHUNK", 3000)
    reading = reading_of("corr2d", x, kernel, mode="same", memory="host")
    offer = offers[f"{ELEMENTWISE}, by way of the device"]
    ready = Backend().plan(reading.problem, offer, unneeded).prepare(reading.kernel)
    np.testing.assert_array_equal(ready(x), reference("corr2d", x, kernel, mode="same").final)
    assert set(cupy.current) == {0}


# ---- what is missing, and what is refused


def refusal(reading: Reading) -> str:
    answer = Backend().offers(reading.problem, facts_of(reading))
    assert isinstance(answer, Refusal)
    return answer.reason


def test_without_cupy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "is_installed", lambda name: False)
    for memory in ("host", "cuda:0"):
        reading = reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory=memory)
        assert refusal(reading) == "cupy is not installed (pip install convengine[cupy])"
    info = Backend().info()
    assert not info.usable and info.reason == "cupy is not installed (pip install convengine[cupy])"


def test_without_a_driver_it_says_so(cupy: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Never:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", nothing)
    reason = refusal(reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="host"))
    why = f"{device.DRIVER}: cannot open shared object file"
    assert reason == f"no CUDA driver ({why}); install NVIDIA's driver, or choose a host backend"
    assert Backend().info().reason == reason


def test_without_a_device_it_says_so(cupy: Driver) -> None:
    reading = reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="cuda:2")
    assert refusal(reading) == ("no CUDA device cuda:2: CuPy sees 2; CUDA_VISIBLE_DEVICES and nvidia-smi say which")
    cupy.failure = "cudaErrorInsufficientDriver: CUDA driver version is insufficient"
    reason = "no CUDA device: RuntimeError: cudaErrorInsufficientDriver: CUDA driver version is insufficient; "
    assert refusal(reading) == reason + "nvidia-smi shows what the driver sees"
    assert Backend().info().reason.startswith(reason)
    cupy.failure, cupy.count = "", 0
    assert Backend().info().reason.startswith("no CUDA device cuda:0: CuPy sees 0")


def test_a_cupy_that_does_not_load_is_a_refusal(cupy: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(device, "is_installed", lambda name: True)
    info = Backend().info()
    assert not info.usable and info.reason.startswith("no CUDA device: ModuleNotFoundError")


def test_host_arrays_are_refused_with_both_ways_out(cupy: Driver) -> None:
    reading = reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="host")
    assert refusal(reading) == (
        "x is a host array, and CuPy runs on device arrays: pass cupy.asarray(x), or allow it to be copied there and "
        "back, with ce.options(transfer=True)"
    )
    lazy = reading._replace(problem=replace(reading.problem, memory="lazy"))
    assert refusal(lazy) == "runs on arrays of a CUDA device, not lazy"


def test_integer_gradients_of_kernels_are_refused_where_they_may_pass_int64(cupy: Driver) -> None:
    def reading(dtype: Any) -> Reading:
        x, dy = np.ones((3, 3), dtype), np.ones((2, 2), dtype)
        return read_grad_kernel(2, False, x, dy, kernel_shape=(2, 2), out=None, memory="cuda:0", **DEFAULTS)

    assert refusal(reading(np.int64)) == (
        f"the gradient of a kernel by int64 and int64 may reach {2**128}, past int64; "
        "whether it does is not looked up on a device: use float64 or smaller dtypes"
    )
    assert set(offers_of(reading(np.int16))) == {DIRECT, ELEMENTWISE}
    cupy.current.clear()


def test_info_names_the_devices(cupy: Driver) -> None:
    info = Backend().info()
    assert info.usable and not info.reason
    assert (info.version, info.device, info.isa) == ("14.2.0", "cuda:0 NVIDIA H100, cuda:1 NVIDIA H100", "sm_90")


def test_a_host_problem_loads_no_cupy(cupy: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(device, "is_installed", lambda name: True)
    reason = refusal(reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="host"))
    assert reason.startswith("x is a host array")
    assert "cupy" not in sys.modules
