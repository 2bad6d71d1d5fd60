# The calls that came before, each with the filter that serves it.
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

class Planned:
    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        *,
        variable: ContextVar[int | None],
        logs: Callable[[int], bool],
        filter: Callable[[Any, Any], Any],
        settle: Callable[[Any, Any], None],
        out_shape: tuple[int, ...],
        out_dtype: Any,
        axes: tuple[tuple[int, ...], tuple[int, ...]] | None,
        workers: int | None,
    ) -> None: ...
    def run(self, x: Any, out: Any) -> Any: ...

class Table:
    def __init__(
        self,
        *,
        context: ContextVar[Any],
        workers: ContextVar[int | None],
        settings: dict[str, Any],
        environment: Mapping[Any, Any],
        names: tuple[Any, ...],
        logs: Callable[[int], bool],
        defaults: tuple[Any, ...],
        limit: int,
    ) -> None: ...
    def renew(self) -> None: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...
    def run(self, x: Any, kernel: Any, out: Any, bias: Any, *said: Any) -> Any: ...
    def keep(
        self,
        x: Any,
        kernel: Any,
        out: Any,
        bias: Any,
        said: tuple[Any, ...],
        *,
        standing: tuple[Any, ...],
        filter: Callable[[Any, Any], Any],
        settle: Callable[[Any, Any], None],
        out_shape: tuple[int, ...],
        out_dtype: Any,
        axes: tuple[tuple[int, ...], tuple[int, ...]] | None,
        workers: int | None,
        nbytes: int,
    ) -> None: ...
