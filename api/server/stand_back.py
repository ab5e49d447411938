"""Requests that can wait while many others are to be told something: they begin after those, or seconds later."""

import asyncio
from collections import deque
from collections.abc import Callable

# The longest that any stands back. A client may wait for 25 s after it, and proxies give up after 30.
LONGEST_S = 3.0
# How many begin together: ten thousand at once would keep the loop from all else.
_SOME = 100


class StandBack:
    """For one event loop. While `is_busy` says so, requests are kept."""

    def __init__(self) -> None:
        self._is_busy = False
        # When each is to begin at the latest, by the loop's clock.
        self._kept: deque[tuple[float, Callable[[], None]]] = deque()
        self._next: asyncio.Handle | None = None

    def begin(self, begin: Callable[[], None]) -> None:
        """Call `begin`, which must not raise, now or later."""
        if not (self._is_busy or self._kept):
            begin()
            return
        self._kept.append((asyncio.get_running_loop().time() + LONGEST_S, begin))
        if self._next is None:
            self._plan()

    def busy(self, is_busy: bool) -> None:
        self._is_busy = is_busy
        if self._kept:
            self._plan()

    def _plan(self) -> None:
        """Have those begin that may, in the loop's next turn, or when the first has stood back for long enough."""
        if self._next:
            self._next.cancel()
        loop = asyncio.get_running_loop()
        if self._is_busy:
            self._next = loop.call_at(self._kept[0][0], self._begin_some)
        else:
            self._next = loop.call_soon(self._begin_some)

    def _begin_some(self) -> None:
        self._next = None
        now = asyncio.get_running_loop().time()
        for _ in range(_SOME):
            if not self._kept or (self._is_busy and self._kept[0][0] > now):
                break
            self._kept.popleft()[1]()
        if self._kept:
            self._plan()
