"""The texts of the public operations and their gradients, drawn from templates so that they cannot disagree."""

__all__ = ["document", "document_gradient"]

TEMPLATE = """{verb} an array with a {ndim}-D filter or layer.

    {formula}

Parameters
----------
x : array of shape {x_filter}, or {x_layer} for a layer
    Any strides, byte order and memory layout; never modified. bool, integers, float16 to
    float64, complex64, complex128.
kernel : array of shape {k_filter}, or {k_layer} for a layer
    Weights in result units per unit of x; not normalised. Its rank decides: {ndim} axes are a
    filter for every {ndim}-D slice of x, {layer_ndim} a layer. Python lists and numbers take on x's dtype.
    With channel_axis=-1 a layer kernel is {k_last}.
bias : number, or array of shape (C_out,) for a layer, optional
    Added to the sum; never widens the result.
mode : {{"valid", "same", "full"}}, optional
    Where the kernel may stand: inside x (default, n - k + 1 results), centred on every sample
    (n), or wherever it meets x (n + k - 1).
boundary : str or sequence of str, optional
    What lies beyond an edge, in numpy.pad's words, for all spatial axes or one each: "constant" (default),
    "edge", "reflect", "symmetric", "wrap".
fill_value : number, optional
    The sample beyond a constant edge; exact in x's dtype.
padding : int, sequence of int or of (before, after), optional
    Samples to add on each side, instead of `mode`.
center : int or sequence of int, optional
    For mode="same": which sample of the dilated kernel, as correlated, lies on the output sample;
    default k_eff // 2 with k_eff = dilation * (k - 1) + 1.
stride, dilation : int or sequence of int, optional
    Steps between results and between kernel taps, in samples.
groups : int, optional
    Channel groups of a layer.
axes : int or sequence of int, optional
    The axes of x that a filter runs over; default the last {ndim} that are not the channel axis.
channel_axis : int, optional
    For a filter: an axis of x to leave alone (-1 for RGB). For a layer: -1 puts channels last.
conjugate : bool, optional
    Conjugate the kernel first.
dtype : dtype, optional
    Of the result. Default: NumPy's promotion; for integers int32 where no result can pass it,
    else int64. An integer dtype rounds half to even.
overflow : {{"saturate", "wrap", "raise"}}, optional
    What a result outside an explicit integer dtype becomes.
nan_policy : {{"propagate", "omit", "raise"}}, optional
    NaN in x reaches every result that it is a part of (default), counts as missing, or is refused.
mask : array of bool, optional
    True where a sample of x is missing; of x's shape, or broadcast to it. A missing sample counts as the mean of those
    present under the kernel, weighted by its absolute values. A result without any is NaN; that of a masked array x,
    whose own mask counts too, is masked there. Integers become float64, unless dtype says otherwise.
min_weight : float, optional
    The share of sum(abs(kernel)) that must be present for a result, 0 to 1.
region : slice or sequence of slice, optional
    The part of the result to compute, one slice for each spatial axis: ``f(x, k, region=r) == f(x, k)[r]``.
out : array, optional
    Where to write; sets the dtype; may overlap x or kernel.
backend : str or sequence of str, optional
    Who may compute; default the cheapest that can. See `backends`.
workers : int, optional
    Threads to use; default every CPU this process may run on.

Returns
-------
array of shape {y_filter} for a filter with mode="valid"
    In the layout of x, of the library of x.

Raises
------
InvalidProblem
    If the arguments describe no problem, or x holds NaN under nan_policy="raise"; the text carries the values.
NoBackend
    If no backend, or not the one asked for, can compute it; the text lists every reason.
OverflowError
    If an integer sum may pass int64, or a value does not fit under overflow="raise".

Notes
-----
Integers are exact. Error of a direct method: at most gamma(m) * corr(|x|, |kernel|) with m
taps, gamma(m) = m*u/(1 - m*u), u the unit roundoff of the sum (Higham 2002, Accuracy and
Stability of Numerical Algorithms, section 3.1); of an FFT method: a constant times
||x_block||_2 * ||kernel||_2 (Percival 2003, Math. Comp. 72), which `explain` shows.
NaN and infinity reach exactly the results whose direct sum has them. Missing samples: normalised convolution (Knutsson
and Westin 1993, CVPR, p. 515), for kernels of any sign; all its sums have componentwise bounds, unless
``options(strict=False)`` says otherwise.

Examples
--------
>>> import convengine as ce
{example}
"""

EXAMPLES = {
    "corr1d": ">>> ce.corr1d([1, 2, 4, 8], [1, -1])\narray([-1, -2, -4])",
    "conv1d": '>>> ce.conv1d([1, 2, 3], [0, 1, 0.5], mode="full")\narray([0. , 1. , 2.5, 4. , 1.5])',
    "corr2d": ">>> ce.corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])\narray([[19, 25],\n       [37, 43]])",
    "conv2d": ">>> ce.conv2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])\narray([[ 5, 11],\n       [23, 29]])",
    "corr3d": ">>> ce.corr3d([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], [[[1, 1]]])\n"
    "array([[[ 3],\n        [ 7]],\n       [[11],\n        [15]]])",
    "conv3d": ">>> ce.conv3d([[[1, 2], [3, 4]]], [[[1, -1]]])\narray([[[1],\n        [1]]])",
}
AXES = {1: "W", 2: "H, W", 3: "D, H, W"}
WIDTHS = {1: "kw", 2: "kh, kw", 3: "kd, kh, kw"}


def document(name: str) -> str:
    """Return the docstring of a public operation."""
    ndim = int(name[4])
    flipped = name.startswith("conv")
    space, widths = AXES[ndim], WIDTHS[ndim]
    sign = "-" if flipped else "+"
    results = ", ".join(f"{n} - {k} + 1" for n, k in zip(space.split(", "), widths.split(", "), strict=True))
    return TEMPLATE.format(
        verb="Convolve" if flipped else "Cross-correlate",
        formula=f"y[i] = sum_a kernel[a] * x[i {sign} a]"
        + (", the kernel flipped along every spatial axis" if flipped else ", what deep learning calls convolution"),
        ndim=ndim,
        layer_ndim=ndim + 2,
        x_filter=f"(..., {space})",
        x_layer=f"(C_in, {space}) or (N, C_in, {space})",
        k_filter=f"({widths},)" if ndim == 1 else f"({widths})",
        k_layer=f"(C_out, C_in/groups, {widths})",
        k_last=f"({widths}, C_in/groups, C_out)",
        y_filter=f"(..., {results})",
        example=EXAMPLES[name],
    )


GRADIENT = """{summary}

    {formula}

The exact adjoint of `{forward}` with the same keywords{whose}, for every mode, boundary, stride, dilation and
group{what}

Parameters
----------
{operands}
{shape_name} : tuple of int
    Shape of {target}, as `{forward}` was given it.
bias : any, optional
    Accepted, so that the forward keywords can be passed on; a bias has no part in this gradient.
mode, boundary, padding, center, stride, dilation, groups, axes, channel_axis, conjugate, overflow
    As they were given to `{forward}`.
fill_value : number, optional
    {fill}
dtype : dtype, optional
    Of the result. Default: NumPy's promotion of the operands; int64 for integers, which are exact.
out : array, optional
    Where to write; sets the dtype; may overlap the operands.
backend : str or sequence of str, optional
    Who may compute; default the cheapest that can. See `backends`.
workers : int, optional
    Threads to use; default every CPU this process may run on.

Returns
-------
array of shape {shape_name}
    {result}

Raises
------
InvalidProblem
    If the arguments describe no problem, or dy has not the shape of the forward result; the text carries the values.
NoBackend
    If no backend, or not the one asked for, can compute it; the text lists every reason.
OverflowError
    If an integer sum may pass int64, or a value does not fit under overflow="raise".

Notes
-----
The law <dy, A x> = <A^H dy, x>, with the real part of the inner products for complex numbers, holds to rounding: error
at most gamma(m) times the sum of the magnitudes of the m products that meet in a result (Higham 2002, Accuracy and
Stability of Numerical Algorithms, section 3.1), or what `explain` shows for an FFT. Products that do not occur in the
forward operation do not occur here: a NaN in the kernel reaches the samples that its tap met.

Examples
--------
>>> import convengine as ce
{example}
"""

DY = """dy : array of the shape of the forward result
    Gradient of a number with respect to each result; any strides, never modified."""
INPUT_EXAMPLES = {
    "corr1d": ">>> ce.corr1d_grad_input([1, 10], [1, 2, 3], 4)\narray([ 1, 12, 23, 30])",
    "conv1d": ">>> ce.conv1d_grad_input([1, 10], [1, 2, 3], 4)\narray([ 3, 32, 21, 10])",
    "corr2d": ">>> ce.corr2d_grad_input([[1, 1]], [[1, -1]], (1, 3))\narray([[ 1,  0, -1]])",
    "conv2d": ">>> ce.conv2d_grad_input([[1, 1]], [[1, -1]], (1, 3))\narray([[-1,  0,  1]])",
    "corr3d": ">>> ce.corr3d_grad_input([[[1, 1]]], [[[1, -1]]], (1, 1, 3))\narray([[[ 1,  0, -1]]])",
    "conv3d": ">>> ce.conv3d_grad_input([[[1, 1]]], [[[1, -1]]], (1, 1, 3))\narray([[[-1,  0,  1]]])",
}
KERNEL_EXAMPLES = {
    "corr1d": ">>> ce.corr1d_grad_kernel([1, 2, 3, 4], [1, 10], 3)\narray([21, 32, 43])",
    "conv1d": ">>> ce.conv1d_grad_kernel([1, 2, 3, 4], [1, 10], 3)\narray([43, 32, 21])",
    "corr2d": ">>> ce.corr2d_grad_kernel([[1, 2, 4]], [[1, 1]], (1, 2))\narray([[3, 6]])",
    "conv2d": ">>> ce.conv2d_grad_kernel([[1, 2, 4]], [[1, 1]], (1, 2))\narray([[6, 3]])",
    "corr3d": ">>> ce.corr3d_grad_kernel([[[1, 2, 4]]], [[[1, 1]]], (1, 1, 2))\narray([[[3, 6]]])",
    "conv3d": ">>> ce.conv3d_grad_kernel([[[1, 2, 4]]], [[[1, 1]]], (1, 1, 2))\narray([[[6, 3]]])",
}


def document_gradient(name: str) -> str:
    """Return the docstring of a gradient, corr2d_grad_input and the like."""
    forward, _, target = name.partition("_grad_")
    sign = "-" if forward.startswith("conv") else "+"
    space, widths = AXES[int(name[4])], WIDTHS[int(name[4])]
    layer = f"(C_in, {space}) or (N, C_in, {space})"
    x = f"x : array of shape (..., {space}), or {layer} for a layer\n    As given to `{forward}`."
    kernel = f"kernel : array of shape ({widths}), or (C_out, C_in/groups, {widths}) for a layer\n"
    kernel += f"    As given to `{forward}`; a Python list takes on dy's dtype."
    if target == "input":
        return GRADIENT.format(
            summary=f"Gradient of `{forward}` with respect to x.",
            formula=f"dx[p] = sum of conj(kernel[a]) * dy[i] over all i and a with i {sign} a = p",
            forward=forward,
            whose="",
            what=";\nwhat a border was made from gets that border's gradient, too.",
            operands=f"{DY}\n{kernel}",
            shape_name="x_shape",
            target="x",
            fill="Has no part in this gradient.",
            result="Gradient with respect to x, in the layout of x.",
            example=INPUT_EXAMPLES[forward],
        )
    return GRADIENT.format(
        summary=f"Gradient of `{forward}` with respect to the kernel.",
        formula=f"dk[a] = sum_i conj(x[i {sign} a]) * dy[i]",
        forward=forward,
        whose=" as a map of the kernel",
        what=".",
        operands=f"{x}\n{DY}",
        shape_name="kernel_shape",
        target="the kernel",
        fill="The sample beyond a constant edge, which the kernel met there.",
        result="Gradient with respect to the kernel, in its layout; of a filter, summed over the batch axes of x.",
        example=KERNEL_EXAMPLES[forward],
    )
