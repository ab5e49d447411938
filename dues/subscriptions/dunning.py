"""After a charge that was declined: when it is tried again, how long its member keeps access, and when that is over.

All is counted from the moment at which the charge was due, so that it does not matter how late anybody heard of it.
"""

from datetime import datetime, timedelta

# How long after the charge was due it is tried again.
RETRIES = tuple(timedelta(days=days) for days in (1, 3, 5, 7))
# When the last retry has failed, or there was none, the store's choice is made.
DEADLINE = RETRIES[-1]

# Declines of a card that will never be good again: card networks fine those who go on trying.
HARD_DECLINES = frozenset({"stolen_card", "lost_card", "pickup_card"})

# How long a payer has who is asked to act, or whose first charge was declined.
PATIENCE = timedelta(hours=23)

# How often a payer may have one bill tried again themselves.
MANUAL_TRIES = 5


def next_retry(due: datetime, after: datetime, failure_code: str | None) -> datetime | None:
    """The first retry after a moment; None where there is none left, or the card is dead."""
    if failure_code in HARD_DECLINES:
        return None
    return next((due + offset for offset in RETRIES if due + offset > after), None)


def grace_end(due: datetime, grace_days: int) -> datetime:
    """When a member in arrears loses access."""
    return due + timedelta(days=grace_days)
