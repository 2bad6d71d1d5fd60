"""A small convolutional network learns handwritten digits, in NumPy and convengine alone.

scikit-learn gives the 1797 pictures of 8 by 8 pixels (the test set of E. Alpaydin and C. Kaynak, Optical Recognition of
Handwritten Digits, UCI 1998) and the stratified split; it computes nothing here. Run `python digits.py`.
"""

import numpy as np

from convengine import nn

__all__ = ["accuracy", "network", "pictures", "train"]


def pictures():
    """Return training and test pictures (N, 1, 8, 8) in 0 .. 1, and their labels: a quarter is for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    return train_test_split(x, digits.target, test_size=0.25, stratify=digits.target, random_state=0)


def network(rng):
    """Two convolutions with pooling, and a dense layer on the 32 feature maps of 2 by 2 that are left."""
    return nn.Sequential(
        nn.Conv2D(16, 3, padding=1, in_channels=1, rng=rng),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Conv2D(32, 3, padding=1, in_channels=16, rng=rng),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Linear(10, in_features=128, rng=rng),
    )


def train(net, x, labels, *, epochs, rng, lr=0.1, momentum=0.9, batch=64):
    """Train by stochastic gradient descent; yield the mean loss of each epoch. The last half steps ever more softly."""
    descent = nn.SGD(net.parameters(), lr=lr, momentum=momentum)
    for epoch in range(epochs):
        descent.lr = lr * min(1, 2 * (1 - epoch / epochs))
        losses = []
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            chosen = order[start : start + batch]
            loss, gradient = nn.softmax_cross_entropy(net(x[chosen]), labels[chosen])
            net.zero_grad()
            net.backward(gradient)
            descent.step()
            losses.append(loss)
        yield float(np.mean(losses))


def accuracy(net, x, labels):
    """Return the share of pictures whose highest score is that of their label."""
    return float(np.mean(net(x).argmax(axis=1) == labels))


def main():
    """Train three networks, and tell what they get right."""
    x, x_test, labels, labels_test = pictures()
    results = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        net = network(rng)
        *_, loss = train(net, x, labels, epochs=20, rng=rng)
        results.append(accuracy(net, x_test, labels_test))
        print(f"seed {seed}: loss {loss:.4f}, test accuracy {results[-1]:.4f}")
    print(f"mean test accuracy {np.mean(results):.4f}")


if __name__ == "__main__":
    main()
