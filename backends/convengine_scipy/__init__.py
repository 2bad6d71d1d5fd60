"""The backend named scipy: scipy.ndimage and scipy.signal as they are, where they do the problem; nothing is emulated.

Three methods, each offered where it holds: "ndimage.correlate", "signal.correlate2d" and "signal.correlate" (direct).

SciPy's FFT methods (fftconvolve, oaconvolve, correlate with method="fft") are not offered: no proven constant of the
normwise bound is known for the mixed-radix transforms they use, and one NaN in x reaches every output sample of theirs.
The backend named fft keeps both promises.
"""

from convengine_scipy.backend import Backend

__all__ = ["Backend"]
