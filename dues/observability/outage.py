"""When the log says that something which others provide has failed, and that it works again."""

import time
from collections.abc import Callable

# What has not failed for so long works again. Shorter, and a server that takes reads and refuses writes would be two
# lines with each attempt.
CALM_S = 10.0


class Outage:
    """Of one thing: tell its beginning and its end once each, however often it fails and succeeds in between.

    From any number of threads, of which two at the same moment may both be told to say so.
    """

    __slots__ = ("_clock", "_failed_at")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed_at: float | None = None

    def failed(self) -> bool:
        """It has failed. Returns: whether this begins an outage."""
        begins = self._failed_at is None
        self._failed_at = self._clock()
        return begins

    def worked(self) -> bool:
        """It has worked. Returns: whether an outage is over, since it has not failed for `CALM_S`."""
        failed_at = self._failed_at
        if failed_at is None or self._clock() - failed_at < CALM_S:
            return False
        self._failed_at = None
        return True
