"""How wrong scores are, and the gradient that training starts from."""

from typing import Any

import numpy as np

from convengine.errors import InvalidProblem
from convengine.nn.layer import Array, read_samples

__all__ = ["softmax_cross_entropy"]


def softmax_cross_entropy(scores: Any, labels: Any) -> tuple[float, Array]:
    """Mean cross-entropy of softmax(scores) against labels, as torch.nn.CrossEntropyLoss, and its gradient.

    Parameters
    ----------
    scores : array (N, K)
        One row per example, one column per class; any scale, no softmax applied.
    labels : array (N,) of integers
        The true classes, 0 .. K - 1.

    Returns
    -------
    loss : float
        mean of -log(softmax(scores)[label]), in nats; log(K) where nothing is known.
    gradient : array (N, K)
        Of the loss by the scores, in their dtype: what a network's `backward` takes.

    Raises
    ------
    InvalidProblem
        If the shapes do not fit, there is no example, or a label names no column.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> loss, gradient = nn.softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4), gradient
    (1.3863, array([[ 0.25,  0.25, -0.75,  0.25]]))
    """
    scores, labels = read_samples(scores, "scores"), read_samples(labels, "labels")
    if scores.ndim != 2 or not scores.size or labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu":
        raise InvalidProblem(
            "scores must have shape (N, K) and labels be N integers; "
            f"got scores {scores.shape} and labels {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise InvalidProblem(
            f"labels must be 0 .. {scores.shape[1] - 1}, one per column; got {labels.min()} .. {labels.max()}"
        )
    floating = scores.dtype if scores.dtype.kind == "f" else np.dtype(np.float64)
    scores = scores.astype(np.result_type(floating, np.float32), copy=False)  # float16 holds no sum of many classes
    rows = np.arange(len(labels))
    with np.errstate(over="ignore"):  # scores that far apart: exp(-inf) is the share of the lower
        shifted = scores - scores.max(axis=1, keepdims=True)  # so that exp can't overflow
    gradient = np.exp(shifted)
    total = gradient.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - shifted[rows, labels], dtype=np.float64)
    gradient /= total
    gradient[rows, labels] -= 1
    gradient /= len(labels)
    return float(loss), gradient.astype(floating, copy=False)
