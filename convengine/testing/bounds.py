"""How far an answer may lie from the oracle's: proven bounds of rounding errors, and the check against them.

Nothing here is multiplied by a factor "to be safe": an error beyond its bound is a wrong answer or a wrong proof.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from convengine.testing.arguments import Array
from convengine.testing.oracle import Reference


def unit_roundoff(dtype: npt.DTypeLike) -> float:
    """Largest relative error of one rounding to a float dtype, or of a part to a complex dtype: 2**-24 in float32.

    Examples
    --------
    >>> unit_roundoff("float32") == unit_roundoff("complex64") == 2**-24
    True
    """
    return float(np.finfo(np.dtype(dtype)).eps) / 2


def gamma(n: int, u: float) -> float:
    """n*u / (1 - n*u): what n roundings in a row may do to a number (Higham 2002, Accuracy and Stability, lemma 3.1).

    Parameters
    ----------
    n : int
        How many roundings.
    u : float
        The largest relative error of one: `unit_roundoff`.

    Returns
    -------
    float
        The largest relative error of all.

    Raises
    ------
    ValueError
        If n*u >= 1: nothing can be proven then.

    Examples
    --------
    >>> from convengine.testing import gamma, unit_roundoff
    >>> round(gamma(9, unit_roundoff("float32")) * 2**24, 3)  # in units of one rounding
    9.0
    """
    if n * u >= 1:
        raise ValueError(f"gamma needs n*u < 1; got n={n} and u={u}: sum in a wider dtype")
    return n * u / (1 - n * u)


def componentwise(reference: Reference) -> Array:
    """Bound the error of any direct sum, in any order, with fused multiply-adds or without.

    Parameters
    ----------
    reference : Reference
        The oracle's answer.

    Returns
    -------
    array of longdouble or clongdouble, of the shape of `reference.value`
        Largest allowed absolute errors; for complex values, of the real part and of the imaginary part. Zero in integer
        problems. Infinite where the sum might overflow in its dtype: nothing is proven there.

    Raises
    ------
    ValueError
        If a sum has too many terms for its dtype, 2**24 in float32: see `gamma`.

    Notes
    -----
    However a sum of m terms is bracketed (products, and the bias), each term is rounded at most m times: once as a
    product, and in at most m - 1 additions. So |error| <= gamma(m) * (|x| corr |kernel| + |bias|) (Higham 2002, section
    3.1). A product that underflows adds at most half of the smallest subnormal, and later roundings may double that.

    Complex, with x = a + ib and kernel = c + id: the real part is the real sum of the 2m terms a*c and -b*d (and the
    real part of the bias), the imaginary part that of a*d and b*c. So the real bound holds for each part by itself,
    with gamma(2m) and the magnitudes |a| corr |c| + |b| corr |d| + |re bias| and |a| corr |d| + |b| corr |c| +
    |im bias|; neither exceeds the |x| corr |kernel| + |bias| of moduli, by Cauchy-Schwarz. The tricks that multiply
    complex numbers with three real products mix the parts, and are not covered.

    If the result's dtype is narrower than the sum's, one rounding comes on top: half a unit in the last place of the
    largest sum that the bound allows. The oracle's own sum, in longdouble, errs by the same theorem, and its magnitude,
    a sum of positive terms, is too small by a factor of 1 - gamma at most; both are added.

    Examples
    --------
    Two roundings of terms whose magnitudes add up to 3 and to 6:

    >>> import numpy as np
    >>> from convengine.testing import componentwise, reference
    >>> answer = reference("corr1d", np.float32([1, 2, 4]), np.float32([1, -1]))
    >>> (componentwise(answer) * 2**24).astype(float).round(3)
    array([ 6., 12.])
    """
    if _is_exact(reference):
        return np.zeros(reference.value.shape, np.longdouble)
    n = _roundings(reference)
    info = np.finfo(reference.sum_dtype)
    scale = _scale(reference)
    bound = gamma(n, unit_roundoff(reference.sum_dtype)) * scale + n * np.longdouble(info.smallest_subnormal)
    return _finished(reference, bound)


def normwise(reference: Reference, constant: float) -> Array:
    """Bound the error of a method that mixes samples, as the FFT does: one bound for all outputs of an image.

    Parameters
    ----------
    reference : Reference
        The oracle's answer.
    constant : float
        The method's proven constant c in |error| <= c * ||x||_2 * ||kernel||_2, with x padded; see `fft_constant`.

    Returns
    -------
    array of longdouble or clongdouble, of the shape of `reference.value`
        As `componentwise` returns it.

    Notes
    -----
    Beside the method's error: the addition of a bias errs by u times the largest result that the method's error
    allows; rounding to a narrower dtype and the oracle's own error are added as in `componentwise`. Underflow inside
    the method is not covered.

    Examples
    --------
    The norms are 5 and 13:

    >>> import numpy as np
    >>> from convengine.testing import fft_constant, normwise, reference
    >>> answer = reference("corr1d", np.float32([3, 4, 0]), np.float32([5, -12]))
    >>> constant = fft_constant(4, "float32")
    >>> (normwise(answer, constant) / constant).astype(float).round(3)
    array([65., 65.])
    """
    if _is_exact(reference):
        return np.zeros(reference.value.shape, np.longdouble)
    values = _parts(reference.value)
    bound = constant * np.broadcast_to(reference.norm_x, reference.value.shape) * np.longdouble(reference.norm_kernel)
    bound = np.broadcast_to(bound[..., None], values.shape)
    if reference.has_bias:
        bound = bound + unit_roundoff(reference.sum_dtype) * (_finite_moduli(values) + bound)
    return _finished(reference, bound)


def fft_constant(size: float, dtype: npt.DTypeLike) -> float:
    """Constant c of a convolution by FFT: |error| <= c * ||x||_2 * ||kernel||_2 for every output.

    Parameters
    ----------
    size : float
        Length of the transforms, N; in more dimensions, the product of the lengths.
    dtype : dtype
        In which the transforms are computed; float or complex.

    Returns
    -------
    float
        (1 + u)**(3n) * (1 + u*sqrt(5))**(3n + 1) * (1 + mu)**(3n) - 1, with n = log2(N), and mu = u/sqrt(2) the error
        of the roots of unity when each is rounded correctly.

    Notes
    -----
    Percival 2003, Rapid multiplication modulo the sum and difference of highly composite numbers, Math. Comp. 72. The
    theorem is of powers of two, where 3n counts the stages of three transforms; between them, log2 interpolates.

    Examples
    --------
    >>> round(fft_constant(1024, "float64") / unit_roundoff("float64"))
    121
    """
    u, n = unit_roundoff(dtype), math.log2(size)
    # expm1 and log1p, because 1 + u in floating point would lose u.
    stages = math.log1p(u) + math.log1p(u * math.sqrt(5)) + math.log1p(u / math.sqrt(2))
    return math.expm1(3 * n * stages + math.log1p(u * math.sqrt(5)))


def check(actual: Any, reference: Reference, bound: Array) -> float:
    """Hold an answer against the oracle's.

    Parameters
    ----------
    actual : array
        The engine's answer, of the reference's shape and dtype.
    reference : Reference
        The oracle's answer.
    bound : array
        From `componentwise` or `normwise`.

    Returns
    -------
    float
        The largest error as a fraction of its bound, at most 1; no error within no bound is 0.

    Raises
    ------
    AssertionError
        If an error passes its bound; if NaN or an infinity is missing, added or of the wrong sign; if integers differ;
        if the shape or dtype is another. The text names the worst place, both values and the bound.

    Notes
    -----
    A sum that the result's dtype cannot hold must have become infinite, which counts as the power of two beyond the
    largest number: rounding meets it there. Floats rounded to integers must be the rounding of a sum that the bound
    allows, with overflow handling applied; the fraction is of what remains of the error beyond one half.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine.testing import check, componentwise, reference
    >>> answer = reference("corr1d", [0.1, 0.2, 0.4], [1.0, 0.3])
    >>> check(np.array([0.1 + 0.2 * 0.3, 0.2 + 0.4 * 0.3]), answer, componentwise(answer)) <= 1
    True
    >>> answer = reference("corr1d", [1, 2, 4], [1, -1])
    >>> check(np.array([-1, -3]), answer, componentwise(answer))
    Traceback (most recent call last):
    ...
    AssertionError: output (1,) must be -2 within 0.0; got -3, inf times the bound; 1 of 2 values are beyond theirs
    """
    actual = np.asarray(actual)
    expected = (reference.final.shape, reference.dtype)
    if (actual.shape, actual.dtype) != expected:
        raise AssertionError(f"the shape and dtype must be {expected}; got {(actual.shape, actual.dtype)}")
    if _is_exact(reference):
        fractions = np.where(actual == reference.final, 0.0, np.inf)
    elif reference.dtype.kind in "iu":
        fractions = _integer_fractions(actual, reference, bound)
    else:
        fractions = _float_fractions(actual, reference, bound)
    if not fractions.size:
        return 0.0
    worst = np.unravel_index(int(np.argmax(fractions)), fractions.shape)
    largest = float(fractions[worst])
    if largest > 1:
        index = tuple(int(i) for i in worst[: actual.ndim])
        wanted = (reference.final if _is_exact(reference) else reference.value)[index]
        raise AssertionError(
            f"output {index} must be {wanted!s} within {bound[index]}; got {actual[index]}, {largest:.3g} times the"
            f" bound; {np.count_nonzero(fractions > 1)} of {fractions.size} values are beyond theirs"
        )
    return largest


def _float_fractions(actual: Array, reference: Reference, bound: Array) -> Array:
    """Errors over bounds, one for each real part."""
    got, value, allowed = _parts(actual), _parts(reference.value), _parts(bound)
    known = np.isfinite(value)
    same_kind = (np.isnan(got) & np.isnan(value)) | (got == value)
    beyond = np.ldexp(np.longdouble(1), int(np.finfo(reference.dtype).maxexp))
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(np.clip(got, -beyond, beyond) - np.clip(value, -beyond, beyond))
        fractions = np.where(error == 0, 0, error / allowed)
    fractions[np.isnan(error)] = np.inf
    fractions[np.isinf(allowed)] = 0  # the sum may have overflowed: nothing is proven
    return np.where(known, fractions, np.where(same_kind, 0, np.inf))


def _integer_fractions(actual: Array, reference: Reference, bound: Array) -> Array:
    """Errors of sums that were rounded to integers, beyond one half, over their bounds."""
    low, high = int(np.iinfo(reference.dtype).min), int(np.iinfo(reference.dtype).max)
    fractions = np.full(actual.shape, np.inf)
    for index in np.ndindex(*actual.shape):
        got, value, allowed = int(actual[index]), reference.value[index], bound[index]
        if np.isinf(allowed) or got == reference.final[index]:
            fractions[index] = 0
        elif np.isfinite(value):
            least, most = int(np.rint(value - allowed)), int(np.rint(value + allowed))
            if reference.overflow == "wrap":
                got = least + (got - least) % (high - low + 1)  # the first of its class from `least` on
            if least <= got <= most:  # so that |got - value| <= 1/2 + allowed
                fractions[index] = max((np.abs(got - value) - 0.5) / allowed, 0)
    return fractions


def _finished(reference: Reference, bound: Array) -> Array:
    """Add the rounding to the result's dtype and the oracle's own error; say nothing where the sum might overflow."""
    dtype, total = reference.dtype, reference.sum_dtype
    if dtype.kind in "fc" and dtype != total:
        bound = bound + _half_ulp(_finite_moduli(_parts(reference.value)) + bound, dtype)
    scale = _scale(reference)
    bound = bound + gamma(_roundings(reference), unit_roundoff(np.longdouble)) * scale
    bound[scale + bound > np.finfo(total).max] = np.inf
    if reference.value.dtype.kind != "c":
        return bound[..., 0]
    whole = np.empty_like(reference.value)
    whole.real, whole.imag = bound[..., 0], bound[..., 1]
    return whole


def _half_ulp(moduli: Array, dtype: np.dtype[Any]) -> Array:
    """Half a unit in the last place of each modulus: the largest error of rounding anything up to it."""
    info = np.finfo(dtype)
    exponent = np.clip(np.frexp(moduli)[1] - 1, int(info.minexp), int(info.maxexp) - 1)
    half: Array = np.ldexp(np.longdouble(1), exponent - int(info.nmant) - 1)
    return np.where(moduli > 0, half, 0)


def _scale(reference: Reference) -> Array:
    """The magnitude, by parts, with what the oracle's rounding may have taken from it."""
    return _parts(reference.magnitude) / (1 - gamma(_roundings(reference), unit_roundoff(np.longdouble)))


def _roundings(reference: Reference) -> int:
    return reference.taps * (2 if reference.value.dtype.kind == "c" else 1)


def _is_exact(reference: Reference) -> bool:
    return reference.value.dtype == object


def _parts(values: Array) -> Array:
    """Real and imaginary parts in longdouble along a last axis; real values have one."""
    parts = (values.real, values.imag) if values.dtype.kind == "c" else (values,)
    return np.stack(parts, axis=-1).astype(np.longdouble)


def _finite_moduli(values: Array) -> Array:
    return np.where(np.isfinite(values), np.abs(values), 0)
