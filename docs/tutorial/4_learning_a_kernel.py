r"""
4. Learning a kernel
====================

Given a picture and what some kernel made of it, which kernel was it? Step by step, as networks learn, and then
all at once, since this is a problem that can be solved.
"""

# %%
# Downhill
# --------
#
# The picture with a black bar and its edges, from the :doc:`page before <3_by_hand_and_edges>`, and a kernel of two
# random numbers. The loss is the sum of the squared errors. Its gradient by the kernel is a correlation in turn, of the
# picture with twice the errors: ``corr2d_grad_kernel`` gives it for every border, stride and dilation. Ten times, go a
# small step against the gradient.

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

import convengine as ce

X = np.ones((6, 8))
X[:, 2:6] = 0
Y = ce.corr2d(X, [[1, -1]])

kernel = np.random.default_rng(0).uniform(-1, 1, (1, 2)) / np.sqrt(2)
path, losses = [kernel.copy()], []
for epoch in range(1, 11):
    error = ce.corr2d(X, kernel) - Y
    losses.append(np.sum(error**2))
    kernel -= 0.03 * ce.corr2d_grad_kernel(X, 2 * error, kernel.shape)
    path.append(kernel.copy())
    if epoch % 2 == 0:
        print(f"epoch {epoch}, loss {losses[-1]:.3f}")
print("kernel", kernel.round(4))
assert losses[-1] < 0.1 and abs(kernel - [[1, -1]]).max() < 0.05

# %%
# Nobody told it about edges. ``fit_kernel`` is this loop, drawing its first kernel in the same way, and keeps the
# losses.

fit = ce.nn.fit_kernel(X, Y, (1, 2), lr=0.03, epochs=10, rng=0)
print(fit.trace())
np.testing.assert_allclose(fit.kernel, kernel, rtol=1e-12)
np.testing.assert_allclose(fit.losses, losses, rtol=1e-9)

# %%
# Two weights make a landscape that can be drawn. The loss is a quadratic function of them, a valley with its floor at
# [1, -1], and its curvatures tell everything about the descent. They are the eigenvalues of twice the matrix of
# products of pixels that lie side by side.

windows = np.lib.stride_tricks.sliding_window_view(X, (1, 2)).reshape(-1, 2)
curvatures = np.linalg.eigvalsh(2 * windows.T @ windows)
factors = 1 - 0.03 * curvatures
print(f"curvatures {curvatures.round(6)}, so errors shrink by the factors {factors.round(6)} each epoch")
np.testing.assert_allclose(curvatures, [12, 60])
np.testing.assert_allclose(factors, [0.64, -0.8])
target = np.array([[1.0, -1.0]])
for before, after in pairwise(path):
    assert np.linalg.norm(after - target) <= 0.8 * np.linalg.norm(before - target) + 1e-12

# %%
# The steep way across the valley is overshot at every step (the factor is negative), and a rate beyond 2/60 would climb
# out on the other side: 0.03 is nearly as fast as it can safely go.

first, second = np.meshgrid(np.linspace(-0.6, 1.8, 121), np.linspace(-1.6, 0.2, 91))
off = np.stack([first - 1, second + 1])
loss = np.einsum("aij,ab,bij->ij", off, windows.T @ windows, off)
places = np.array(path)[:, 0]

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
contours = left.contourf(
    first, second, loss, levels=[0, 0.1, 0.5, 1, 2, 4, 8, 16, 32, 64], cmap="cividis_r", extend="max"
)
figure.colorbar(contours, ax=left, label="loss", spacing="uniform")
left.plot(*places.T, "o-", color="k", markersize=4, linewidth=1)
left.annotate("start", places[0], (-12, -14), textcoords="offset points", ha="right")
left.plot(1, -1, "*", color="tab:orange", markersize=14, markeredgecolor="k")
left.set(xlabel="first weight", ylabel="second weight", title="Ten steps to [1, -1], through a valley")
right.semilogy(range(1, 11), losses, "o-")
right.axhline(0.1, color="k", linestyle=":", linewidth=1)
right.text(1, 0.11, "0.1", va="bottom")
right.set(xlabel="epoch", ylabel="loss", title="The loss falls by a steady factor", xticks=range(1, 11))
plt.show()

# %%
# At once
# -------
#
# The result is linear in the kernel, so the lowest point of the loss is a problem of least squares. It needs no rate,
# no epochs and no luck, and is exact but for rounding.

exact = ce.nn.fit_kernel(X, Y, (1, 2), method="lstsq")
print(f"least squares {exact.kernel}, loss {exact.losses[-1]:.0e}")
assert abs(exact.kernel - [[1, -1]]).max() < 1e-14 and exact.losses[-1] < 1e-28

# %%
# Forwards or backwards
# ---------------------
#
# Had Y been made by a convolution, which flips its kernel, a layer that correlates would have to learn the kernel
# flipped; and that is what it does. This is why a network need not care which of the two it is made of.

flipped = ce.nn.fit_kernel(X, ce.conv2d(X, [[1, -1]]), (1, 2), lr=0.03, epochs=40, rng=0)
print("from a convolution with [1, -1]:", flipped.kernel.round(3))
assert abs(flipped.kernel - [[-1, 1]]).max() < 1e-3

# %%
# Twenty-five weights, from a photograph
# --------------------------------------
#
# Now something harder: Sobel's kernel, blurred by another, takes slopes over 5 by 5 pixels. The cameraman and his
# slopes are given, the kernel is asked for. Least squares find it to the last digits:

from skimage import data

camera = data.camera() / 255
wanted = ce.conv2d(ce.filters.sobel(normalize=True), ce.filters.binomial(2), mode="full")
slopes = ce.corr2d(camera, wanted)
print((128 * wanted).round(6))

found = ce.nn.fit_kernel(camera, slopes, (5, 5), method="lstsq")
print(f"least squares: off by {abs(found.kernel - wanted).max():.0e}, {found.rank} of 25 weights determined")
assert abs(found.kernel - wanted).max() < 1e-12 and found.rank == 25

# %%
# Even if the slopes had been rounded to bytes, half a grey level up or down at a quarter of a million places, they
# would tell the kernel to a thousandth or so of its largest weight.

rounded = ce.nn.fit_kernel(camera, np.round(255 * slopes) / 255, (5, 5), method="lstsq")
print(f"from rounded slopes: off by {abs(rounded.kernel - wanted).max() / wanted.max():.1e} of the largest weight")
assert abs(rounded.kernel - wanted).max() < 3e-3 * wanted.max()

# %%
# Descent has a hard time with it, and the curvatures say why. Neighbouring pixels of a photograph are much alike, so
# what changes all weights together changes the loss very much, and what changes neighbours against each other hardly at
# all: a valley twenty thousand times as curved in one direction as in another. In a picture of noise neighbours have
# nothing in common, and it teaches the same kernel in a few steps. (Both descend at the best of all fixed rates, 2 over
# the sum of the lowest and the highest curvature.)


def curvatures_of(x):
    """Return the lowest and the highest curvature of the loss by a kernel of 5 by 5."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5)).reshape(-1, 25)
    return np.linalg.eigvalsh(2 * windows.T @ windows)[[0, -1]]


noise = np.random.default_rng(1).normal(size=(128, 128))
taught = {}
for name, x in {"photograph": camera, "noise": noise}.items():
    low, high = curvatures_of(x)
    taught[name] = ce.nn.fit_kernel(x, ce.corr2d(x, wanted), (5, 5), lr=2 / (low + high), epochs=100, rng=0)
    off = abs(taught[name].kernel - wanted).max() / wanted.max()
    print(f"{name:10}  curvatures 1 to {high / low:,.1f}; after 100 epochs off by {off:.1e} of the largest weight")
    assert off < 1e-9 if name == "noise" else off > 1 and high / low > 20_000

kernels = {
    "wanted": wanted,
    "least squares,\nphotograph": found.kernel,
    "100 epochs,\nnoise": taught["noise"].kernel,
    "100 epochs,\nphotograph": taught["photograph"].kernel,
}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.9), layout="constrained")
for ax, (title, shown) in zip(axes, kernels.items(), strict=True):
    image = ax.imshow(shown, cmap="PuOr", vmin=-0.2, vmax=0.2)
    ax.set(title=title, xticks=range(5), yticks=range(5), xlabel="column (pixels)")
axes[0].set_ylabel("row (pixels)")
figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
plt.show()

# %%
# How long would it take from the photograph? At this rate, what lies along the lowest curvature shrinks by a factor of
# :math:`(\kappa - 1) / (\kappa + 1)` each epoch, where :math:`\kappa` is the highest curvature over the lowest:

low, high = curvatures_of(camera)
kappa = high / low
print(f"to a tenth in {np.log(10) / -np.log1p(-2 / (kappa + 1)):,.0f} epochs")
assert 20_000 < np.log(10) / -np.log1p(-2 / (kappa + 1)) < 30_000

# %%
# Networks learn from photographs all the same: they begin with pictures whose mean is taken off, keep their momentum,
# and need not find the one right kernel, but one that does.
#
# From the shell, on files
# ------------------------
#
# ``convengine fit`` learns the kernel between two pictures or arrays; :doc:`/guide/command-line` has its options.
#
# .. code-block:: sh
#
#    convengine fit photo.jpg photo.png --kernel-size 5x5
#    convengine fit signal.npy signal.npy --kernel-size 2 --method gradient --epochs 50
