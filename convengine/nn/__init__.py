"""Small convolutional networks in NumPy alone: layers with their gradients, a loss, an optimizer, and kernels learned.

Every convolution is a call of the engine, forward and backward; names, shapes and numbers are PyTorch's, so that
weights go from one to the other and back.
"""

from convengine.nn.convolution import Conv1D, Conv2D, Conv3D
from convengine.nn.dense import Flatten, Linear, ReLU
from convengine.nn.fit import Fit, fit_kernel
from convengine.nn.layer import Layer, Parameter
from convengine.nn.loss import softmax_cross_entropy
from convengine.nn.optimizer import SGD
from convengine.nn.pooling import AvgPool2D, MaxPool2D
from convengine.nn.sequential import Sequential
from convengine.nn.transposed import ConvTranspose1D, ConvTranspose2D, ConvTranspose3D

__all__ = [
    "SGD",
    "AvgPool2D",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "ConvTranspose3D",
    "Fit",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2D",
    "Parameter",
    "ReLU",
    "Sequential",
    "fit_kernel",
    "softmax_cross_entropy",
]
