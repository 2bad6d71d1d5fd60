"""Against the libraries that users come from: PyTorch's layers, OpenCV's filters."""

import warnings

import numpy as np
import pytest

import convengine as ce
from convengine.testing import bounds, oracle

rng = np.random.default_rng(0)


def layer(ndim, batch, c_in, c_out, size, width, **keywords):
    groups = keywords.get("groups", 1)
    x = rng.standard_normal((batch, c_in, *(size,) * ndim))
    kernel = rng.standard_normal((c_out, c_in // groups, *(width,) * ndim)) / np.sqrt(c_in * width**ndim)
    return ndim, x, kernel, rng.standard_normal(c_out), keywords


# the shapes of ResNet and of its relatives in one and three dimensions
LAYERS = {
    "stem": layer(2, 2, 3, 16, 32, 7, stride=2, padding=3),
    "3x3": layer(2, 2, 16, 16, 14, 3, padding=1),
    "3x3 stride 2": layer(2, 1, 16, 32, 15, 3, padding=1, stride=2),
    "1x1": layer(2, 2, 32, 24, 7, 1),
    "1x1 stride 2": layer(2, 2, 16, 32, 14, 1, stride=2),
    "resnext": layer(2, 1, 32, 32, 9, 3, padding=1, groups=8),
    "depthwise": layer(2, 2, 24, 24, 12, 5, padding=2, groups=24),
    "dilated": layer(2, 1, 8, 8, 20, 3, padding=2, dilation=2),
    "signal": layer(1, 3, 8, 12, 64, 9, padding=4, stride=2),
    "signal, groups and dilation": layer(1, 2, 6, 9, 50, 4, dilation=3, groups=3),
    "volume": layer(3, 1, 4, 6, 9, 3, padding=1),
    "volume, stride": layer(3, 2, 3, 5, 8, 2, stride=2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_torch(name):
    """Ours and torch's each within the bound of the oracle, in float64."""
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install convengine[peers])")
    ndim, x, kernel, bias, keywords = LAYERS[name]
    reference = oracle.reference(f"corr{ndim}d", x, kernel, bias=bias, **keywords)
    bound = bounds.componentwise(reference)
    ours = getattr(ce, f"corr{ndim}d")(x, kernel, bias=bias, **keywords)
    theirs = getattr(torch.nn.functional, f"conv{ndim}d")(*map(torch.from_numpy, (x, kernel, bias)), **keywords)
    assert bounds.check(ours, reference, bound) <= 1
    assert bounds.check(theirs.numpy(), reference, bound) <= 1


@pytest.mark.parametrize("width", [3, 4])
def test_center_of_torchs_same(width):
    torch = pytest.importorskip("torch", reason="torch is not installed (pip install convengine[peers])")
    x, kernel = rng.standard_normal((1, 1, 9, 8)), rng.standard_normal((1, 1, width, width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that an even "same" copies its input
        theirs = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(kernel), padding="same").numpy()
    ours = ce.corr2d(x, kernel, mode="same", center=(width - 1) // 2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


CV_BORDERS = {"constant": 0, "edge": 1, "symmetric": 2, "reflect": 4}  # cv2.BORDER_*


@pytest.mark.parametrize("boundary", CV_BORDERS)
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (1, 7)])
def test_filters_of_opencv(boundary, shape):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (pip install convengine[peers])")
    x, kernel = rng.standard_normal((20, 31)).astype(np.float32), rng.standard_normal(shape).astype(np.float32)
    reference = oracle.reference("corr2d", x, kernel, mode="same", boundary=boundary)
    bound = bounds.componentwise(reference)
    assert bounds.check(ce.corr2d(x, kernel, mode="same", boundary=boundary), reference, bound) <= 1
    assert bounds.check(cv2.filter2D(x, -1, kernel, borderType=CV_BORDERS[boundary]), reference, bound) <= 1


def test_saturation_of_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (pip install convengine[peers])")
    x = rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)
    kernel = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
    ours = ce.corr2d(x, kernel, mode="same", boundary="reflect", channel_axis=-1, dtype=np.uint8)
    np.testing.assert_array_equal(ours, cv2.filter2D(x, -1, kernel))
