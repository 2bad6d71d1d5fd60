"""JAX arrays: shared memory, reverse derivatives of any order, jit and vmap."""

import doctest
import importlib
from itertools import product

import numpy as np
import pytest

import convengine as ce

jax = pytest.importorskip("jax", reason="jax is not installed (pip install convengine[jax])")
jnp = importlib.import_module("jax.numpy")
check_grads = importlib.import_module("jax.test_util").check_grads

BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")
GEOMETRIES = {
    **{boundary: {"mode": "same", "boundary": boundary} for boundary in BOUNDARIES},
    "full": {"mode": "full", "fill_value": 1.5},
    "center": {"mode": "same", "center": (0, 1)},
    "stride": {"stride": 2, "padding": 1, "boundary": "reflect"},
    "dilation": {"dilation": 2, "mode": "same", "fill_value": 2},
}
KINDS = {
    "filter": ((3, 4), (2, 3), None, {}),
    "filter, axes": ((4, 2, 5), (2, 3), (), {"axes": (2, 0)}),
    "layer": ((2, 4, 5), (3, 2, 2, 3), (3,), {}),
    "layer, groups": ((2, 2, 4, 4), (2, 1, 2, 3), (2,), {"groups": 2}),
    "layer, channels last": ((4, 3, 2), (2, 2, 1, 2), (2,), {"channel_axis": -1, "groups": 2}),
}


@pytest.fixture
def wide():
    """64 bits, which JAX has only when asked."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def random(*shape, dtype=np.float64):
    rng = np.random.default_rng([7, *shape])
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def mapped(name, how):
    def function(x, kernel, *bias):
        return getattr(ce, name)(x, kernel, bias=bias[0] if bias else None, **how)

    return function


def given(kind, dtype=np.float64):
    *shapes, how = KINDS[kind]
    return [jnp.asarray(random(*shape, dtype=dtype)) for shape in shapes if shape is not None], how


# ---- values


@pytest.mark.parametrize("name", ["corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"])
@pytest.mark.parametrize("jit", [False, True])
def test_an_array_gives_the_bits_of_its_numpy_twin(name, jit):
    n = int(name[4])
    arrays = [random(*shape, dtype=np.float32) for shape in ((2, 4, *(9,) * n), (6, 2, *(3,) * n), (6,))]
    function = mapped(name, {"groups": 2, "mode": "same", "boundary": "reflect", "stride": 2})
    y = (jax.jit(function) if jit else function)(*map(jnp.asarray, arrays))
    assert isinstance(y, jax.Array) and y.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(y), function(*arrays))


def test_memory_is_shared_on_the_way_in(monkeypatch):
    x = jnp.asarray(random(50, 60, dtype=np.float32))
    seen = []
    run = ce.api.corr2d
    monkeypatch.setattr(ce.api, "corr2d", lambda first, *rest, **how: seen.append(first) or run(first, *rest, **how))
    ce.interop.jax.apply("corr2d", x, [[1.0, -1.0]], ce.api.DEFAULTS, None, None, None)
    assert seen[0].__array_interface__["data"][0] == x.unsafe_buffer_pointer()


def test_one_array_of_jax_makes_the_result_one():
    x, kernel, bias = (random(*shape, dtype=np.float32) for shape in ((1, 4, 5), (2, 1, 2, 2), (2,)))
    wanted = ce.corr2d(x, kernel, bias=bias)
    for first, second, third in product((x, jnp.asarray(x)), (kernel, jnp.asarray(kernel)), (bias, jnp.asarray(bias))):
        y = ce.corr2d(first, second, bias=third)
        assert isinstance(y, jax.Array) == any(isinstance(v, jax.Array) for v in (first, second, third))
        np.testing.assert_array_equal(np.asarray(y), wanted)


@pytest.mark.parametrize("jit", [False, True])
def test_dtypes_and_weak_lists(jit):
    def ask(x, kernel, **how):
        function = mapped("corr2d", how)
        return jax.jit(lambda x: function(x, kernel))(x) if jit else function(x, kernel)

    x = jnp.ones((3, 4), np.float32)
    assert ask(x, [[1, -1]]).dtype == np.float32
    assert ask(x.astype(np.float16), [[1.5, -1]]).dtype == np.float16
    assert ask(x, [[1.0, 1j]]).dtype == np.complex64
    assert ask(jnp.full((3, 4), 200, np.uint8), np.ones((1, 2), np.uint8)).tolist() == [[400] * 3] * 3
    assert ask(x * 200, [[1.0, 1.0]], dtype=jnp.uint8).tolist() == [[255] * 3] * 3


@pytest.mark.parametrize("jit", [False, True])
def test_large_arrays_come_through_a_callback(jit):
    """Of more memory than JAX hands over inline."""
    x = random(1, 8, 300, 400, dtype=np.float32)
    kernel = random(8, 8, 3, 3, dtype=np.float32)
    function = jax.grad(lambda kernel, x: (ce.corr2d(x, kernel) ** 2).sum())
    gradient = (jax.jit(function) if jit else function)(jnp.asarray(kernel), jnp.asarray(x))
    wanted = ce.corr2d_grad_kernel(x, 2 * ce.corr2d(x, kernel), kernel.shape)
    np.testing.assert_allclose(np.asarray(gradient), wanted, rtol=1e-6)


# ---- refusals


@pytest.mark.parametrize("jit", [False, True])
def test_what_jax_would_cut_down_is_refused(jit):
    def function(x):
        return ce.corr2d(x, [[1, -1]])

    with pytest.raises(ce.InvalidProblem, match=r"int64, which JAX holds as int32.*jax_enable_x64"):
        (jax.jit(function) if jit else function)(jnp.ones((3, 4), np.int32))


def test_refusals():
    x = jnp.ones((3, 4))
    with pytest.raises(ce.InvalidProblem, match="not written to"):
        ce.corr2d(x, [[1.0]], out=np.zeros((3, 4), np.float32))
    with pytest.raises(ce.InvalidProblem, match="bfloat16"):
        ce.corr2d(x.astype(jnp.bfloat16), [[1.0]])
    with pytest.raises(ce.InvalidProblem, match="key"):
        ce.corr1d(jax.random.split(jax.random.key(0), 3), [1.0])
    with pytest.raises(ce.InvalidProblem, match=r"kernel \(5, 5\) and x \(3, 4\)"):
        jax.jit(ce.corr2d)(x, jnp.ones((5, 5)))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: ce.corr2d(x, [[1.0]]), (x,), (x,))


def test_an_array_on_a_gpu_is_refused():
    if jax.default_backend() == "cpu":
        pytest.skip("JAX sees no GPU here")
    with pytest.raises(ce.InvalidProblem, match="device_put"):
        ce.corr2d(jnp.ones((3, 4)), [[1.0]])


# ---- derivatives


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("dtype", [np.float64, np.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_second_derivatives_of_a_filter(geometry, dtype):
    arrays, how = given("filter", dtype)
    check_grads(mapped("conv2d", how | GEOMETRIES[geometry]), arrays, order=2, modes=["rev"])


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", ["full", "stride"])
def test_second_derivatives_of_every_kind(kind, geometry):
    arrays, how = given(kind)
    check_grads(mapped("corr2d", how | GEOMETRIES[geometry]), arrays, order=2, modes=["rev"])


@pytest.mark.usefixtures("wide")
def test_complex_layers_and_their_bias():
    arrays, how = given("layer, groups", np.complex128)
    check_grads(mapped("conv2d", how | {"padding": 1}), arrays, order=2, modes=["rev"])


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("dtypes", list(product((np.float64, np.complex128), repeat=2))[1:3], ids=["mixed", "other"])
def test_a_real_operand_beside_a_complex_one_has_a_real_gradient(dtypes, conjugate):
    x, kernel = (
        jnp.asarray(random(*shape, dtype=dtype)) for shape, dtype in zip(((3, 4), (2, 2)), dtypes, strict=True)
    )
    function = mapped("corr2d", {"conjugate": conjugate, "padding": 1})
    check_grads(function, (x, kernel), order=2, modes=["rev"])
    gradients = jax.grad(lambda *arrays: abs(function(*arrays)).sum(), (0, 1))(x, kernel)
    assert tuple(gradient.dtype for gradient in gradients) == dtypes


@pytest.mark.usefixtures("wide")
def test_the_gradient_functions_are_differentiable_themselves():
    how = {"stride": 2, "padding": 1, "fill_value": 3}
    x, kernel = jnp.asarray(random(2, 5, 4)), jnp.asarray(random(3, 2, 2, 3))
    dy = jnp.asarray(random(*ce.corr2d(x, kernel, **how).shape))
    check_grads(lambda dy, k: ce.corr2d_grad_input(dy, k, x.shape, **how), (dy, kernel), order=2, modes=["rev"])
    check_grads(lambda x, dy: ce.corr2d_grad_kernel(x, dy, kernel.shape, **how), (x, dy), order=2, modes=["rev"])


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("jit", [False, True])
def test_gradients_are_those_of_jaxs_own_convolution(jit):
    x, kernel = jnp.asarray(random(2, 4, 7, 8)), jnp.asarray(random(6, 2, 3, 3))

    def ours(x, kernel):
        return (ce.corr2d(x, kernel, groups=2, stride=2, padding=1) ** 3).sum()

    def theirs(x, kernel):
        return (jax.lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1)] * 2, feature_group_count=2) ** 3).sum()

    def steepness(function):
        return lambda *arrays: sum((slope**2).sum() for slope in jax.grad(function, (0, 1))(*arrays))

    mine, other = (jax.grad(steepness(function), (0, 1)) for function in (ours, theirs))  # second derivatives
    for one, two in zip((jax.jit(mine) if jit else mine)(x, kernel), other(x, kernel), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-9)


def test_bytes_have_no_gradient_and_their_kernel_has_one():
    x, kernel = jnp.arange(20, dtype=np.uint8).reshape(4, 5), jnp.ones((2, 2), np.float32)
    gradient = jax.grad(lambda kernel: ce.corr2d(x, kernel).sum())(kernel)
    wanted = ce.corr2d_grad_kernel(np.asarray(x), np.ones((3, 4), np.float32), (2, 2))
    np.testing.assert_array_equal(np.asarray(gradient), wanted)


def test_a_kernel_is_learned_under_jit():
    picture = jnp.ones((6, 8)).at[:, 2:6].set(0)
    edges = ce.corr2d(picture, [[1, -1]])

    @jax.jit
    def step(kernel):
        loss, gradient = jax.value_and_grad(lambda k: ((ce.corr2d(picture, k) - edges) ** 2).sum())(kernel)
        return kernel - 3e-2 * gradient, loss

    kernel = jnp.zeros((1, 2))
    for _ in range(10):
        kernel, loss = step(kernel)
    assert loss < 0.1
    np.testing.assert_allclose(np.asarray(kernel), [[1, -1]], atol=0.1)


# ---- vmap


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["x", "kernel", "both"])
def test_vmap_is_a_loop(kind, where, jit):
    arrays, how = given(kind, np.float32)
    axes = {"x": (1, None, None), "kernel": (None, 0, None), "both": (0, 1, None)}[where][: len(arrays)]
    stacked = [
        value if axis is None else jnp.stack([value, value + 1, value * 2], axis)
        for value, axis in zip(arrays, axes, strict=True)
    ]
    function = mapped("corr2d", how | {"mode": "same", "boundary": "wrap"})
    together = jax.vmap(function, axes)
    together = (jax.jit(together) if jit else together)(*stacked)
    for i in range(3):
        one = function(*(v if a is None else jnp.take(v, i, a) for v, a in zip(stacked, axes, strict=True)))
        np.testing.assert_array_equal(np.asarray(together[i]), np.asarray(one))


def test_vmap_of_vmap_and_gradients_per_sample():
    x, kernels = jnp.asarray(random(3, 4, 5, dtype=np.float32)), jnp.asarray(random(2, 2, 2, dtype=np.float32))
    both = jax.vmap(jax.vmap(ce.corr2d, (0, None)), (None, 0))(x, kernels)
    gradients = jax.jit(jax.vmap(jax.grad(lambda k, x: (ce.corr2d(x, k) ** 2).sum()), (None, 0)))(kernels[0], x)
    for j in range(3):
        for i in range(2):
            np.testing.assert_array_equal(np.asarray(both[i, j]), np.asarray(ce.corr2d(x[j], kernels[i])))
        alone = jax.grad(lambda k, j=j: (ce.corr2d(x[j], k) ** 2).sum())(kernels[0])
        np.testing.assert_allclose(np.asarray(gradients[j]), np.asarray(alone), rtol=1e-6)


def test_the_example_of_the_module_runs():
    results = doctest.testmod(
        importlib.import_module("convengine.interop.jax"), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert results.failed == 0 and results.attempted > 0
