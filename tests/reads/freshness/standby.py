"""A stand-in for a standby: it replays what the other stand-in (postgres.py) commits, in order and late; it may be
paused, left behind by a failover that lost what it has, or promoted and written to; after a while it is copied anew."""

import random
from typing import Any

from dues.reads.freshness.marks import SHOW
from tests.reads.freshness.postgres import Event, Postgres

# How many steps of its actor one is paused for; the longest is longer than a mark is believed.
_PAUSES = (0, 30, 400)


class Standby:
    def __init__(self, primary: Postgres, choose: random.Random) -> None:
        self._primary, self._random = primary, choose
        self._copy()

    def _copy(self) -> None:
        self._replayed: list[Event] = []
        self.is_standby = True
        self._paused_for = 0
        self._values: dict[int, int] = {}
        self._shown: tuple[int | None, int | None] = (None, None)
        for event in self._primary.log:
            self._replay(event)

    def _replay(self, event: Event) -> None:
        self._replayed.append(event)
        self._values |= event.writes
        if event.mark is not None:
            self._shown = (event.mark, self._shown[0])

    def go_on(self) -> None:
        """One step: replay some of what has come, or stand still."""
        log, at = self._primary.log, len(self._replayed)
        has_diverged = at > len(log) or (at > 0 and log[at - 1] is not self._replayed[-1])
        if has_diverged or not self.is_standby:
            if self._random.random() < 0.01:
                self._copy()
            elif not self.is_standby:
                # Somebody writes there, what the primary never knows.
                self._values[self._random.randrange(3)] = -1
        elif self._paused_for:
            self._paused_for -= 1
        else:
            for event in log[at : at + self._random.choice((0, 0, 1, 5))]:
                self._replay(event)
            self._paused_for = self._random.choice(_PAUSES) if self._random.random() < 0.02 else 0

    def promote(self) -> None:
        self.is_standby = False

    def fetch_row(self, sql: str, rows: tuple[int, ...]) -> tuple[Any, ...]:
        shown = (*self._shown, self.is_standby)
        # Its own snapshot proves nothing, and is not looked at.
        return shown if sql == SHOW else ([self._values.get(row, 0) for row in rows], "", *shown)
