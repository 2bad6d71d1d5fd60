# What Python sees of the thread pool: its size, what a region costs, and two entry points for the tests.
def size() -> int: ...
def overhead(
    workers: int = 2, *, pause_seconds: float = 0.0, together: bool = False, regions: int = 200
) -> list[float]: ...
def _exercise(
    items: int,
    workers: int,
    milliseconds: float = 0.0,
    *,
    inner: int = 0,
    counts: bytearray | None = None,
    held: bytearray | None = None,
) -> tuple[bytearray, list[int], int, int]: ...
def _scratch(bytes: int) -> int: ...
