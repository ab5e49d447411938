"""The schedule after a charge was declined: when it is tried again, how long the member keeps access, and when to give
up.

Everything is counted from the moment when the charge was due, so it does not matter how late the decline was noticed.
"""

from datetime import datetime, timedelta

# The retries, counted from when the charge was due.
RETRIES = tuple(timedelta(days=days) for days in (1, 3, 5, 7))
# When the last retry has failed, or there is none, the subscription is ended or kept, as the store has chosen.
DEADLINE = RETRIES[-1]

# Declines of cards that will never work again. Card networks fine merchants who keep trying.
HARD_DECLINES = frozenset({"stolen_card", "lost_card", "pickup_card"})

# How long a payer has to act when asked to, or to pay a first charge that was declined.
PATIENCE = timedelta(hours=23)

# How often a payer may retry one bill themselves.
MANUAL_TRIES = 5


def next_retry(due: datetime, after: datetime, failure_code: str | None) -> datetime | None:
    """The first retry after the moment `after`; None if there is none left, or the card will never work again."""
    if failure_code in HARD_DECLINES:
        return None
    return next((due + offset for offset in RETRIES if due + offset > after), None)


def grace_end(due: datetime, grace_days: int) -> datetime:
    """When a member in arrears loses access."""
    return due + timedelta(days=grace_days)
