"""A map in a process's own memory, bounded by bytes; the least recently used go first."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lru(Generic[T]):
    """A map of at most `max_bytes`, for one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable) -> T | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        """Keep `value`, which takes `size` bytes, in place of what `key` had; not at all if it alone is too large."""
        if replaced := self._kept.pop(key, None):
            self.bytes -= replaced[1]
        if size > self._max_bytes:
            return
        self._kept[key] = (value, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self.bytes -= self._kept.popitem(last=False)[1][1]

    def __len__(self) -> int:
        return len(self._kept)
