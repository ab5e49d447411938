"""When a delivery is tried again, and when an endpoint has failed for too long.

Ten attempts over three days. `WEBHOOK_RETRY_SCALE` divides all of these times, for tests.
"""

import random
from datetime import timedelta

from dues.settings import settings

_MINUTE, _HOUR = 60, 3600
# After the first attempt, the second, … ; after the last there is none.
WAITS_S = (
    5,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
_JITTER = 0.2
# The most that a receiver's Retry-After can ask for.
_LONGEST_RETRY_AFTER_S = 24 * _HOUR

_ALERT_AFTER = timedelta(days=1)
_GIVE_UP_AFTER = timedelta(days=5)
# How long a receiver that does not answer is left alone: at first, and at most.
_REST_S, _LONGEST_REST_S = 30.0, 30.0 * _MINUTE
# How soon to try again where other deliveries use all places of a host.
BUSY_S = 5.0


def wait_s(attempt: int, retry_after_s: float = 0.0) -> float | None:
    """How long to wait after `attempt` (from 1) has failed; None after the last. Later by up to a fifth, so that
    deliveries which failed together do not come back together."""
    if attempt > len(WAITS_S):
        return None
    planned = scaled(WAITS_S[attempt - 1]) * random.uniform(1, 1 + _JITTER)  # noqa: S311  (not a secret)
    return max(planned, min(retry_after_s, scaled(_LONGEST_RETRY_AFTER_S)))


def spread(seconds: float) -> float:
    """Somewhat later, by up to half."""
    return seconds * random.uniform(1, 1.5)  # noqa: S311  (not a secret)


def scaled(seconds: float) -> float:
    return seconds / settings().webhook_retry_scale


def rests_s() -> tuple[float, float]:
    return scaled(_REST_S), scaled(_LONGEST_REST_S)


def is_alarming(failing_for: timedelta) -> bool:
    """Whether an endpoint has failed for so long that the store's owner should know."""
    return failing_for >= _ALERT_AFTER / settings().webhook_retry_scale


def is_hopeless(failing_for: timedelta) -> bool:
    """Whether an endpoint has failed for so long that it is no longer told of anything."""
    return failing_for >= _GIVE_UP_AFTER / settings().webhook_retry_scale
