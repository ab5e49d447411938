"""How often something may be tried on one account, or on one e-mail whether it has an account or not.

Counted in PostgreSQL, in windows by its clock, each time in a commit of its own: a refusal that rolls back everything
else does not take back its count, and without PostgreSQL nothing can be tried anyway. What is counted lies under a
hash, so the table names no e-mail that somebody typed.
"""

import math
from dataclasses import dataclass
from hashlib import sha256

from dues.errors import TooManyRequests
from dues.postgres import fetch_row, fetch_row_alone, run_later, unit_of_work

_BATCH = 1000

_COUNT = """
    insert into account_attempts as a (key, used, ends_at)
    values (%(key)s, 1, now() + make_interval(secs => %(window_s)s))
    on conflict (key) do update set
        used = case when a.ends_at <= now() then 1 else least(a.used, %(most)s) + 1 end,
        ends_at = case when a.ends_at <= now() then excluded.ends_at else a.ends_at end
    returning used, extract(epoch from ends_at - now())::float8
"""
_TAKE_BACK = "update account_attempts set used = used - 1 where key = %(key)s and used > 0 returning used"
_FORGET = "delete from account_attempts where key = %(key)s"
_DELETE_EXPIRED = """
    with old as (
        select key from account_attempts where ends_at <= now() order by ends_at limit %(most)s for update skip locked),
    gone as (delete from account_attempts a using old where a.key = old.key returning 1)
    select count(*) from gone
"""


@dataclass(frozen=True)
class Quota:
    """So many tries in so many seconds; `what` completes "more than 10 … in 900 s"."""

    name: str
    most: int
    window_s: int
    what: str


def count(quota: Quota, subject: str) -> None:
    """One try more, whatever becomes of the caller's transaction().

    Raises: TooManyRequests, with Retry-After, for one that is more than the quota.
    """
    found = fetch_row_alone(_COUNT, _row(quota, subject))
    assert found
    used, seconds_left = found
    if used > quota.most:
        raise TooManyRequests(
            f"more than {quota.most} {quota.what} in {quota.window_s} s",
            code="too_many_attempts",
            headers={"Retry-After": str(max(1, math.ceil(seconds_left)))},
        )


def count_with(quota: Quota, subject: str) -> bool:
    """One try more, if the caller's transaction() is committed. Returns: whether it is within the quota."""
    unit_of_work()
    found = fetch_row(_COUNT, _row(quota, subject))
    assert found
    used: int = found[0]
    return used <= quota.most


def take_back(quota: Quota, subject: str) -> None:
    """A try that `count()` has counted does not count after all."""
    fetch_row_alone(_TAKE_BACK, {"key": _key(quota, subject)})


def forget(quota: Quota, subject: str) -> None:
    """Count from nothing again. Part of the caller's transaction()."""
    run_later(_FORGET, {"key": _key(quota, subject)})


def delete_expired_attempts() -> int:
    """Delete windows that are over. Part of the caller's transaction(). Returns: how many; 0 means that none are
    left."""
    unit_of_work()
    (deleted,) = fetch_row(_DELETE_EXPIRED, {"most": _BATCH}) or (0,)
    return int(deleted)


def _row(quota: Quota, subject: str) -> dict[str, object]:
    return {"key": _key(quota, subject), "most": quota.most, "window_s": quota.window_s}


def _key(quota: Quota, subject: str) -> bytes:
    return sha256(f"{quota.name}\0{subject}".encode()).digest()
