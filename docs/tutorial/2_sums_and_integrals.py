r"""
2. Sums, integrals and a flip
=============================

The layer of the :doc:`first page <1_dense_to_convolution>` is a sum over offsets. Here it is computed by plain loops,
and set beside what mathematics calls convolution, which is older, runs the other way round, and begins as an integral.
"""

# %%
# Sums from -D to D
# -----------------
#
# With offsets up to D in each direction, a layer of one channel is
#
# .. math:: H_{ij} = u + \sum_{a = -D}^{D} \sum_{b = -D}^{D} V_{ab} X_{i+a, j+b}.
#
# Beyond the picture, X counts as zero. An array has no negative places, so the weight of offset (a, b) is kept in row
# a + D and column b + D of an array of 2D + 1 by 2D + 1:

import matplotlib.pyplot as plt
import numpy as np

import convengine as ce


def centred_sum(X, V, u):
    """Return H, by its definition, one product after the other."""
    D = V.shape[0] // 2
    H = np.full_like(X, u)
    for i, j in np.ndindex(X.shape):
        for a in range(-D, D + 1):
            for b in range(-D, D + 1):
                if 0 <= i + a < X.shape[0] and 0 <= j + b < X.shape[1]:
                    H[i, j] += V[a + D, b + D] * X[i + a, j + b]
    return H


rng = np.random.default_rng(0)
X, V = rng.integers(-9, 10, (12, 15)), rng.integers(-9, 10, (5, 5))  # D = 2
H = centred_sum(X, V, u=3)
assert np.array_equal(ce.corr2d(X, V, bias=3, mode="same"), H)
print(f"X {X.shape}, V {V.shape}, H {H.shape}: the same size as X")

# %%
# That is ``mode="same"``: the middle of the kernel visits every pixel. It is one of three modes. In "valid", the
# default, the kernel stays inside; in "full" it goes wherever at least one of its weights meets a pixel. Each result
# lies inside the next, with D rows and columns to spare on every side:

D = 2
valid, full = ce.corr2d(X, V, bias=3), ce.corr2d(X, V, bias=3, mode="full")
assert np.array_equal(H[D:-D, D:-D], valid) and np.array_equal(full[D:-D, D:-D], H)
print(f"valid {valid.shape}, same {H.shape}, full {full.shape}")
assert (valid.shape, full.shape) == ((8, 11), (16, 19))

# %%
# A kernel of even size has no middle. "same" then takes sample k // 2 of it, counted from zero, unless ``center`` says
# otherwise; libraries differ here, and :doc:`/guide/borders` tells how.
#
# Two ways round
# --------------
#
# Two operations differ by a sign only. With a kernel K,
#
# .. math::
#    \text{cross-correlation:}\quad Y_{ij} = \sum_{a, b} K_{ab} X_{i+a, j+b}, \qquad
#    \text{convolution:}\quad Y_{ij} = \sum_{a, b} K_{ab} X_{i-a, j-b}.
#
# Our layer is the first, in spite of the name that deep learning gives it. What the sign does shows best on a picture
# of a few bright pixels. Convolution puts a copy of the kernel at each; cross-correlation puts the kernel there upside
# down and back to front.

letter = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
points = np.zeros((17, 26), np.int64)
points[4, 5], points[11, 12], points[5, 20] = 1, 2, 3
results = {
    "a picture of three points": points,
    "convolved with an F": ce.conv2d(points, letter, mode="same"),
    "cross-correlated with it": ce.corr2d(points, letter, mode="same"),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained", sharey=True)
for ax, (title, shown) in zip(axes, results.items(), strict=True):
    image = ax.imshow(shown, cmap="viridis", vmin=0, vmax=3)
    ax.set(title=title, xlabel="column (pixels)")
axes[0].set_ylabel("row (pixels)")
figure.colorbar(image, ax=axes, label="value", ticks=range(4), shrink=0.9)
plt.show()

# %%
# So each is the other with the kernel turned by half a turn. That law is all there is to it, and convengine keeps it
# for every mode, border, stride and data type:

turned = letter[::-1, ::-1]
assert np.array_equal(ce.conv2d(points, letter, mode="same"), ce.corr2d(points, turned, mode="same"))
assert np.array_equal(
    ce.conv2d(X, V, mode="full", boundary="wrap"), ce.corr2d(X, V[::-1, ::-1], mode="full", boundary="wrap")
)

# %%
# For learning it makes no difference, since a kernel that is learned comes out turned if it has to; a page further on
# :doc:`shows that <4_learning_a_kernel>`. For mathematics it does. The flipped sum treats both factors alike, so that
# they may be exchanged, and grouped at will: to blur twice is to blur once, by a kernel that was blurred itself.

f, g, x = rng.integers(-9, 10, (4, 3)), rng.integers(-9, 10, (2, 5)), rng.integers(-9, 10, (6, 6))


def conv(x, k):
    """Return the whole convolution."""
    return ce.conv2d(x, k, mode="full")


def corr(x, k):
    """Return the whole cross-correlation."""
    return ce.corr2d(x, k, mode="full")


assert np.array_equal(conv(f, g), conv(g, f))  # commutative
assert np.array_equal(conv(conv(x, f), g), conv(x, conv(f, g)))  # associative
assert not np.array_equal(corr(f, g), corr(g, f))
assert np.array_equal(corr(f, g), corr(g, f)[::-1, ::-1])  # exchanged, it is turned

# %%
# The integral
# ------------
#
# Convolution was there before there were pixels: for functions f and g,
#
# .. math:: (f * g)(x) = \int f(z)\, g(x - z)\, dz.
#
# Cut the axis into steps of width h and take one sample in each. The integral becomes a sum of samples times their
# width,
#
# .. math:: (f * g)(ih) \approx h \sum_a f(ah)\, g(ih - ah) = h \sum_a f_a\, g_{i-a},
#
# and this is the sum from above, times the spacing h; in two dimensions, times :math:`h^2`. Two bell curves try it out.
# Theory says that Gaussians of width :math:`\sigma` and :math:`\tau`, convolved, give the one of width
# :math:`\sqrt{\sigma^2 + \tau^2}`.


def gaussian(x, sigma):
    """Return the bell curve of width sigma, whose integral is 1."""
    return np.exp(-((x / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))


def samples(h, reach=14):
    """Return the places ..., -h, 0, h, ... up to `reach`, 0 in the middle."""
    count = int(reach / h)
    return h * np.arange(-count, count + 1)


h = 0.5
x = samples(h)
bell = h * ce.conv1d(gaussian(x, 1.0), gaussian(x, 1.5), mode="same")
exact = gaussian(x, np.hypot(1.0, 1.5))
print(f"spacing {h}: off by at most {abs(bell - exact).max():.1e}")
assert abs(bell - exact).max() < 1e-15

fine = samples(0.05)
figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
ax.plot(fine, gaussian(fine, 1.0), "--", label=r"f, $\sigma = 1$")
ax.plot(fine, gaussian(fine, 1.5), ":", label=r"g, $\tau = 1.5$")
ax.plot(fine, gaussian(fine, np.hypot(1.0, 1.5)), "k", linewidth=1, label=r"f * g, $\sqrt{\sigma^2 + \tau^2} = 1.80$")
ax.plot(x, bell, "ko", markersize=4, label=f"h × sum, h = {h}")
ax.set(xlim=(-6, 6), xlabel="x", ylabel="value", title="The sum, times its spacing, lies on the curve of the integral")
ax.legend()
plt.show()

# %%
# How far off is the sum for other spacings? That depends on how smooth the functions are. For Gaussians the error all
# but vanishes once h is of the order of their width: by Poisson's summation formula it is at most :math:`2\sum_{m \ge
# 1} e^{-2 (\pi m s / h)^2}` of the curve's height, with :math:`s^2 = \sigma^2 \tau^2 / (\sigma^2 + \tau^2)`. A jump is
# another matter. Take :math:`f = g = e^{-x}` from 0 on, and zero before: what a low-pass filter in electronics does to
# a pulse. The integral is :math:`x e^{-x}`, the sum is :math:`(x + h) e^{-x}`, and so the error is h, at x = 0: half
# the step, half the error.

spacings = np.array([3.0, 2.5, 2.0, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.125])
off_bells, bounds, off_decays = [], [], []
for h in spacings:
    x = samples(h)
    curve = gaussian(x, np.hypot(1.0, 1.5))
    off_bells.append(abs(h * ce.conv1d(gaussian(x, 1.0), gaussian(x, 1.5), mode="same") - curve).max())
    s = 1.0 * 1.5 / np.hypot(1.0, 1.5)
    bounds.append(curve.max() * 2 * sum(np.exp(-2 * (np.pi * m * s / h) ** 2) for m in range(1, 20)))
    x = h * np.arange(int(30 / h))
    off_decays.append(abs(h * ce.conv1d(np.exp(-x), np.exp(-x), mode="full")[: len(x)] - x * np.exp(-x)).max())
assert np.all(np.array(off_bells) <= np.array(bounds) + 1e-15)
np.testing.assert_allclose(off_decays, spacings, rtol=1e-12)

figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
ax.loglog(spacings, off_decays, "s-", label="decays with a jump: error h")
ax.loglog(spacings, off_bells, "o", label="Gaussians")
ax.loglog(spacings, bounds, "k--", linewidth=1, label="bound for Gaussians")
ax.set(ylim=(1e-18, 20), xlabel="spacing h", ylabel="largest error", xticks=[0.125, 0.25, 0.5, 1, 2, 3])
ax.set_xticklabels(["1/8", "1/4", "1/2", "1", "2", "3"])
ax.minorticks_off()
ax.set_title("Half the spacing halves the error at a jump; smooth curves need no small steps")
ax.legend(loc="lower right")
plt.show()

# %%
# The points at the bottom stand for what rounding leaves, some :math:`10^{-16}`.
#
# A photograph, too, is made of samples of something continuous. That is why the kernels in ``ce.filters`` come with
# units: a Gaussian of ``sigma`` pixels, slopes per pixel. Blurring by one Gaussian and then by another follows the same
# law of widths, within what sampling and cutting off the tails cost:

two = ce.conv2d(ce.filters.gaussian(1.5), ce.filters.gaussian(2.0), mode="full")
one = ce.filters.gaussian(2.5)  # 2.5^2 = 1.5^2 + 2^2
middle = slice((len(two) - len(one)) // 2, (len(two) + len(one)) // 2)
difference = abs(two[middle, middle] - one).max() / one.max()
print(f"gaussian(1.5) * gaussian(2) differs from gaussian(2.5) by {difference:.1e} of its height")
assert difference < 1e-3
