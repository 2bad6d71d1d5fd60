r"""
5. Channels and feature maps
============================

A photograph has three numbers to a pixel, and a layer finds more than one thing at a place. Both are channels, and they
complete the convolutional layer.
"""

# %%
# V[a, b, c, d]
# -------------
#
# Let c count the channels that come in (red, green, blue), and d those that go out. Every pair of them has a kernel of
# its own, and a result adds up over the channels that come in:
#
# .. math::
#    H_{ijd} = u_d + \sum_{a = -\Delta}^{\Delta} \sum_{b = -\Delta}^{\Delta} \sum_c V_{abcd} X_{i+a, j+b, c}.
#
# With ``channel_axis=-1`` arrays lie just as the indices do here: X has its channels last, V its four axes in this
# order.

import matplotlib.pyplot as plt
import numpy as np

import convengine as ce

rng = np.random.default_rng(0)
X, V, u = rng.integers(-9, 10, (6, 7, 3)), rng.integers(-9, 10, (3, 3, 3, 4)), np.array([1, 2, 3, 4])
H = ce.corr2d(X, V, bias=u, mode="same", channel_axis=-1)
print(f"X {X.shape}, V {V.shape}, u {u.shape} -> H {H.shape}")

for d in range(4):  # one channel at a time: a sum of filtered channels
    assert np.array_equal(H[..., d], u[d] + sum(ce.corr2d(X[..., c], V[..., c, d], mode="same") for c in range(3)))

# %%
# PyTorch, and ``ce`` unless told otherwise, put channels first: X[c, i, j] and V[d, c, a, b]. The numbers are the same.

first = ce.corr2d(np.moveaxis(X, -1, 0), V.transpose(3, 2, 0, 1), bias=u, mode="same")
assert np.array_equal(np.moveaxis(first, 0, -1), H)

# %%
# A layer for a colour photograph
# -------------------------------
#
# Eileen Collins, who commanded the space shuttle, comes with scikit-image: 512 by 512 pixels of three colours. Six
# kernels for her portrait, 5 by 5 pixels by 3 colours each. A colour weighting times a pattern makes one: such a kernel
# asks "how much of this pattern is there, in this mixture of colours?"

from skimage import data

astronaut = data.astronaut() / 255  # 0 .. 1
mixtures = {
    "light": [0.299, 0.587, 0.114],  # how bright red, green and blue look (ITU-R BT.601)
    "red against green": [1, -1, 0],
    "blue against yellow": [-0.5, -0.5, 1],
}
patterns = {
    "blurred": ce.filters.gaussian(0.8, truncate=2),
    "upright edges": ce.conv2d(ce.filters.sobel(axis=-1, normalize=True), ce.filters.binomial(2), mode="full"),
    "level edges": ce.conv2d(ce.filters.sobel(axis=-2, normalize=True), ce.filters.binomial(2), mode="full"),
    "spots": -ce.filters.log(0.8, truncate=2.5),
}
features = [
    ("light", "blurred"),
    ("red against green", "blurred"),
    ("blue against yellow", "blurred"),
    ("light", "upright edges"),
    ("light", "level edges"),
    ("light", "spots"),
]
V = np.stack([patterns[what][:, :, None] * np.array(mixtures[colours]) for colours, what in features], axis=-1)
maps = ce.corr2d(astronaut, V, mode="same", boundary="reflect", channel_axis=-1)
print(f"photograph {astronaut.shape}, V {V.shape} -> feature maps {maps.shape}")
assert V.shape == (5, 5, 3, 6) and maps.shape == (512, 512, 6)

# %%
# What comes out is six *feature maps*: pictures again, of where each thing was found, and how strongly.

ranges = [(0, 1), (-0.6, 0.6), (-0.6, 0.6), (-0.15, 0.15), (-0.15, 0.15), (-0.25, 0.25)]
figure, axes = plt.subplot_mosaic("p012;p345", figsize=(10, 5.4), layout="constrained", width_ratios=[1.7, 1, 1, 1])
axes["p"].imshow(astronaut)
axes["p"].set(title="photograph", xlabel="column (pixels)", ylabel="row (pixels)")
for d, (low, high) in enumerate(ranges):
    ax = axes[str(d)]
    image = ax.imshow(maps[..., d], cmap="gray" if low == 0 else "PuOr", vmin=low, vmax=high)
    ax.set_title(",\n".join(features[d]), fontsize=10)
    figure.colorbar(image, ax=ax, location="bottom", aspect=15, pad=0.02, ticks=[low, (low + high) / 2, high])
    ax.set(xticks=[], yticks=[])
figure.suptitle("One layer, six feature maps (in units of the photograph's 0 to 1)")
plt.show()

# %%
# The orange of her suit is far from green and from blue, and stands out in the two maps of colour; what is white, grey
# or black is missing there, however bright. A later layer reads these six maps as this one read three colours: to it
# they are the channels that come in.

suit, wall = maps[300, 150], maps[50, 330]  # orange cloth; the white wall behind her
print("red against green, blue against yellow: suit", suit[1:3].round(2), "wall", wall[1:3].round(2))
assert suit[1] > 0.4 and suit[2] < -0.3 and abs(wall[1:3]).max() < 0.1

# %%
# Fewer weights still
# -------------------
#
# Our kernels were made of a mixture and a pattern. So the mixing can go first, by a kernel of 1 by 1 pixel, which sees
# one pixel and all its channels; then each of the six mixtures meets its own pattern, and no other. ``groups`` says
# into how many parts the channels are divided that have nothing to do with each other: six here, which is called
# *depthwise*.

mix = np.array([mixtures[colours] for colours, _ in features]).T[None, None]  # (1, 1, 3, 6)
depthwise = np.stack([patterns[what] for _, what in features], axis=-1)[:, :, None]  # (5, 5, 1, 6)
mixed = ce.corr2d(astronaut, mix, channel_axis=-1)
again = ce.corr2d(mixed, depthwise, mode="same", boundary="reflect", channel_axis=-1, groups=6)
np.testing.assert_allclose(again, maps, atol=1e-14)
print(f"{V.size} weights at once, {mix.size} + {depthwise.size} one after the other")
assert (V.size, mix.size, depthwise.size) == (450, 18, 150)

# %%
# A filter on a colour photograph is the plainest depthwise layer: the same kernel for each colour, none mixed. A kernel
# with as few axes as pixels have is taken for that.

blurred = ce.corr2d(astronaut, ce.filters.gaussian(3), mode="same", boundary="reflect", channel_axis=-1)
assert blurred.shape == astronaut.shape

# %%
# Dense and convolutional, side by side
# -------------------------------------
#
# For pictures of n by n pixels with :math:`c_{in}` channels, to as many places with :math:`c_{out}`:
#
# .. list-table::
#    :header-rows: 1
#    :widths: 22 35 43
#
#    * -
#      - fully connected
#      - convolutional
#    * - weights
#      - :math:`n^4 c_{in} c_{out}`, so :math:`O(n^4)`
#      - :math:`(2\Delta + 1)^2 c_{in} c_{out}`, so :math:`O(\Delta^2 c_{in} c_{out})`: n is not in it
#    * - multiplications
#      - as many
#      - :math:`n^2` times as many as weights
#    * - translation invariance
#      - no: each place learns for itself
#      - yes: all places share their weights
#    * - locality
#      - no: every unit sees every pixel
#      - yes: a unit sees :math:`\Delta` far
#    * - pictures of another size
#      - need another layer
#      - same layer
#    * - inductive bias
#      - none
#      - what is near belongs together, and means the same everywhere: as in pictures
#
# The count for the layer of this page, for growing pictures:

sizes = np.array([8, 16, 32, 64, 128, 256, 512])
counts = [ce.analysis.parameter_count((6, 3, 5, 5), (3, n, n), bias=False, mode="same") for n in sizes]
dense, layer = [count.dense for count in counts], [count.layer for count in counts]
assert dense == [18 * int(n) ** 4 for n in sizes] and layer == [450] * len(sizes)

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
ax.loglog(sizes, dense, "o-", label=r"fully connected: $18\,n^4$")
ax.loglog(sizes, [count.shared_weights for count in counts], "s--", label=r"translation invariant: $18\,(2n - 1)^2$")
ax.loglog(sizes, layer, "^:", label="convolutional, 5 x 5: 450")
ax.set(xlabel="n (pixels)", ylabel="weights", title="Weights from 3 channels to 6, for pictures of n x n pixels")
ax.set_xticks(sizes, [str(n) for n in sizes])
ax.minorticks_off()
ax.legend()
plt.show()
