"""The fft backend: overlap-save over tiles with scipy.fft, for kernels too large to sum directly.

Found by its entry point in the group ``convengine.backends``; SciPy loads when a problem is planned.
"""

from convengine_fft.backend import Backend

__all__ = ["Backend"]
