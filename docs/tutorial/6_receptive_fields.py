r"""
6. Receptive fields
===================

A unit of the first layer sees a few pixels. A unit of the second sees a few units of the first, and so more pixels; and
so on. How far a unit sees is its receptive field, and this page computes it, draws it, and then measures it.
"""

# sphinx_gallery_thumbnail_number = 2

# %%
# Cats, and a word
# ----------------
#
# The word is older than computers. Physiologists call that part of the skin or of the eye's field of view a *receptive
# field* from which a nerve cell can be stirred. From 1959 on David Hubel and Torsten Wiesel described those of single
# cells in the visual cortex of cats. Many answered to a bar or an edge, of one slant and at one place, and to nothing
# else. Others answered to that slant anywhere in a larger field, as if they collected from several of the first kind:
# the beginning of a hierarchy. For this work they were awarded the Nobel Prize in Physiology or Medicine in 1981, which
# they shared with Roger Sperry.
#
# A cell of the first kind is much like a kernel. A Gabor filter, a wave under a bell, is the usual model; here is what
# one answers to bars of all slants.

import matplotlib.pyplot as plt
import numpy as np

import convengine as ce

cell = ce.filters.gabor(8, angle=0, gamma=0.5)  # 8 pixels from stripe to stripe; its stripes are upright
slants = np.arange(0, 181, 5)
row, column = np.mgrid[: cell.shape[0], : cell.shape[1]] - np.array(cell.shape)[:, None, None] // 2


def bar(degrees):
    """Return a bar through the middle, 4 pixels wide, of this slant clockwise from upright."""
    slant = np.radians(degrees)
    return np.clip(2.5 - abs(column * np.cos(slant) + row * np.sin(slant)), 0, 1)


answers = np.array([ce.corr2d(bar(degrees), cell).item() for degrees in slants])  # the cell's one place
assert slants[answers.argmax()] in (0, 180) and answers[slants == 90] < 0.1 * answers.max()

figure, axes = plt.subplots(1, 4, figsize=(9.5, 2.7), layout="constrained", width_ratios=[1, 0.8, 0.8, 2])
image = axes[0].imshow(cell, cmap="PuOr", vmin=-abs(cell).max(), vmax=abs(cell).max())
axes[0].set_title("a cell's field")
for ax, degrees in zip(axes[1:3], (0, 45), strict=True):
    ax.imshow(bar(degrees), cmap="gray")
    ax.set_title(f"bar at {degrees}°")
for ax in axes[:3]:
    ax.set(xticks=[], yticks=[])
axes[3].plot(slants, np.maximum(answers, 0), "o-", markersize=3)
axes[3].set(
    xlabel="slant of the bar (degrees)", ylabel="answer", xticks=range(0, 181, 45), title="It answers to one slant"
)
plt.show()

# %%
# How fields grow
# ---------------
#
# One layer with kernels of k by k sees k by k pixels. A second sees k by k units of the first, which lie side by side:
# :math:`2k - 1` pixels each way. Every further layer adds k - 1.

for k in (3, 5, 7):
    sizes = [ce.analysis.receptive_field([((k, k),)] * layers).size[0] for layers in (1, 2, 3, 4)]
    print(f"k = {k}: {sizes}")
    assert sizes == [k, 2 * k - 1, 3 * k - 2, 4 * k - 3]

# %%
# Stride and dilation make fields grow faster. A stride of s leaves out units, so that neighbours in later layers stand
# s times as far apart: the table calls this distance the jump. A dilation of d spreads a kernel's weights, d pixels
# from one to the next, and leaves out pixels in between, which other layers fill in.

stacks = {
    "four layers of 3": [(3,)] * 4,
    "the second with stride 2": [(3,), (3, 2), (3,), (3,)],
    "dilations 1, 2, 4, 8": [(3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 1, 8)],
}
for name, stack in stacks.items():
    print(name, ce.analysis.receptive_field(stack), sep="\n", end="\n\n")
found = [ce.analysis.receptive_field(stack).size[0] for stack in stacks.values()]
assert found == [9, 13, 31]

# %%
# From the side, with one row of units for each layer: the dark ones are what one unit at the top sees.


def side_view(ax, stack, width):
    """Draw the units of each layer over the pixels, and those that the middle one of the last layer depends on."""
    levels = [ce.analysis.receptive_field(stack[:depth]) if depth else None for depth in range(len(stack) + 1)]
    places = [np.arange(width)]
    for field in levels[1:]:
        centres = field.offset[0] + field.jump[0] * np.arange(width)
        places.append(centres[centres <= width - 1 - field.offset[0]])
    seen = {len(places[-1]) // 2}
    for depth in range(len(stack), -1, -1):
        marked = np.isin(np.arange(len(places[depth])), list(seen))
        ax.plot(places[depth], np.full(len(places[depth]), depth), "o", color="0.85", markersize=4)
        ax.plot(places[depth][marked], np.full(marked.sum(), depth), "o", color="tab:blue", markersize=4)
        if depth == 0:
            break
        below = set()
        for unit in seen:
            (inputs,) = ce.analysis.receptive_field(stack[depth - 1 : depth]).samples(unit)
            below |= {int(one) for one in inputs}
            for one in inputs:
                line = (places[depth][unit], places[depth - 1][one]), (depth, depth - 1)
                ax.plot(*line, color="tab:blue", linewidth=0.6, alpha=0.6)
        seen = below
    ax.set_yticks(range(len(stack) + 1), ["pixels", *(f"layer {depth}" for depth in range(1, len(stack) + 1))])
    return sorted(seen)


figure, axes = plt.subplots(3, 1, figsize=(9, 8), layout="constrained", sharex=True)
for ax, (name, stack) in zip(axes, stacks.items(), strict=True):
    seen = side_view(ax, stack, width=41)
    size = ce.analysis.receptive_field(stack).size[0]
    assert seen[-1] - seen[0] + 1 == size
    ax.set_title(f"{name}: {size} pixels")
axes[-1].set_xlabel("place (pixels)")
plt.show()

# %%
# Measured
# --------
#
# A receptive field can be measured without any theory: it is those pixels by which the derivative of one result is not
# zero. ``backward`` gives this derivative for all pixels at once, if it is told that only that result matters. For the
# same three stacks in two dimensions, with random weights:


def measured(stack, shape, rng):
    """Return the derivative of the middle result of a random network by each pixel, its place, and the network."""
    channels = [1, *([8] * (len(stack) - 1)), 1]
    layers = []
    for (size, *more), c_in, c_out in zip(stack, channels[:-1], channels[1:], strict=True):
        how = dict(zip(("stride", "dilation"), more, strict=False))
        layers.append(ce.nn.Conv2D(c_out, size, in_channels=c_in, dtype=np.float64, rng=rng, **how))
    net = ce.nn.Sequential(*layers)
    y = net(rng.normal(size=(1, *shape)))
    middle = (y.shape[1] // 2, y.shape[2] // 2)
    dy = np.zeros_like(y)
    dy[0, *middle] = 1
    return net.backward(dy)[0], middle, net


rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.7), layout="constrained")
for ax, (name, stack) in zip(axes, stacks.items(), strict=True):
    derivative, unit, net = measured(stack, (41, 41), rng)
    rows, columns = ce.analysis.receptive_field(net).interval(unit)
    touched = np.argwhere(derivative)
    assert touched.min(axis=0).tolist() == [rows.start, columns.start]
    assert (touched.max(axis=0) + 1).tolist() == [rows.stop, columns.stop]
    strength = abs(derivative) / abs(derivative).max()
    image = ax.imshow(np.where(derivative == 0, np.nan, strength), cmap="cividis", vmin=0, vmax=1)
    ax.set_facecolor("0.9")
    corner = columns.start - 0.5, rows.start - 0.5
    ax.add_patch(plt.Rectangle(corner, len(columns), len(rows), fill=False, color="tab:orange", linewidth=2))
    ax.set(title=f"{name}:\n{len(rows)} x {len(columns)} pixels", xlabel="column (pixels)")
axes[0].set_ylabel("row (pixels)")
figure.colorbar(image, ax=axes, label="size of the derivative,\nof the largest", shrink=0.75)
figure.suptitle("Coloured: pixels that change one result. Frame: the field that was computed")
plt.show()

# %%
# The frames fit to the pixel.
#
# In the middle it sees best
# --------------------------
#
# A field has an edge, but not all of it counts alike. Pixels in the middle reach the result by many ways through the
# network, those in a corner by one only. If all weights are equal, the number of ways is that of a sum of dice: after
# many layers nearly a Gaussian, whose width grows as the square root of the number of layers, while the field grows as
# the number itself. (W. Luo, Y. Li, R. Urtasun and R. Zemel, *Understanding the effective receptive field in deep
# convolutional neural networks*, 2016.)

figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
for layers, style in ((1, ":"), (4, "--"), (16, "-")):
    ways = np.ones(1)
    for _ in range(layers):
        ways = ce.conv1d(ways, np.ones(3), mode="full")
    size = ce.analysis.receptive_field([(3,)] * layers).size[0]
    places = np.arange(size) - size // 2
    width = np.sqrt(np.sum(places**2 * ways) / ways.sum())
    print(f"{layers:2} layers: field {size} pixels, standard deviation {width:.2f}")
    assert len(ways) == size == 2 * layers + 1
    np.testing.assert_allclose(width, np.sqrt(2 * layers / 3))
    ax.plot(
        places,
        ways / ways.sum(),
        style,
        marker="o",
        markersize=3,
        label=f"{layers} layer{'s' * (layers > 1)}: {size} pixels",
    )
ax.set(xlabel="place in the field (pixels from its middle)", ylabel="share of all ways")
ax.set_title("Fields grow with the layers, what counts in them with the square root")
ax.legend()
plt.show()
