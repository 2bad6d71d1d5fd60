"""The CUDA sources as one text for each variant: the types, the numbers that loops unroll by, and a kernel's file."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from convengine.roots import RADICES

__all__ = ["COLUMNS", "NAME", "OPTIONS", "THREADS", "Tile", "Variant"]

NAME = "correlate"  # of the kernel in every variant
OPTIONS = ("-std=c++17",)  # for NVRTC
THREADS = 128  # of a block that transforms nothing
COLUMNS = {4: 128, 8: 64}  # outputs across a strip of the rolling kernel, by the bytes of a sum

TYPES = {
    "bool": "unsigned char",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned",
    "uint64": "unsigned long long",
    "float16": "Half",
    "float32": "float",
    "float64": "double",
}


class Tile(NamedTuple):
    """What a block of the kernel for layers computes: output channels by places, shared out among its threads."""

    each_channel: int  # of one thread
    each_position: int
    channel_threads: int
    position_threads: int

    @property
    def channels(self) -> int:
        """Output channels of a block."""
        return self.each_channel * self.channel_threads

    @property
    def positions(self) -> int:
        """Places of a block."""
        return self.each_position * self.position_threads

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.channel_threads * self.position_threads


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compiled by itself.

    Attributes
    ----------
    kernel : {"rolling", "general", "fft", "layer"}
        The file in the folder kernels.
    x, total, out : numpy.dtype
        Of samples, sums and results.
    saturate : bool
        Whether integers that do not fit take the nearest value; else they wrap.
    height, width : int
        The taps of a rolling kernel; rows and columns of a transform.
    step : int
        The distance of its taps along a row, in samples.
    adjacent : bool
        Whether a lane's outputs are neighbours.
    separable : bool
        Whether a rolling kernel's taps are a column times a row.
    wide : bool
        Whether a general kernel counts its outputs in 64 bits; and a kernel for layers its places along an axis, too.
    signal : bool
        Whether a transform is that of one line, cut into rows.
    tile : Tile or None
        Of a kernel for layers.
    """

    kernel: str
    x: np.dtype[Any]
    total: np.dtype[Any]
    out: np.dtype[Any]
    saturate: bool
    height: int = 1
    width: int = 1
    step: int = 1
    adjacent: bool = False
    separable: bool = False
    wide: bool = False
    signal: bool = False
    tile: Tile | None = None

    @property
    def types(self) -> str:
        """The lines between the common file and the kernel's."""
        lines = [f"typedef {TYPES[dtype.name]} {letter};" for letter, dtype in zip("XSO", self.dtypes, strict=True)]
        lines.append(f"constexpr bool SATURATE = {int(self.saturate)};")
        if self.kernel == "rolling":
            lines.append(f"constexpr int HEIGHT = {self.height}, WIDTH = {self.width}, STEP = {self.step};")
            lines.append(f"constexpr bool ADJACENT = {int(self.adjacent)}, SEPARABLE = {int(self.separable)};")
        elif self.kernel == "fft":
            lines.append(f"constexpr int DOWN = {self.height}, ALONG = {self.width}, THREADS = {self.threads};")
            lines.append(f"constexpr bool SIGNAL = {int(self.signal)};")
            radices = [RADICES[self.height], RADICES[self.width]]
            rows = ", ".join("{" + ", ".join(map(str, row)) + "}" for row in radices)
            lines.append(
                f"constexpr int RADICES[2][3] = {{{rows}}}, STAGES[2] = {{{', '.join(map(str, map(len, radices)))}}};"
            )
        else:
            lines.append(f"typedef {'unsigned long long' if self.wide else 'unsigned'} Index;")
        if self.tile:
            lines.append(f"typedef {'long long' if self.wide else 'int'} Place;")
            lines += [f"constexpr int {name.upper()} = {size};" for name, size in self.tile._asdict().items()]
        return "\n".join(lines) + "\n"

    @property
    def dtypes(self) -> tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]:
        """Of samples, sums and results."""
        return self.x, self.total, self.out

    @property
    def threads(self) -> int:
        """Of a block; a rolling kernel has a warp for each strip."""
        if self.kernel != "fft":
            return THREADS
        size = self.height * self.width
        return 128 if size <= 1024 else 256 if size <= 4096 else 512

    @property
    def shared(self) -> int:
        """Bytes of shared memory that a launch asks for: the plane of a transform, partial sums, flags."""
        if self.kernel != "fft":
            return 0
        return (self.height * (self.width + 1) + self.threads) * 2 * self.total.itemsize + 16

    @property
    def source(self) -> str:
        """The whole text."""
        return f"{text('samples.cuh')}#define KERNEL {NAME}\n{self.types}{text(self.kernel + '.cu')}"


@lru_cache(maxsize=8)
def text(name: str) -> str:
    """Read one of the files."""
    return (files("convengine_cupy") / "kernels" / name).read_text(encoding="utf-8")
