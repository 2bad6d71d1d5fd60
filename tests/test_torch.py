"""The torch backend: what it computes and refuses; neither threads nor torch's settings change its bits."""

import os
import subprocess
import sys

import numpy as np
import pytest

import convengine as ce
from convengine.testing.cases import Case
from convengine.testing.examination import laid_out
from convengine.testing.runner import answers, examine, require_same_bits

torch = pytest.importorskip("torch", reason="torch is not installed (pip install convengine[torch])")
if not ce.backends()["torch"].usable:
    pytest.skip(ce.backends()["torch"].reason, allow_module_level=True)

BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")


def layer(n, c_in, c_out, sizes, widths, *, batch=(), dtype="float32", bias=True, **how):
    rng = np.random.default_rng([n, c_in, c_out, *sizes, *widths])
    x = rng.standard_normal((*batch, c_in, *sizes)).astype(dtype)
    kernel = rng.standard_normal((c_out, c_in // how.get("groups", 1), *widths)).astype(np.float32)
    if bias:
        how["bias"] = rng.standard_normal(c_out).astype(np.float32)
    return Case("layer", f"corr{n}d", x, kernel, how)


CASES = {
    "resnet": layer(2, 64, 64, (14, 14), (3, 3), batch=(3,), padding=1),
    "resnet stride": layer(2, 32, 64, (15, 14), (3, 3), batch=(2,), padding=1, stride=2),
    "even": layer(2, 16, 48, (20, 17), (4, 2), mode="same", center=(1, 0)),
    "asymmetric": layer(2, 32, 16, (9, 11), (3, 5), padding=((2, 0), (1, 4))),
    "far pads": layer(2, 16, 16, (9, 11), (3, 3), padding=8),
    "fill": layer(2, 16, 16, (9, 11), (3, 3), padding=1, fill_value=1.5),
    "dilation": layer(2, 16, 32, (24, 20), (3, 3), dilation=(2, 3), padding=2, bias=False),
    "groups": layer(2, 64, 32, (12, 13), (3, 3), groups=2, padding=1),
    "depthwise": layer(2, 48, 48, (16, 12), (5, 5), groups=48, padding=2),
    "depthwise signal": layer(1, 32, 32, (90,), (7,), groups=32),
    "signal": layer(1, 16, 32, (200,), (9,), batch=(2,), padding=4, stride=2),
    "volume": layer(3, 16, 16, (6, 7, 5), (3, 2, 3), padding=1),
    "half to single": layer(2, 16, 16, (9, 9), (3, 3), dtype="float16", padding=1),
    **{
        word: layer(2, 16, 16, (9, 8), (3, 5), batch=(2,), padding=(1, 9), boundary=word, stride=(1, 2))
        for word in BOUNDARIES
    },
}
for name, dtype in (("half", "float16"), ("rounded", "int8")):
    CASES[name] = CASES["groups"]._replace(keywords=CASES["groups"].keywords | {"dtype": dtype})
x_bytes = np.random.default_rng(0).integers(-128, 128, (16, 9, 9), np.int8)
CASES["bytes"] = layer(2, 16, 16, (9, 9), (3, 3), padding=1)._replace(x=x_bytes)
CASES["channels last"] = layer(2, 16, 16, (9, 9), (3, 3), padding=1)._replace(
    x=np.random.default_rng(1).standard_normal((2, 9, 8, 16)).astype(np.float32),
    kernel=np.random.default_rng(2).standard_normal((3, 3, 16, 32)).astype(np.float32),
    keywords={"channel_axis": -1, "padding": 1},
)


@pytest.fixture
def threads():
    """Sets torch's threads, and back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _room():
    """As many workers as torch has threads."""
    with ce.options(workers=max(torch.get_num_threads(), 1)):
        yield


@pytest.mark.parametrize("name", CASES)
def test_a_layer_is_within_its_bound(name):
    assert max(examine("torch", CASES[name]).values()) <= 1


@pytest.mark.parametrize("name", CASES)
def test_threads_change_no_bit(name, threads):
    with ce.options(workers=16):
        threads(1)
        alone = answers("torch", CASES[name])
        for count in (2, 3, 5, 16):
            threads(count)
            for method, answer in answers("torch", CASES[name]).items():
                require_same_bits(alone[method].value, answer.value, f"{method} by 1 and {count} threads")


def test_random_layers_keep_their_bits_under_any_threads(threads):
    rng = np.random.default_rng(9)
    for _ in range(30):
        groups, (into, out), n = int(rng.choice([1, 2, 64])), rng.choice([16, 32, 64, 128], 2), int(rng.integers(1, 4))
        if groups == 64:
            into, out, n = 1, 1, min(n, 2)
        widths, sizes = rng.integers(2, 5, n), rng.integers(4, [400, 30, 9][n - 1], n)
        how = {"groups": groups, "padding": int(rng.integers(0, 2)), "stride": int(rng.integers(1, 3))}
        case = layer(n, int(into) * groups, int(out) * groups, sizes.tolist(), widths.tolist(), **how)
        given = []
        for count in (1, 2, 4, 7):
            threads(count)
            given.append(getattr(ce, case.name)(case.x, case.kernel, **case.keywords, backend="torch", workers=7))
        for other in given[1:]:
            require_same_bits(given[0], other, f"1 and more threads, {case.x.shape} {case.kernel.shape} {how}")


@pytest.mark.parametrize("name", ["resnet", "signal", "wrap"])
def test_a_batch_has_the_bits_of_its_images(name):
    case = CASES[name]
    together = answers("torch", case)
    for number, image in enumerate(case.x):
        for method, answer in answers("torch", case._replace(x=image)).items():
            require_same_bits(together[method].value[number], answer.value, f"image {number} of a batch, and alone,")


@pytest.mark.parametrize("name", ["groups", "edge", "channels last"])
def test_memory_layout_changes_no_bit(name):
    case = CASES[name]
    wanted = answers("torch", case)
    for (layout, x), (_, kernel) in zip(laid_out(case.x), laid_out(case.kernel), strict=True):
        for method, answer in answers("torch", case._replace(kernel=kernel), x=x).items():
            require_same_bits(wanted[method].value, answer.value, f"contiguous and {layout}")


def test_out_is_written_whatever_its_strides():
    case = CASES["resnet"]
    wanted = ce.corr2d(case.x, case.kernel, **case.keywords, backend="torch")
    whole = np.zeros((*wanted.shape[:-1], 2 * wanted.shape[-1]), np.float32)
    out = np.flip(whole[..., ::2], -1)
    assert ce.corr2d(case.x, case.kernel, **case.keywords, backend="torch", out=out) is out
    require_same_bits(wanted, np.ascontiguousarray(out), "a new array and a reversed out")
    assert not whole[..., 1::2].any()


@pytest.mark.parametrize("what", ["x", "kernel", "bias", "fill", "kernel with pads"])
def test_nan_and_infinity_reach_exactly_their_outputs(what):
    x, kernel = (np.array(part) for part in (CASES["groups"].x, CASES["groups"].kernel))
    how = dict(CASES["groups"].keywords)
    if what == "x":
        x[3, 0, 0], x[40, 7, 12], x[41, 11, 5] = np.nan, np.inf, -np.inf
    elif what.startswith("kernel"):
        kernel[2, 1, 0, 0], kernel[30, 3, 2, 1] = np.nan, -np.inf
        how |= {"padding": 1 if "pads" in what else 0}
    elif what == "bias":
        how["bias"] = np.where(np.arange(32) % 3 == 0, np.float32(np.inf), how["bias"])
    else:
        how["fill_value"] = np.nan
    examine("torch", Case(what, "corr2d", x, kernel, how))


def test_subnormals_are_kept():
    tiny = np.finfo(np.float32).smallest_subnormal
    x = np.random.default_rng(0).integers(0, 99, (16, 8, 9)).astype(np.float32) * tiny
    kernel = np.ones((16, 16, 2, 3), np.float32)
    wanted = ce.corr2d(np.rint(x / tiny).astype(np.int32), kernel.astype(np.int32)).astype(np.float32) * tiny
    require_same_bits(wanted, ce.corr2d(x, kernel, backend="torch"), "sums of subnormals, and those given,")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kernel": np.ones((3, 3), np.float32)}, "not filters"),
        ({"kernel": np.ones((20, 16, 3, 3), np.float32)}, "multiples of 16.*got 16 to 20"),
        ({"kernel": np.ones((16, 16, 1, 1), np.float32)}, "several taps"),
        ({"kernel": np.ones((16, 16, 3, 9), np.float32), "mode": "same"}, r"fit inside x.*\(3, 9\)"),
        ({"kernel": np.ones((16, 1, 3, 3), np.float32), "groups": 16}, None),
        ({"kernel": np.ones((32, 1, 3, 3), np.float32), "groups": 16}, "multiples of 16.*got 1 to 2"),
        ({"kernel": np.ones((16, 16, 3, 3), np.float64)}, "float64"),
        ({"kernel": np.ones((16, 16, 3, 3), np.complex64)}, "complex64"),
        ({"kernel": np.ones((16, 16, 3, 3), np.float32), "dtype": np.float64}, "float64"),
    ],
)
def test_what_it_refuses_and_why(changes, reason):
    x = np.ones((16, 6, 7), np.float32)
    changes = dict(changes)
    kernel = changes.pop("kernel")
    if reason is None:
        assert ce.corr2d(x, kernel, backend="torch", **changes).shape == (16, 4, 5)
        return
    with pytest.raises(ce.NoBackend, match=reason):
        ce.corr2d(x, kernel, backend="torch", **changes)


def test_gradients_and_integers_are_refused():
    x, dy = np.ones((16, 6, 7), np.float32), np.ones((16, 4, 5), np.float32)
    with pytest.raises(ce.NoBackend, match="'forward' only, not 'grad_kernel'"):
        ce.corr2d_grad_kernel(x, dy, (16, 16, 3, 3), backend="torch")
    with pytest.raises(ce.NoBackend, match="int"):
        ce.corr2d(x.astype(np.int8), np.ones((16, 16, 3, 3), np.int8), backend="torch")


def test_more_threads_than_workers_are_declined(threads):
    case = CASES["groups"]
    threads(3)
    with pytest.raises(ce.NoBackend, match=r"3 threads here, workers=2.*set_num_threads"):
        ce.corr2d(case.x, case.kernel, **case.keywords, backend="torch", workers=2)
    assert torch.get_num_threads() == 3


def test_rounded_down_products_are_declined():
    case = CASES["groups"]
    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        with pytest.raises(ce.NoBackend, match="'bf16'"):
            ce.corr2d(case.x, case.kernel, **case.keywords, backend="torch")
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_fork_does_not_wait_for_the_threads_of_its_parent():
    """Which it lacks; the same backend runs again once torch is told to do without threads."""
    code = """
import os, signal, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 on: this process has threads
import numpy as np
import torch
import convengine as ce
torch.set_num_threads(2)
x, kernel = np.ones((16, 64, 64), np.float32), np.ones((16, 16, 3, 3), np.float32)
ask = lambda backend: ce.corr2d(x, kernel, padding=1, backend=backend, workers=2)
wanted = ask("torch")
if (child := os.fork()) == 0:
    signal.alarm(60)  # no child that waits without end
    try:
        assert np.array_equal(ask(("torch", "cython")), wanted)
        try:
            ask("torch")
            os._exit(2)
        except ce.NoBackend as error:
            assert "was forked from one that had loaded torch, whose 2 threads" in str(error), error
        torch.set_num_threads(1)
        assert np.array_equal(ask("torch"), wanted)
        os._exit(0)
    except BaseException as error:
        print(error, file=sys.stderr)
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_autocast_and_transforms_around_it_change_nothing():
    case = CASES["groups"]
    wanted = ce.corr2d(case.x, case.kernel, **case.keywords, backend="torch")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        require_same_bits(wanted, ce.corr2d(case.x, case.kernel, **case.keywords, backend="torch"), "under autocast")
    x, kernel = torch.from_numpy(case.x), torch.from_numpy(case.kernel)

    def loss(kernel):
        with ce.options(backend=("torch", "cython")):
            return ce.corr2d(x, kernel, **case.keywords).sum()

    gradient = torch.func.grad(loss)(kernel)
    dy = np.ones(wanted.shape, np.float32)
    require_same_bits(ce.corr2d_grad_kernel(case.x, dy, kernel.shape, **case.keywords), gradient.numpy(), "gradients")


def test_torch_loads_when_a_problem_is_planned():
    """Not for offers, which price the loading."""
    code = """
import sys
import numpy as np
import convengine as ce
x, kernel = np.ones((16, 6, 7), np.float32), np.ones((16, 16, 3, 3), np.float32)
offered = ce.explain(x, kernel, backend="torch").chosen
assert ce.backends()["torch"].usable and "torch" not in sys.modules and offered.offer.seconds > 1
ce.corr2d(x, kernel, backend="torch", workers=99)
assert "torch" in sys.modules
ce.clear_cache()
assert ce.explain(x, kernel, backend="torch").chosen.offer.seconds < 0.1
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
