# What the modules tiles_LEVEL_ELEMENT hold, of tiles.pyx. Only type checkers know a module of this name.
from collections.abc import Callable
from typing import Any

import numpy as np

class TileFilter:
    def __init__(
        self,
        layout: Any,
        kernel: np.ndarray[Any, Any],
        out_shape: tuple[int, ...],
        out_dtype: np.dtype[Any],
        empty: Callable[[tuple[int, ...], np.dtype[Any]], Any],
        repair: Callable[..., None],
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def __call__(self, x: Any, out: Any = None) -> Any: ...
