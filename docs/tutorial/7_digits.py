r"""
7. A network reads digits
=========================

All of it together: a small convolutional network learns to read handwritten digits, on a processor, in seconds, with
nothing but NumPy and this engine. Then we look inside.
"""

# sphinx_gallery_thumbnail_number = 6

# %%
# Pictures, network, training
# ---------------------------
#
# scikit-learn comes with 1797 digits of 8 by 8 pixels. They are split once, with a fixed seed and every digit in
# proportion: three quarters to learn from, and a quarter that is shown to the network only when it is tested. The
# program is ``digits.py`` of :doc:`/guide/layers`; here we use it as a module.

import sys

sys.path.append("../examples")  # where digits.py stands, seen from this program

import digits
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm

import convengine as ce
from convengine import nn

x, x_test, labels, labels_test = digits.pictures()
print(f"{len(x)} pictures to learn from, {len(x_test)} for the test, {x.shape[1:]} each")
assert (x.shape, x_test.shape) == ((1347, 1, 8, 8), (450, 1, 8, 8))

net = digits.network(np.random.default_rng(0))
for layer in net.layers:
    print(layer)
print(f"{sum(array.size for array in net.state_dict().values())} parameters")
assert sum(array.size for array in net.state_dict().values()) == 6090

# %%
# How good such a network gets depends on its first weights as well. So three are trained, from seeds 0, 1 and 2, and it
# is their mean that counts.

nets, accuracies = [], []
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for seed, style in enumerate(("o-", "s--", "^:")):
    rng = np.random.default_rng(seed)
    net = digits.network(rng)
    losses = list(digits.train(net, x, labels, epochs=20, rng=rng))
    nets.append(net)
    accuracies.append(digits.accuracy(net, x_test, labels_test))
    print(f"seed {seed}: loss {losses[-1]:.4f}, {accuracies[-1]:.2%} of the test pictures right")
    ax.semilogy(range(1, 21), losses, style, label=f"seed {seed}: {accuracies[-1]:.1%} right in the test")
ax.set(xlabel="epoch", ylabel="mean loss", title="Three networks learn to read digits", xticks=range(2, 21, 2))
ax.legend()
plt.show()

print(f"mean {np.mean(accuracies):.2%}")
assert np.mean(accuracies) >= 0.97

# %%
# What it gets wrong
# ------------------
#
# Take the network that does least well. On the diagonal of the left-hand picture is what it got
# right; to the right are the first of its mistakes, as it saw them.

net = nets[int(np.argmin(accuracies))]
scores = net(x_test)
read = scores.argmax(axis=1)
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (labels_test, read), 1)
wrong = np.flatnonzero(read != labels_test)
print(f"{len(wrong)} of {len(x_test)} wrong")
assert confusion.sum() == 450 and np.trace(confusion) == 450 - len(wrong)

figure = plt.figure(figsize=(9.5, 4.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
ax = left.subplots()
image = ax.imshow(np.log10(1 + confusion), cmap="cividis")
for (i, j), count in np.ndenumerate(confusion):
    if count:
        ax.text(j, i, count, ha="center", va="center", color="k" if count > 5 else "w")
ax.set(xticks=range(10), yticks=range(10), xlabel="read as", ylabel="is", title="Test pictures, by digit and reading")
for ax, number in zip(right.subplots(3, 4).flat, wrong[:12], strict=False):
    ax.imshow(x_test[number, 0], cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{labels_test[number]} read as {read[number]}", fontsize=9)
for ax in right.axes[len(wrong[:12]) :]:
    ax.axis("off")
right.suptitle("Mistakes")
plt.show()

# %%
# The first layer's kernels
# -------------------------
#
# Sixteen kernels of 3 by 3 pixels, which nobody has drawn. Some weigh one side against another, and find edges of one
# slant; some find a point or a line. The palest have hardly left the
# range within 1/3 of zero that chance drew them from.

kernels = net.layers[0].weight[:, 0]
most = abs(kernels).max()
figure, axes = plt.subplots(2, 8, figsize=(9, 2.7), layout="constrained")
for number, ax in enumerate(axes.flat):
    image = ax.imshow(kernels[number], cmap="PuOr", vmin=-most, vmax=most)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{number}", fontsize=9)
figure.colorbar(image, ax=axes, label="weight")
figure.suptitle("The sixteen kernels of the first layer, learned")
plt.show()

idle = np.flatnonzero(nn.Sequential(*net.layers[:2])(x).max(axis=(0, 2, 3)) == 0)
print(f"units that answer to no picture at all, after ReLU: {idle.tolist()}")

# %%
# Units that never answer cannot learn, as ReLU passes no gradient to them: training has lost them, and does without.
#
# One digit on its way through
# ----------------------------
#
# A picture becomes 16 feature maps of 8 by 8, and after pooling and the second layer 32 of 4 by 4. The first still show
# pieces of its outline; in the second there is little to recognise, but for the network.


def mosaic(maps, columns, zoom):
    """Return pictures (N, H, W) side by side, enlarged, with gaps that are not a number."""
    rows = len(maps) // columns
    framed = np.kron(maps, np.ones((1, zoom, zoom)))
    framed = np.pad(framed, ((0, 0), (0, 2), (0, 2)), constant_values=np.nan)
    height, width = framed.shape[1:]
    return framed.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)[:-2, :-2]


def through(net, pictures):
    """Return what each layer of a network makes of pictures, the pictures first."""
    found = [pictures]
    for layer in net.layers:
        found.append(layer(found[-1]))
    return found


chosen = int(np.flatnonzero((labels_test == 3) & (read == 3))[0])
stages = through(net, x_test[chosen : chosen + 1])
figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), layout="constrained", width_ratios=[0.7, 1.2, 2])
axes[0].imshow(stages[0][0, 0], cmap="gray_r")
axes[0].set_title(f"a {labels_test[chosen]}, 8 x 8")
for ax, stage, columns, zoom, title in (
    (axes[1], stages[2][0], 4, 2, "first layer and ReLU: 16 maps, 8 x 8"),
    (axes[2], stages[5][0], 8, 4, "second layer and ReLU: 32 maps, 4 x 4"),
):
    image = ax.imshow(mosaic(stage / stage.max(), columns, zoom), cmap="cividis", norm=PowerNorm(0.5, 0, 1))
    ax.set_title(title, fontsize=10)
    figure.colorbar(image, ax=ax, label="of the layer's highest answer", location="bottom", shrink=0.8)
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# A hierarchy, as far as eight pixels go
# --------------------------------------
#
# What does a unit look for? Ask the pictures: which of them excite it most, and where? The receptive field tells which
# pixels the unit saw there: 3 by 3 in the first layer, 8 by 8 in the second, which on pictures of 8 by 8 is nearly
# everything. Here are, for some units of either layer, the four pictures that excite them most, cut to what was seen;
# hatched is what lies outside of the picture.

for depth in (1, 4):
    print(ce.analysis.receptive_field(net.layers[:depth]), end="\n\n")
first, second = (ce.analysis.receptive_field(net.layers[:depth]) for depth in (1, 4))
assert (first.size, second.size) == ((3, 3), (8, 8))

stages = through(net, x)


def favourites(maps, field, unit, count=4):
    """Return the patches that excite a unit most, each of another picture, and the digits that they are from."""
    best = maps[:, unit].reshape(len(maps), -1)
    patches, of_digits = [], []
    for number in np.argsort(-best.max(axis=1), kind="stable")[:count]:
        place = np.unravel_index(best[number].argmax(), maps.shape[2:])
        rows, columns = field.interval(place)
        patch = np.full((len(rows), len(columns)), np.nan, np.float32)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                if 0 <= row < 8 and 0 <= column < 8:
                    patch[i, j] = x[number, 0, row, column]
        patches.append(patch)
        of_digits.append(int(labels[number]))
    return patches, of_digits


def show_favourites(maps, field, title):
    """Draw the favourites of the eight units that are most active."""
    units = np.sort(np.argsort(-maps.max(axis=(0, 2, 3)), kind="stable")[:8])
    figure, axes = plt.subplots(4, 8, figsize=(9.5, 5.1), layout="constrained")
    for column, unit in zip(axes.T, units, strict=True):
        for ax, patch, digit in zip(column, *favourites(maps, field, unit), strict=True):
            ax.patch.set(hatch="////", facecolor="w", edgecolor="0.7")
            ax.imshow(patch, cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(f"from a {digit}", fontsize=8)
        column[0].set_title(f"unit {unit}", fontsize=9)
    figure.suptitle(title)
    plt.show()


show_favourites(stages[2], first, "First layer: each unit has its corner or stroke, found in many digits")
show_favourites(stages[5], second, "Second layer: larger parts, found in fewer digits")

# %%
# How particular are they? Of the twenty pictures that excite a unit most, so many are of the same digit, on average
# over the units that answer at all, and over the three networks:


def agreement(maps, count=20):
    """Return the share of the commonest digit among the pictures that excite a unit most, mean over units."""
    best = maps.max(axis=(2, 3))
    favoured = [labels[np.argsort(-unit, kind="stable")[:count]] for unit in best.T if unit.any()]
    return np.mean([np.bincount(of).max() / count for of in favoured])


passes = [through(net, x) for net in nets]
agreements = [np.mean([agreement(found[at]) for found in passes]) for at in (2, 5)]
print("of the same digit: first layer {:.0%}, second layer {:.0%}".format(*agreements))
assert agreements[0] < 0.5 < agreements[1]

# %%
# So there is a hierarchy, if a short one. With pictures of this size, two layers and ten classes, nothing stands
# between a bend and a digit; the parts, objects and scenes that are told of deep networks need larger pictures and more
# layers.
#
# A number for it: of how the units of a layer vary from picture to picture, what share is due to which digit it is?
# (The variance between the means of the ten digits, by all of the variance, both summed over units; on the test
# pictures, mean of the three networks.)


def share_of_classes(values, classes):
    """Return the share of the variance that lies between classes."""
    values = values.reshape(len(values), -1).astype(float)
    between = sum(
        np.sum(classes == c) * (values[classes == c].mean(axis=0) - values.mean(axis=0)) ** 2 for c in range(10)
    )
    return between.sum() / len(values) / values.var(axis=0).sum()


names = {0: "pixels", 2: "first layer, ReLU", 3: "pooled", 5: "second layer, ReLU", 6: "pooled again", 8: "scores"}
passes = [through(net, x_test) for net in nets]
shares = {name: np.mean([share_of_classes(found[at], labels_test) for found in passes]) for at, name in names.items()}
for name, share in shares.items():
    print(f"{name:18} {share:.0%}")
assert shares["second layer, ReLU"] > shares["pixels"] + 0.1 and shares["scores"] > shares["pooled again"] + 0.1

figure, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
drawn = ax.barh(list(shares), list(shares.values()))
ax.bar_label(drawn, [f"{share:.0%}" for share in shares.values()], padding=4)
ax.invert_yaxis()
ax.set(xlim=(0, 1), xlabel="share of the variance that is due to the digit")
ax.set_title("The second layer and the scores tell more of the digit, and less of the hand")
plt.show()

# %%
# The first layer tells no more than the pixels do: an edge may belong to any digit. The second does, and the scores
# most.
#
# What if the principles were wrong?
# ----------------------------------
#
# Put the 64 pixels of all pictures in another order, always the same one. A dense network should not mind: to it, order
# never meant anything. For a convolutional one, neighbours are then no longer near each other, and both principles
# fail. With only 200 pictures to learn from, for experience makes up for much, and a dense network of about as many
# parameters:

order = np.random.default_rng(0).permutation(64)


def shuffled(pictures):
    """Return pictures with their pixels in the new order."""
    return pictures.reshape(len(pictures), 64)[:, order].reshape(pictures.shape)


def dense(rng):
    """Return a network of two dense layers."""
    layers = nn.Flatten(), nn.Linear(80, in_features=64, rng=rng), nn.ReLU(), nn.Linear(10, in_features=80, rng=rng)
    return nn.Sequential(*layers)


def learned(make, seed, change):
    """Return the accuracy that a network reaches with 200 pictures, changed as said."""
    rng = np.random.default_rng(seed)
    net = make(rng)
    for _ in digits.train(net, change(x[:200]), labels[:200], epochs=60, rng=rng):
        pass
    return digits.accuracy(net, change(x_test), labels_test)


results = {}
for name, make in {"convolutional": digits.network, "dense": dense}.items():
    for pixels, change in {"in place": lambda pictures: pictures, "shuffled": shuffled}.items():
        results[name, pixels] = np.mean([learned(make, seed, change) for seed in range(5)])
        print(f"{name:13}  pixels {pixels:8}  {results[name, pixels]:.1%} right")
lost = {name: results[name, "in place"] - results[name, "shuffled"] for name in ("convolutional", "dense")}
assert lost["convolutional"] > 0.02 and abs(lost["dense"]) < 0.015

# %%
# The shuffling costs the convolutional network several pictures in a hundred and the dense one next to nothing: that is
# the inductive bias, which helps where it is true and hurts where it is not. The two differ little while pixels are in
# place, for these digits are small and stand in the middle of their pictures, so that invariance has not much to do.
