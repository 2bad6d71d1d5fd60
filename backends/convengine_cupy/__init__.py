"""The backend named cupy: device arrays in, device arrays out, by kernels of its own, by array operations and ndimage.

Filters and layers of real numbers go by CUDA kernels, compiled at need for their dtypes and taps (direct.py, layers.py,
the folder kernels); large kernels by transforms of tiles in shared memory (fft_tiles.py, fft.py). Every forward problem
can be done elementwise: a strided slice of the padded window and one multiply-add for each tap. A layer of real numbers
may sum its channels by matmul instead, and what cupyx.scipy.ndimage.correlate does as it is, is offered too. Gradients
are made of forward problems by convengine.adjoint. Nothing is copied between host and device but the kernel, the bias
and short lists of indices, unless the user allows it for x (transfer.py). CuPy loads when a device array comes, or when
the backend is asked what it runs on.
"""

from convengine_cupy.backend import Backend

__all__ = ["Backend"]
