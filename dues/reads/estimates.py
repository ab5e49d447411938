"""The planner's estimates of large totals, each kept for some seconds.

To plan a query takes PostgreSQL longer than to answer a page of it where the table is partitioned: the planner looks at
each partition and all its indexes. Who leafs through a list asks for the same total again and again.
"""

import time
from collections.abc import Callable

_KEPT_S = 10.0
_MOST = 1000


class Estimates:
    """By the query whose rows were estimated. Of one process. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[int, float]] = {}

    def get(self, query: str) -> int | None:
        rows, until = self._kept.get(query, (0, float("-inf")))
        return rows if self._clock() < until else None

    def keep(self, query: str, rows: int) -> None:
        """Keep a new estimate, and one that is kept already no longer than before."""
        if self.get(query) is not None:
            return
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[query] = rows, self._clock() + _KEPT_S
