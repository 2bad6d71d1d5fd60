"""Texture kernels: oriented waves under a Gaussian."""

import math
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from convengine.filters.parameters import Kernel, at_least, check_taps, half_width, number, positive

__all__ = ["gabor"]

# sigma/wavelength of a filter whose response halves one octave apart: sqrt(ln 2 / 2) / pi * (2 + 1) / (2 - 1).
ONE_OCTAVE = 3 * math.sqrt(math.log(2) / 2) / math.pi


@overload
def gabor(
    wavelength: float, angle: float = 0.0, *, sigma: float | None = None, gamma: float = 1.0, psi: float = 0.0,
    truncate: float = 3.0, quadrature: Literal[False] = False,
) -> Kernel: ...  # fmt: skip


@overload
def gabor(
    wavelength: float, angle: float = 0.0, *, sigma: float | None = None, gamma: float = 1.0, psi: float = 0.0,
    truncate: float = 3.0, quadrature: Literal[True],
) -> npt.NDArray[np.complex128]: ...  # fmt: skip


@overload
def gabor(
    wavelength: float, angle: float = 0.0, *, sigma: float | None = None, gamma: float = 1.0, psi: float = 0.0,
    truncate: float = 3.0, quadrature: bool,
) -> Kernel | npt.NDArray[np.complex128]: ...  # fmt: skip


def gabor(
    wavelength: float,
    angle: float = 0.0,
    *,
    sigma: float | None = None,
    gamma: float = 1.0,
    psi: float = 0.0,
    truncate: float = 3.0,
    quadrature: bool = False,
) -> Kernel | npt.NDArray[np.complex128]:
    """Sample a Gabor filter: a plane wave under a Gaussian.

    Parameters
    ----------
    wavelength : float
        Of the wave, in pixels, 2 or more: samples cannot carry a shorter one.
    angle : float
        Direction in which the wave travels, across its stripes, in radians from +x towards +y.
    sigma : float, optional
        Standard deviation of the Gaussian along the wave, in pixels; 0.56*wavelength, one octave of
        bandwidth at half response, unless given.
    gamma : float
        Aspect ratio: the standard deviation along the stripes is sigma/gamma.
    psi : float
        Phase of the wave at the middle, in radians: 0 is even (bars), -pi/2 is odd (edges; positive where x grows).
    truncate : float
        Standard deviations kept on each side of the ellipse.
    quadrature : bool
        True returns complex weights, exp(i*phase) in place of cos(phase): the even filter and the odd one at once. The
        magnitude of the result is the local energy.

    Returns
    -------
    array of shape (2*h + 1, 2*w + 1), float64 or complex128
        The Gaussian sums to 1 before the wave multiplies it, so a matching wave of amplitude 1 answers about 1/2.
        An even filter keeps a small sum, exp(-2*(pi*sigma/wavelength)^2): 0.2 % by default.

    Raises
    ------
    InvalidProblem
        If a value is not finite, the wavelength is below 2, or sigma, gamma or truncate is not above 0.

    Notes
    -----
    ``exp(-(u^2 + (gamma*v)^2) / (2*sigma^2)) * cos(2*pi*u/wavelength + psi)`` with u = x*cos(angle) + y*sin(angle) and
    v = y*cos(angle) - x*sin(angle). Daugman 1985, J. Opt. Soc. Am. A 2; the bandwidth: Petkov and Kruizinga 1997,
    Biological Cybernetics 76.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.gabor(4.0, sigma=1.0, gamma=2.0, truncate=2.0).round(2)
    array([[-0.01,  0.  ,  0.04,  0.  , -0.01],
           [-0.04,  0.  ,  0.32,  0.  , -0.04],
           [-0.01,  0.  ,  0.04,  0.  , -0.01]])
    """
    wavelength, angle = at_least("wavelength", wavelength, 2), number("angle", angle)
    sigma = ONE_OCTAVE * wavelength if sigma is None else positive("sigma", sigma)
    gamma, psi, truncate = positive("gamma", gamma), number("psi", psi), positive("truncate", truncate)
    cos, sin, across = math.cos(angle), math.sin(angle), positive("sigma / gamma", sigma / gamma)
    wide = half_width(truncate * math.hypot(sigma * cos, across * sin))  # the box around the turned ellipse
    high = half_width(truncate * math.hypot(sigma * sin, across * cos))
    check_taps((2 * high + 1, 2 * wide + 1))
    y, x = np.ogrid[-high : high + 1, -wide : wide + 1]
    u, v = x * cos + y * sin, y * cos - x * sin
    with np.errstate(over="ignore"):  # far samples of a tiny sigma: exp(-inf) is their weight
        envelope = np.exp(-0.5 * ((u / sigma) ** 2 + (v / across) ** 2))
    envelope /= envelope.sum()
    phase = 2 * math.pi / wavelength * u + psi
    kernel: Kernel | npt.NDArray[np.complex128]
    kernel = envelope * (np.exp(1j * phase) if quadrature else np.cos(phase))
    return kernel
