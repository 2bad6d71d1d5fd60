r"""
3. By hand, and edges
=====================

Cross-correlation once on paper, once in loops and once by the engine. Then its first use: the smallest of kernels finds
where the light changes in a picture, and somewhat larger ones draw a photograph in outlines.
"""

# sphinx_gallery_thumbnail_number = 4

# %%
# Nine pixels, four weights
# -------------------------
#
# A kernel of 2 by 2 has four places inside a picture of 3 by 3. At each, every weight is multiplied with the pixel
# that it covers, and the products are added up.

import matplotlib.pyplot as plt
import numpy as np

import convengine as ce

X = np.arange(9).reshape(3, 3)
K = np.arange(4).reshape(2, 2)


def by_hand(X, K):
    """Cross-correlate two arrays: a loop over the results, and one over the weights for each."""
    (rows, columns), (high, wide) = X.shape, K.shape
    Y = np.zeros((rows - high + 1, columns - wide + 1), np.result_type(X, K))
    for i, j in np.ndindex(Y.shape):
        for a, b in np.ndindex(K.shape):
            Y[i, j] += K[a, b] * X[i + a, j + b]
    return Y


Y = by_hand(X, K)
assert Y.tolist() == [[19, 25], [37, 43]]
for i, j in np.ndindex(Y.shape):
    products = [f"{X[i + a, j + b]}·{K[a, b]}" for a, b in np.ndindex(K.shape)]
    print(" + ".join(products), "=", Y[i, j])

# %%


def numbers(ax, array, title, marked, size):
    """Draw an array as a table in the middle of 3 x 3 cells; shade the part of this size that begins at `marked`."""
    top, left = (3 - np.array(array.shape)) / 2
    for (i, j), value in np.ndenumerate(array):
        shaded = 0 <= i - marked[0] < size and 0 <= j - marked[1] < size
        cell = {"facecolor": "lightskyblue" if shaded else "w", "edgecolor": "k"}
        ax.add_patch(plt.Rectangle((left + j, top + i), 1, 1, **cell))
        ax.text(left + j + 0.5, top + i + 0.5, value, ha="center", va="center", fontsize=13)
    ax.set(aspect="equal", xlim=(-0.1, 3.1), ylim=(3.1, -0.1), title=title)
    ax.axis("off")


figure, axes = plt.subplots(4, 3, figsize=(6, 8.6), layout="constrained")
for row, (i, j) in zip(axes, np.ndindex(Y.shape), strict=True):
    numbers(row[0], X, f"X, from ({i}, {j}) on", (i, j), size=2)
    numbers(row[1], K, "K", (0, 0), size=2)
    numbers(row[2], Y, f"Y[{i}, {j}] = {Y[i, j]}", (i, j), size=1)
figure.suptitle("The kernel at its four places, and what comes out")
plt.show()

# %%
# The engine gives the same, and exactly: sums of integers are integers.

print(ce.corr2d(X, K))
assert np.array_equal(ce.corr2d(X, K), Y)

rng = np.random.default_rng(0)
for shape, size in [((7, 5), (3, 3)), ((4, 9), (1, 4)), ((6, 6), (6, 6)), ((8, 8), (5, 2))]:
    x, k = rng.integers(-99, 100, shape), rng.integers(-99, 100, size)
    assert np.array_equal(ce.corr2d(x, k), by_hand(x, k))

# %%
# How large is the result? A kernel k wide can begin at n - k + 1 places of n, so that a picture of
# :math:`n_h \times n_w` and a kernel of :math:`k_h \times k_w` give :math:`(n_h - k_h + 1) \times (n_w - k_w + 1)`.
# ``output_shape`` knows the other modes, strides and paddings as well, and computes nothing else.

assert ce.analysis.output_shape((3, 3), (2, 2)) == Y.shape == (3 - 2 + 1, 3 - 2 + 1)
for keywords in ({}, {"mode": "same"}, {"mode": "full"}, {"stride": 2}, {"padding": 1, "stride": 2}):
    print(
        f"480 x 640 pixels, a kernel of 5 x 5, {keywords}: {ce.analysis.output_shape((480, 640), (5, 5), **keywords)}"
    )
assert ce.analysis.output_shape((480, 640), (5, 5)) == (476, 636)

# %%
# A *convolutional layer* is this and a number, its bias b, that is added to each result: Y = corr2d(X, K) + b. Its
# kernel and its bias are what it learns.

layer = ce.nn.Conv2D(1, kernel_size=(2, 2), dtype=np.float64)
layer(X[None].astype(float))  # the first array tells how many channels there are
layer.weight, layer.bias = K[None, None], [10.0]
print(layer(X[None].astype(float))[0])
assert np.array_equal(layer(X[None].astype(float))[0], Y + 10)

# %%
# The smallest edge detector
# --------------------------
#
# Six rows, eight columns, white (1) but for a black (0) bar in the middle. The kernel [1, -1] takes from each pixel its
# right-hand neighbour: 1 where white turns black, -1 where black turns white, 0 where nothing happens.

picture = np.ones((6, 8), np.int64)
picture[:, 2:6] = 0
kernel = np.array([[1, -1]])
edges = ce.corr2d(picture, kernel)
print(edges)
assert np.array_equal(edges, np.tile([0, 1, 0, 0, 0, -1, 0], (6, 1)))

# %%
# It finds upright edges only. On the picture turned on its side, it says nothing at all; its own transpose does.

assert not ce.corr2d(picture.T, kernel).any()
assert np.array_equal(ce.corr2d(picture.T, kernel.T), edges.T)

signed = {"cmap": "PuOr", "vmin": -1, "vmax": 1}
panels = [
    ("picture, 6 x 8", picture, {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ("[1, -1] finds its edges", edges, signed),
    ("on its side, 8 x 6", picture.T, {"cmap": "gray", "vmin": 0, "vmax": 1}),
    ("[1, -1] finds nothing", ce.corr2d(picture.T, kernel), signed),
]
figure, axes = plt.subplots(1, 4, figsize=(9.5, 2.9), layout="constrained", width_ratios=[8, 7, 6, 5])
for ax, (title, shown, colours) in zip(axes, panels, strict=True):
    image = ax.imshow(shown, extent=(0, shown.shape[1], shown.shape[0], 0), **colours)
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="column", xticks=range(0, shown.shape[1] + 1, 2), yticks=range(0, shown.shape[0] + 1, 2))
axes[0].set_ylabel("row")
figure.colorbar(image, ax=axes, label="difference", ticks=[-1, 0, 1], shrink=0.8)
plt.show()

# %%
# Edges in a photograph
# ---------------------
#
# The cameraman comes with scikit-image: 512 by 512 pixels, grey levels from 0 to 255. Bytes go in, and since
# differences can be negative, what comes out is wider than a byte and signed.

from skimage import data

camera = data.camera()
across, down = ce.corr2d(camera, [[1, -1]]), ce.corr2d(camera, [[1], [-1]])
print(f"{camera.dtype} {camera.shape} -> {across.dtype} {across.shape}, from {across.min()} to {across.max()}")
assert np.array_equal(across, camera[:, :-1].astype(int) - camera[:, 1:])

figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.5), layout="constrained", sharex=True, sharey=True)
axes[0].imshow(camera, cmap="gray")
axes[0].set(title="cameraman", ylabel="row (pixels)")
image = axes[1].imshow(across, cmap="PuOr", vmin=-60, vmax=60)
axes[1].set_title("[1, -1]: upright edges")
axes[2].imshow(down, cmap="PuOr", vmin=-60, vmax=60)
axes[2].set_title("transposed: level edges")
for ax in axes:
    ax.set_xlabel("column (pixels)")
figure.colorbar(image, ax=axes, label="difference (grey levels)", shrink=0.65, extend="both")
plt.show()

# %%
# The tripod tells them apart. Its column stands upright, and the second kernel hardly sees it; its legs lean, and are
# in both pictures.

column = np.s_[335:455, 285:300]
print(f"column of the tripod: {abs(across[column]).mean():.0f} grey levels against {abs(down[column]).mean():.0f}")
assert abs(across[column]).mean() > 5 * abs(down[column]).mean()

# %%
# Slopes in two directions
# ------------------------
#
# A difference of neighbours also picks up each speck of noise. Sobel's kernels take it over two pixels, and
# smooth across it. Divided by 8 they are in grey levels per pixel, so that a ramp of slope 1 gives 1.

ramp = np.tile(np.arange(8.0), (8, 1))
assert np.all(ce.corr2d(ramp, ce.filters.sobel(normalize=True)) == 1)

print(ce.filters.sobel())
how = {"mode": "same", "boundary": "reflect"}
sobel_x = ce.corr2d(camera, ce.filters.sobel(axis=-1, normalize=True), **how)
sobel_y = ce.corr2d(camera, ce.filters.sobel(axis=-2, normalize=True), **how)

# %%
# Both slopes together are an arrow at each pixel, which points to where it gets lighter: its length says how steep the
# edge is, in whatever direction.

steepness = np.hypot(sobel_x, sobel_y)
head = np.s_[60:220, 150:310]
place = {"extent": (149.5, 309.5, 219.5, 59.5)}

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.6), layout="constrained")
image = left.imshow(steepness[head], cmap="cividis", vmin=0, vmax=80, **place)
left.set(title="How steep: the length of the arrow", ylabel="row (pixels)")
figure.colorbar(image, ax=left, label="slope (grey levels per pixel)", shrink=0.8, extend="max")

rows, columns = np.mgrid[62:220:4, 152:310:4]
steep = steepness[rows, columns] > 15
rows, columns = rows[steep], columns[steep]
right.imshow(camera[head], cmap="gray", **place)
right.quiver(
    columns,
    rows,
    sobel_x[rows, columns],
    sobel_y[rows, columns],
    angles="xy",
    scale_units="xy",
    scale=8,
    color="orange",
)
right.set_title("Which way: towards the lighter side")
for ax in (left, right):
    ax.set_xlabel("column (pixels)")
plt.show()

# %%
# All of these kernels were thought up by somebody. The :doc:`next page <4_learning_a_kernel>` has one find itself.
