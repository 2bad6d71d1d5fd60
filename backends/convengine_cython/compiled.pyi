# What the compiled modules hold: kernels_LEVEL_ELEMENT, of kernels.pyx, and dots_LEVEL_ELEMENT, of dots.pyx, which has
# DotFilter alone. Only type checkers know a module of this name.
from collections.abc import Callable
from typing import Any

import numpy as np

class DirectFilter:
    def __init__(
        self,
        layout: Any,
        out_shape: tuple[int, ...],
        out_dtype: np.dtype[Any],
        x_item_size: int,
        empty: Callable[[tuple[int, ...], np.dtype[Any]], Any],
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def __call__(self, x: Any, out: Any = None) -> Any: ...

class SeparableFilter(DirectFilter):
    def __init__(
        self,
        layout: Any,
        out_shape: tuple[int, ...],
        out_dtype: np.dtype[Any],
        x_item_size: int,
        empty: Callable[[tuple[int, ...], np.dtype[Any]], Any],
        columns: np.ndarray[Any, Any],
        rows: np.ndarray[Any, Any],
    ) -> None: ...

class BoxFilter(DirectFilter): ...

class KernelGradient:
    def __init__(self, layout: Any) -> None: ...
    def __call__(self, x: Any, dy: Any) -> np.ndarray[Any, Any]: ...

class DotFilter:
    def __init__(
        self,
        layout: Any,
        pack: Callable[[int], Any],
        out_shape: tuple[int, ...],
        out_dtype: np.dtype[Any],
        x_item_size: int,
        empty: Callable[[tuple[int, ...], np.dtype[Any]], Any],
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def __call__(self, x: Any, out: Any = None) -> Any: ...

def pack(taps: np.ndarray[Any, Any], bias: np.ndarray[Any, Any], tall: int) -> tuple[Any, Any]: ...
def summation_order(width: int) -> np.ndarray[Any, Any]: ...
