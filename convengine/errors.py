"""Every exception of convengine: what was needed, what came, what to do, in the text."""

__all__ = ["BackendError", "InvalidProblem", "NoBackend"]


class InvalidProblem(ValueError):
    """The arguments do not describe a convolution; the text carries the values and the way out.

    Examples
    --------
    >>> import convengine as ce
    >>> ce.corr1d([1, 2, 4], [1, -1], mode="sane")
    Traceback (most recent call last):
    ...
    convengine.errors.InvalidProblem: mode must be 'valid', 'same' or 'full'; got 'sane'
    """


class NoBackend(RuntimeError):
    """No backend that was asked can run this problem; the text lists every refusal.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> ce.corr1d(np.ones(9), np.ones(3), stride=2, backend="scipy")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    convengine.errors.NoBackend: no backend can run forward corr1d (9,) * (3,) float64 stride (2,)
      scipy: scipy computes every output sample; got stride (2,)
      backends that can: cython...
    """


class BackendError(RuntimeError):
    """A backend failed while it ran; the cause is chained.

    Examples
    --------
    The transforms that the user has set in scipy.fft, which the backend "fft" calls, break down:

    >>> import numpy as np
    >>> import scipy.fft
    >>> import convengine as ce
    >>> class Broken:
    ...     __ua_domain__ = "numpy.scipy.fft"
    ...     def __ua_function__(*_):
    ...         raise OSError("no device")
    >>> x = np.ones(99, complex)
    >>> with scipy.fft.set_backend(Broken):
    ...     ce.corr1d(x, x[:9], backend="fft", workers=1)
    Traceback (most recent call last):
    ...
    convengine.errors.BackendError: backend 'fft' failed on forward corr1d (99,) * (9,) complex128: OSError: no device
    """
