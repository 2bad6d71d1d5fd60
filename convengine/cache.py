"""A cache bounded by bytes, for threads."""

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

__all__ = ["ENTRY_BYTES", "Cache"]

ENTRY_BYTES = 4096  # charged to an entry beside its arrays: keys, dataclasses, dictionaries


class Cache:
    """A locked LRU bounded by bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Start empty with a lock of its own: a forked child may find both in the hands of a thread that it lacks."""
        self._lock = threading.Lock()
        self._entries = OrderedDict()
        self.used = 0

    def get(self, key: Hashable) -> Any:
        """Return the entry and mark it used; None if there is none."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Store an entry of `size` bytes and drop the least used ones over the limit."""
        with self._lock:
            before = self._entries.pop(key, None)
            if before is not None:
                self.used -= before[1]
            self._entries[key] = value, size
            self.used += size
            while self.used > self.limit and len(self._entries) > 1:
                self.used -= self._entries.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self.used = 0
