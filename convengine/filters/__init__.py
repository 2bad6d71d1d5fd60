"""The kernel library: filters for signals, images and volumes, as NumPy float64 arrays.

Every kernel is what correlation uses, ``corr: y[i] = sum_a kernel[a] * x[i + a]``: pass it to ``corr1d``, ``corr2d`` or
``corr3d`` as it is; ``conv`` flips it first, which changes the sign of an odd kernel and nothing in a symmetric one.
All but `edge` have odd sizes unless asked otherwise, so that mode="same" centres them. Axes are counted as in NumPy:
axis -1 is x (columns, to the right), -2 is y (rows, downwards), -3 is z. Angles are in radians, from +x towards +y, so
clockwise on a screen; lengths are in pixels (samples).

>>> from convengine import filters
>>> filters.sobel()
array([[-1.,  0.,  1.],
       [-2.,  0.,  2.],
       [-1.,  0.,  1.]])
>>> filters.named.parse("box:1,4")
array([[0.25, 0.25, 0.25, 0.25]])
"""

from convengine.filters import named
from convengine.filters.blobs import difference_of_gaussians, laplacian, log
from convengine.filters.detail import emboss, identity, sharpen, unsharp
from convengine.filters.edges import derivative, edge, prewitt, scharr, sobel
from convengine.filters.smooth import binomial, box, disk, gaussian, motion
from convengine.filters.texture import gabor

__all__ = [
    "binomial",
    "box",
    "derivative",
    "difference_of_gaussians",
    "disk",
    "edge",
    "emboss",
    "gabor",
    "gaussian",
    "identity",
    "laplacian",
    "log",
    "motion",
    "named",
    "prewitt",
    "scharr",
    "sharpen",
    "sobel",
    "unsharp",
]


def __dir__() -> list[str]:
    return __all__
