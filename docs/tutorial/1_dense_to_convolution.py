"""
1. From a dense layer to a convolution
======================================

A picture is a grid of numbers, and a *dense* layer treats it as a mere list of them: every hidden unit has a weight of
its own for every pixel. This page takes most of these weights away again, for two reasons that pictures give us, and
what is left is a convolution.
"""

# sphinx_gallery_thumbnail_number = 2

# %%
# Where is Waldo?
# ---------------
#
# In the picture books of that name one looks for a man in a striped jersey, somewhere in a crowd. Three things help,
# and they are what a network for pictures should be built on:
#
# 1. **Translation invariance.** Waldo looks the same wherever he stands. So one detector serves for all places.
# 2. **Locality.** Whether he is here can be told from the pixels here. A detector need not see those far away.
# 3. **Hierarchy.** Stripes make a jersey, a jersey and a hat make a man. Later layers put together, over longer
#    distances, what earlier ones found; the :doc:`sixth <6_receptive_fields>` and the :doc:`seventh page <7_digits>`
#    come to that.
#
# Here is a crowd in all kinds of jerseys. Only Waldo's has level stripes, and the detector is his jersey with its mean
# taken off, so that plain ones mean nothing to it.

import matplotlib.pyplot as plt
import numpy as np

import convengine as ce

jersey = np.zeros((6, 5), np.int64)
jersey[::2] = 1
row, column = np.indices(jersey.shape)
others = [np.ones_like(jersey), 1 - column % 2, (row + column) % 2]  # plain, upright stripes, checked


def crowd(waldo, seed=0):
    """Return a picture of people, one in each cell of 10 by 10 pixels, and where Waldo's jersey begins."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((50, 80), np.int64)
    for cell in np.ndindex(5, 8):
        row, column = 10 * np.array(cell) + rng.integers(0, 5, 2)
        wears = rng.integers(len(others))
        picture[row : row + 6, column : column + 5] = jersey if cell == waldo else others[wears]
        if cell == waldo:
            found = int(row), int(column)
    return picture, found


detector = 2 * jersey - 1
figure, axes = plt.subplots(2, 2, figsize=(9, 5.6), layout="constrained")
for (left, right), cell in zip(axes, [(1, 2), (3, 6)], strict=True):
    picture, waldo = crowd(cell)
    response = ce.corr2d(picture, detector)
    peak = np.unravel_index(response.argmax(), response.shape)
    assert peak == waldo and np.sum(response == response.max()) == 1
    left.imshow(picture, cmap="gray")
    left.set_title(f"Waldo's jersey begins at {waldo}")
    left.add_patch(plt.Rectangle((waldo[1] - 1.5, waldo[0] - 1.5), 7, 8, fill=False, color="tab:orange", linewidth=2))
    shown = right.imshow(response, cmap="PuOr", vmin=-15, vmax=15)
    right.plot(*peak[::-1], "o", markersize=16, markerfacecolor="none", markeredgecolor="k")
    right.set_title(f"the detector answers most at {waldo}")
    figure.colorbar(shown, ax=right, label="detector's sum")
for ax in axes.flat:
    ax.set(xlabel="column (pixels)", ylabel="row (pixels)")
plt.show()

# %%
# When he moves, so does the peak, by as much. That is the first principle as a formula: shifting the picture shifts the
# result too; equivariance is the exact word. It holds to the last digit, if what leaves the picture on one side comes
# in on the other.

around = {"mode": "same", "boundary": "wrap"}
moved = np.roll(picture, (7, -12), axis=(0, 1))
assert np.array_equal(
    ce.corr2d(moved, detector, **around), np.roll(ce.corr2d(picture, detector, **around), (7, -12), axis=(0, 1))
)

# %%
# A dense layer for pictures
# --------------------------
#
# Let the hidden units stand in a grid as well, and write :math:`X_{kl}` for the pixel in row k and column l, and
# :math:`H_{ij}` for the unit in row i and column j. A dense layer is
#
# .. math:: H_{ij} = U_{ij} + \sum_{k, l} W_{ijkl} X_{kl}:
#
# four indices for the weights, two for the biases U. For 8 by 8 pixels and as many units, W has :math:`8^4 = 4096`
# weights.

rng = np.random.default_rng(1)
n = 8
X = rng.normal(size=(n, n))
W = rng.normal(size=(n, n, n, n))
U = rng.normal(size=(n, n))
H = U + np.einsum("ijkl,kl->ij", W, X)
print(f"{W.size} weights and {U.size} biases for {X.size} pixels and {H.size} units")
assert (W.size, U.size) == (4096, 64)

# %%
# Counting from the unit: a = k - i, b = l - j
# --------------------------------------------
#
# Nothing changes if each unit counts pixels from its own place. Put :math:`a = k - i` and :math:`b = l - j`, and call
# the weights by offset V:
#
# .. math:: H_{ij} = U_{ij} + \sum_{a, b} V_{ijab} X_{i+a, j+b}, \qquad V_{ijab} = W_{i,\, j,\, i+a,\, j+b}.
#
# The sums run over all offsets, positive and negative, that stay inside the picture; between 8 places there are those
# from -7 to 7. This is the same layer with its weights in another order, which a program can check:


def by_offset(W, reach):
    """Return V[i, j, a + reach, b + reach] = W[i, j, i + a, j + b], and 0 where there is no such pixel."""
    V = np.zeros((*W.shape[:2], 2 * reach + 1, 2 * reach + 1))
    for i, j, k, l in np.ndindex(W.shape):
        a, b = k - i, l - j
        if max(abs(a), abs(b)) <= reach:
            V[i, j, a + reach, b + reach] = W[i, j, k, l]
    return V


V = by_offset(W, n - 1)
padded = np.pad(X, n - 1)  # so that every offset meets a number
again = [[U[i, j] + np.sum(V[i, j] * padded[i : i + 2 * n - 1, j : j + 2 * n - 1]) for j in range(n)] for i in range(n)]
np.testing.assert_allclose(again, H, rtol=1e-12)

# %%
# First principle: V is the same everywhere
# -----------------------------------------
#
# If a shift of X is to shift H and do nothing else, V must not depend on (i, j): all units share one table of weights
# by offset. Nor may the biases differ from place to place: the map U shrinks to a number u.
#
# .. math:: H_{ij} = u + \sum_{a, b} V_{ab} X_{i+a, j+b}.
#
# This is a convolution, or what deep learning calls one (the :doc:`next page <2_sums_and_integrals>` is particular
# about the name). ``ce.analysis.dense_layer`` goes from a kernel back to the dense layer that it stands for, so that W
# can be looked at. With a kernel that has all offsets, only the first principle holds:

shared = ce.analysis.dense_layer(rng.normal(size=(2 * n - 1, 2 * n - 1)), (n, n), mode="same", bias=0.5)

# %%
# Second principle: V is zero but for small offsets
# -------------------------------------------------
#
# If what is near tells enough, weights for offsets beyond some :math:`\Delta` can go:
#
# .. math:: H_{ij} = u + \sum_{a = -\Delta}^{\Delta} \sum_{b = -\Delta}^{\Delta} V_{ab} X_{i+a, j+b}.
#
# That is a convolutional layer, with :math:`(2\Delta + 1)^2` weights, whatever the size of the picture. For
# :math:`\Delta = 1` there are 9.

local = ce.analysis.dense_layer(rng.uniform(-2, 2, (3, 3)), (n, n), mode="same", bias=0.5)
layers = {"dense": W, "translation invariant": shared.W, "and local": local.W}

for name, weights in layers.items():
    invariant = np.array_equal(weights[1:, 1:, 1:, 1:], weights[:-1, :-1, :-1, :-1])
    different = len(np.unique(weights[weights != 0]))
    print(f"{name:21}  W[i+1, j+1, k+1, l+1] == W[i, j, k, l]: {invariant!s:5}  different weights: {different}")
    assert (invariant, different) == {"dense": (False, 4096), "translation invariant": (True, 225)}.get(name, (True, 9))
assert np.all(shared.U == 0.5)  # U has shrunk to u

# %%
# What does one unit look at? Each panel below is :math:`W_{ij}`, an 8 by 8 picture of the weights of one unit, and the
# square marks where the unit stands. In a dense layer, units have nothing to do with each other. With the first
# principle the same pattern moves along with the unit; with the second, a piece of 3 by 3 around it is all that is
# left.

units = [(2, 2), (2, 5), (4, 3), (5, 5)]
colours = {"cmap": "PuOr", "vmin": -2.5, "vmax": 2.5}


def panels(pictures, mark, title, label):
    """Draw a row of pictures for each layer, a column for each unit, and a square on each unit's place."""
    figure, axes = plt.subplots(3, 4, figsize=(8, 5.9), layout="constrained")
    for row, (name, of_units) in zip(axes, pictures.items(), strict=True):
        row[0].set_ylabel(name)
        for ax, unit in zip(row, units, strict=True):
            shown = ax.imshow(of_units[unit], **colours)
            ax.set(xticks=[], yticks=[])
            row_of, column_of = mark(unit)
            ax.add_patch(plt.Rectangle((column_of - 0.5, row_of - 0.5), 1, 1, fill=False, color="k", linewidth=2))
    for ax, unit in zip(axes[0], units, strict=True):
        ax.set_title(f"unit {unit}")
    figure.suptitle(title)
    figure.colorbar(shown, ax=axes, label=label, shrink=0.6, extend="both")
    plt.show()


panels(
    layers,
    lambda unit: unit,
    "W by place: in the lower rows, one pattern moves along with the unit",
    "weight W[i, j, k, l]",
)

# %%
# By offset instead of by place, that is plain to see: the columns of the two lower rows are all alike. (The five
# offsets in each direction are those from -2 to 2.)

offsets = {name: by_offset(weights, reach=2) for name, weights in layers.items()}
assert np.array_equal(offsets["and local"], local.reindexed(reach=2))  # ce.analysis has it too
panels(
    offsets,
    lambda unit: (2, 2),
    "V by offset: in the lower rows, it is the same for every unit",
    "weight V[i, j, a, b]",
)
for name in ("translation invariant", "and local"):
    assert all(np.array_equal(offsets[name][unit], offsets[name][units[0]]) for unit in units)

# %%
# All of W at once, as the matrix from 64 pixels to 64 units, has the order that the principles bring: constant along
# diagonals, and then nearly empty.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), layout="constrained")
for ax, (name, weights) in zip(axes, layers.items(), strict=True):
    shown = ax.imshow(weights.reshape(n * n, n * n), **colours)
    ax.set(title=f"{name}:\n{len(np.unique(weights[weights != 0]))} weights", xlabel="pixel, 8k + l")
axes[0].set_ylabel("unit, 8i + j")
figure.colorbar(shown, ax=axes, label="weight", shrink=0.7, extend="both")
plt.show()

# %%
# Near the border the picture ends before the offsets do. There, "the same weights everywhere" needs a rule for the
# missing pixels, such as zeros: :doc:`/guide/borders` has five.
#
# What it saves
# -------------
#
# A photograph of 1000 by 1000 pixels, and a hidden unit for each: a dense layer has :math:`(10^6)^2 = 10^{12}` weights,
# four terabytes of them in single precision. One table of offsets has :math:`1999^2`, close to :math:`4 \times 10^6`,
# as the offsets in each direction run from -999 to 999. With :math:`\Delta = 100`, which is generous, :math:`201^2` or
# some :math:`4 \times 10^4` are left; with :math:`\Delta = 5`, 121.

count = ce.analysis.parameter_count((11, 11), (1000, 1000), bias=False, mode="same")
print(count)
wide = ce.analysis.parameter_count((201, 201), (1000, 1000), bias=False, mode="same")
assert (count.dense, count.shared_weights, wide.layer, count.layer) == (10**12, 1999**2, 40_401, 121)

bars = {
    "dense": count.dense,
    "one V, all offsets": count.shared_weights,
    r"one V, $\Delta$ = 100": wide.layer,
    r"one V, $\Delta$ = 5": count.layer,
}
figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
drawn = ax.barh(list(bars), list(bars.values()), log=True)
ax.bar_label(drawn, [f"{number:,}" for number in bars.values()], padding=4)
ax.invert_yaxis()
ax.set(xlim=(1, 1e16), xlabel="weights (logarithmic)", title="Each principle saves a factor of thousands and more")
plt.show()

# %%
# The price is a bias of another kind: we have put in, before any learning, that pictures are alike everywhere and that
# what is near belongs together. Where that is true, there is less to learn, and fewer pictures teach it. Where it is
# not, no amount of data can teach such a layer otherwise; the :doc:`last page <7_digits>` tries that out.
