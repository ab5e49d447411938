"""The ledger of mails: the only writer of a mail's state.

    pending -> sending -> committing -> sent | rejected | unknown

`sending` is committed before the mail server hears of the mail, `committing` before it is sent the final dot. So a
mail whose worker died in `sending` was certainly not accepted, and one whose worker died in `committing` may have
been. A temporary failure leads back to `pending`; a mail in doubt that turns out not to have been accepted, back to
`sending`. An `unknown` one is held until an operator says what it was (`flask mail`).

Every move is one statement, guarded by the state it leaves and by the fence: the lease of the job that holds the mail.
A worker that claims the mail sets a new fence; from then on its former holder cannot move it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal
from uuid import UUID

import ujson

from dues.errors import NotFound
from dues.jobs.exceptions import PermanentFailure
from dues.jobs.lease import LeaseLost
from dues.mail.models import State
from dues.postgres import after_commit, fetch_row, run_later, unit_of_work

Decision = Literal["sent", "pending"]

log = logging.getLogger(__name__)


class Fenced(LeaseLost):
    """Another worker has taken this mail over: leave it alone."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as its holder sees it; `raw` is what goes over the wire, `reply` the server's last word on it."""

    id: UUID
    state: State
    fence: UUID | None
    recipient: str
    raw: bytes
    reply: str | None


_MINE = "id = %(id)s and fence = %(fence)s"

# No index is named for a conflict: of a partitioned table it is a trigger's (dues/partitions/tables.py).
_ADD = """
    insert into email_sends(id, dedupe_key, recipient, raw)
    values (%(id)s, %(dedupe_key)s, %(recipient)s, %(raw)s) on conflict do nothing returning id
"""
_KNOWN = "select id from email_sends where dedupe_key = %(dedupe_key)s"
_READ = "select state, fence, recipient, raw, reply from email_sends where id = %(id)s"
# Need not survive a crash of PostgreSQL: the mail is then `pending` again, and was certainly not accepted, because
# `committing` waits for the disk and carries along all that was committed before.
_CLAIM = """
    update email_sends set state = 'sending', fence = %(fence)s
    from (select set_config('synchronous_commit', 'off', true)) unhurried
    where id = %(id)s and state in ('pending', 'sending')
    returning state, fence, recipient, raw, reply
"""
# Both of the above in one statement. A crash of PostgreSQL may lose it for the same reason: the job would run it again.
_ADD_CLAIMED = """
    insert into email_sends(id, dedupe_key, recipient, raw, state, fence)
    select %(id)s, %(dedupe_key)s, %(recipient)s, %(raw)s, 'sending', %(fence)s
    from (select set_config('synchronous_commit', 'off', true)) unhurried
    on conflict do nothing returning id
"""
_TAKE_OVER = """
    update email_sends set fence = %(fence)s
    where id = %(id)s and fence = %(former)s and state = 'committing' returning id
"""
# May be repeated: its first answer may have been lost with the connection to PostgreSQL.
_COMMIT = f"""
    update email_sends set state = 'committing', dot_at = clock_timestamp()
    where {_MINE} and state in ('sending', 'committing') returning id
"""
_REOPEN = f"update email_sends set state = 'sending' where {_MINE} and state = 'committing' returning id"
_RELEASE = f"""
    update email_sends set state = 'pending', fence = null, dot_at = null, reply = %(reply)s
    where {_MINE} and state in ('sending', 'committing') returning id
"""
_FINISH = f"""
    update email_sends set state = %(state)s, reply = %(reply)s,
        sent_at = case when %(state)s = 'sent' then clock_timestamp() end
    where {_MINE} and state = any(%(sources)s) returning id
"""
_SOURCES: dict[State, list[State]] = {
    "sent": ["committing"],
    "unknown": ["committing"],
    "rejected": ["sending", "committing"],
}
_FORGET = "update email_sends set raw = '' where id = %(id)s"
# A mail that has once been in doubt has a `dot_at`: it keeps its Message-ID until its fate is known.
_WITHDRAW = """
    delete from email_sends
    where dedupe_key = any(%(dedupe_keys)s::text[])
        and (state = 'rejected' or state in ('pending', 'sending') and dot_at is null)
"""
_DOUBT_AGE = "select clock_timestamp() - dot_at from email_sends where id = %(id)s"
_HELD = """
    select coalesce(json_agg(json_build_object('id', id, 'recipient', recipient, 'dot_at', dot_at) order by created_at),
        '[]')::text
    from email_sends where state = 'unknown'
"""
_DECIDE = """
    update email_sends set state = %(state)s, fence = null,
        sent_at = case when %(state)s = 'sent' then clock_timestamp() end
    where id = %(id)s and state = 'unknown' returning id
"""
_COUNT_UNKNOWN = "select count(*) from email_sends where state = 'unknown'"


def add(email_id: UUID, *, dedupe_key: str, recipient: str, raw: bytes) -> UUID:
    """Write a mail down as `pending`, in the caller's transaction(). Returns: the id of the mail with this key."""
    unit_of_work()
    row = {"id": email_id, "dedupe_key": dedupe_key, "recipient": recipient, "raw": raw}
    # Two statements, so that the second sees the row that another transaction committed while the first waited for it.
    found = fetch_row(_ADD, row) or fetch_row(_KNOWN, row)
    if found is None:
        raise RuntimeError("a mail vanished while it was being queued again")
    known: UUID = found[0]
    return known


def is_written_down(dedupe_key: str) -> bool:
    """Whether there is a mail with this key, however far it has come."""
    return fetch_row(_KNOWN, {"dedupe_key": dedupe_key}) is not None


def claim(email_id: UUID, fence: UUID) -> Mail:
    """Take a mail that was certainly not accepted for `sending`. One in any other state is returned as it stands.

    Raises: PermanentFailure when there is no such mail.
    """
    values = {"id": email_id, "fence": fence}
    row = fetch_row(_CLAIM, values)
    if row:
        _log(email_id, "sending")
    else:
        row = fetch_row(_READ, values)
    if row is None:
        raise PermanentFailure("no such mail")
    state, holder, recipient, raw, reply = row
    if holder != fence and state in ("pending", "sending"):
        # The worker that held it gave it back between the two statements.
        return claim(email_id, fence)
    return Mail(email_id, state, holder, recipient, bytes(raw), reply)


def add_claimed(email_id: UUID, *, dedupe_key: str, recipient: str, raw: bytes, fence: UUID) -> Mail:
    """`add` and `claim` in one statement of its own, for a mail whose job sends it at once. A mail with the same key
    is claimed as it was first written down."""
    values = {"id": email_id, "dedupe_key": dedupe_key, "recipient": recipient, "raw": raw, "fence": fence}
    if fetch_row(_ADD_CLAIMED, values):
        _log(email_id, "sending")
        return Mail(email_id, "sending", fence, recipient, raw, None)
    (known,) = fetch_row(_KNOWN, values) or (email_id,)
    return claim(known, fence)


def take_over(mail: Mail, fence: UUID) -> Mail:
    """Take over the decision about a mail in doubt. Raises: Fenced where another has decided meanwhile."""
    _held(fetch_row(_TAKE_OVER, {"id": mail.id, "former": mail.fence, "fence": fence}))
    return replace(mail, fence=fence)


def commit(mail: Mail) -> Mail:
    """`sending -> committing`: once this has returned, the dot may go out. Raises: Fenced."""
    _held(fetch_row(_COMMIT, {"id": mail.id, "fence": mail.fence}))
    _log(mail.id, "committing")
    return replace(mail, state="committing")


def reopen(mail: Mail) -> Mail:
    """`committing -> sending`, for a mail that is to be sent again. Raises: Fenced."""
    _held(fetch_row(_REOPEN, {"id": mail.id, "fence": mail.fence}))
    _log(mail.id, "sending", "again")
    return replace(mail, state="sending")


def release(mail: Mail, reply: str) -> None:
    """Back to `pending`, because it was certainly not accepted, with the server's `reply`. Raises: Fenced."""
    _held(fetch_row(_RELEASE, {"id": mail.id, "fence": mail.fence, "reply": reply}))
    _log(mail.id, "pending", reply)


def forget(email_id: UUID) -> None:
    """Delete the content of a mail, whose row stays, in the caller's transaction()."""
    run_later(_FORGET, {"id": email_id})


def withdraw(dedupe_keys: Sequence[str]) -> None:
    """Delete those of the mails with these keys that were certainly not accepted, in the caller's transaction(). The
    next mail with such a key is composed anew; a worker that still holds the deleted one is fenced."""
    run_later(_WITHDRAW, {"dedupe_keys": list(dedupe_keys)})


def finish(mail: Mail, state: State, reply: str | None) -> None:
    """Write down what became of a mail (`sent`, `rejected` or `unknown`), in the caller's transaction().

    Raises: Fenced.
    """
    unit_of_work()
    row = {"id": mail.id, "fence": mail.fence, "state": state, "reply": reply, "sources": _SOURCES[state]}
    _held(fetch_row(_FINISH, row))
    after_commit(lambda: _log(mail.id, state, reply or ""))


def doubt_age(mail: Mail) -> timedelta:
    """How long ago the dot of a mail in `committing` may have gone out: by the clock that wrote that down."""
    (age,) = fetch_row(_DOUBT_AGE, {"id": mail.id}) or (None,)
    return age or timedelta()


def decide(email_id: UUID, decision: Decision) -> None:
    """An operator's word on a mail that is held: it was sent, or is to be sent again. In the caller's transaction(),
    with the job that will send it. Raises: NotFound."""
    unit_of_work()
    if fetch_row(_DECIDE, {"id": email_id, "state": decision}) is None:
        raise NotFound("no such mail is held")
    after_commit(lambda: _log(email_id, decision, "by an operator's word"))


def held() -> list[dict[str, str]]:
    """The mails that are held: `id`, `recipient`, and since when they may have been accepted (`dot_at`)."""
    (found,) = fetch_row(_HELD, {}) or ("[]",)
    mails: list[dict[str, str]] = ujson.loads(found)
    return mails


def count_unknown() -> int:
    """How many mails are held, because nobody knows whether they were accepted."""
    (count,) = fetch_row(_COUNT_UNKNOWN, {}) or (0,)
    return int(count)


def _held(row: tuple[object, ...] | None) -> None:
    if row is None:
        raise Fenced("another worker has taken this mail over")


def _log(email_id: UUID, state: State, detail: str = "") -> None:
    level = logging.ERROR if state == "unknown" else logging.WARNING if state == "rejected" else logging.INFO
    log.log(level, "mail %s is %s %s", email_id, state, detail)
