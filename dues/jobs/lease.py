"""Who holds a job: the statements that claim, keep, finish and give back one attempt.

Each is fenced by the token of the claim: from the moment another worker has taken the job over, nothing that this one
still does to it has any effect. Which job a worker claims is decided in turns.py.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import ujson

from dues.jobs.notifications import tell_change
from dues.jobs.on_failure import Ending, announce
from dues.postgres import after_commit, fetch_row, fetch_row_alone, transaction
from dues.settings import settings


class LeaseLost(Exception):
    """Another worker has this job now, or it was ended: what this one did to it is void."""


# These statements may be lost in a crash of the server, which costs a lease's time and nothing else; so their commit
# does not wait for the disk.
_UNHURRIED = "(select set_config('synchronous_commit', 'off', true)) unhurried"
_MINE = "id = %(job_id)s and lease_token = %(token)s and status = 'running'"

# When a job that waits for a circuit is tried again at the latest, should nobody have noticed that it has closed.
LONGEST_WAIT_S = 600.0

# Whose job it is, when jobs take turns: the store's, else its owner's, else everybody's.
TENANT = "coalesce(store_id, owner_id, '00000000-0000-0000-0000-000000000000'::uuid)"

# The first of `turns` that is to be had. They are looked at in the order in which they come, one at a time: an `order
# by` would lock all of them.
_CLAIM = f"""
    {{given}}
    update jobs set status = 'running', attempt = attempt + 1, lease_token = %(token)s, leased_by = %(worker)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s), waits_for = null,
        started_at = coalesce(started_at, clock_timestamp()), version = version + 1
    from {_UNHURRIED}
    where id = (
        select held.id from {{turns}} turns(id) cross join lateral (
            select id from jobs where jobs.id = turns.id and status = 'queued' and run_at <= now()
                and attempt < max_attempts and cancel_requested_at is null
            for update skip locked) held
        limit 1)
    returning id, kind, args::text, attempt, timeout_s, progress::text, trace, version, {TENANT}, {{all_turns}}
"""
_RENEW = f"""
    update jobs set lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s) from {_UNHURRIED}
    where {_MINE} returning cancel_requested_at is not null
"""
_PROGRESS = f"""
    update jobs set progress = %(progress)s::jsonb, version = version + 1 from {_UNHURRIED}
    where {_MINE} returning cancel_requested_at is not null, version
"""
_COMPLETE = f"""
    update jobs set status = 'succeeded', result = %(result)s::jsonb, error = null, finished_at = clock_timestamp(),
        progress = coalesce(%(progress)s::jsonb, progress), lease_token = null, lease_until = null,
        version = version + 1
    where {_MINE} returning version
"""
_GIVE_BACK = """
    with held as (
        select id, case when %(final)s then 'failed'
                        when %(canceled)s or cancel_requested_at is not null then 'canceled'
                        when attempt - uncharged >= max_attempts then 'failed'
                        else 'queued' end as becomes, uncharged
        from jobs, lateral (select case when %(anew)s then attempt else %(uncharged)s end as uncharged) counted
        where {whose} for update of jobs {patience})
    update jobs set status = becomes, finished_at = case when becomes <> 'queued' then clock_timestamp() end,
        attempt = attempt - held.uncharged, lease_token = null, lease_until = null,
        due = coalesce(%(after_s)s, 0) <= 0, waits_for = %(waits_for)s,
        run_at = coalesce(clock_timestamp() + make_interval(secs => %(after_s)s), run_at),
        error = coalesce(%(error)s::jsonb, error), version = version + 1
    from held where jobs.id = held.id
    returning kind, args::text, status, error::text, version
"""
_GIVE_BACK_MINE = _GIVE_BACK.format(whose=_MINE, patience="")
_TAKE_BACK = _GIVE_BACK.format(
    whose="id = %(job_id)s and status = 'running' and lease_until < clock_timestamp()", patience="skip locked"
)


@dataclass(frozen=True)
class Claim:
    """One attempt at a job, as it was claimed. `progress` is what earlier attempts had reported."""

    job_id: UUID
    token: UUID
    kind: str
    args: dict[str, Any]
    attempt: int
    timeout_s: int
    progress: dict[str, Any] | None
    trace: str | None


@dataclass(frozen=True)
class Begun:
    """What a claim has got, and of whose jobs it is. `turns` are all that were looked up for it, in their order."""

    claim: Claim
    lease: "Lease"
    tenant: UUID
    turns: list[UUID]


def claim_statement(turns: str) -> str:
    """SQL that looks up `turns`, a common table expression of that name with `id` and `position`, and claims the first
    of these jobs that is to be had."""
    all_turns = "(select array_agg(turns.id order by turns.position) from turns)"
    return _CLAIM.format(given=f"with {turns}", turns="turns", all_turns=all_turns)


def begin(statement: str, values: Mapping[str, Any], worker: str) -> Begun | None:
    """Begin an attempt with what `claim_statement()` made; None where no job is to be had. Of any number of workers
    that ask at once one gets each job."""
    token, lease_s, asked_at = uuid4(), settings().job_lease_s, time.monotonic()
    # Apart from any transaction: within one it would keep the job's row locked, and no renewal could get through.
    row = fetch_row_alone(statement, {**values, "token": token, "lease_s": lease_s, "worker": worker})
    if row is None:
        return None
    job_id, kind, args, attempt, timeout_s, progress, trace, version, tenant, turns = row
    tell_change(job_id, version)
    claim = Claim(
        job_id, token, kind, ujson.loads(args), attempt, timeout_s, ujson.loads(progress) if progress else None, trace
    )
    return Begun(claim, Lease(job_id, token, lease_s, asked_at), tenant, turns or [])


_KNOWN = _CLAIM.format(given="", turns="unnest(%(ids)s::uuid[])", all_turns="null::uuid[]")


def claim(job_ids: Sequence[UUID], worker: str) -> Begun | None:
    """Begin an attempt at the first of these jobs that is to be had: queued, and not held by somebody else just now."""
    return begin(_KNOWN, {"ids": list(job_ids)}, worker)


class Lease:
    """The right to work on a job, which lasts `seconds` from the last renewal.

    Renewed by a thread beside the job's handler, or by the handler's own `check()`, whichever comes first.
    """

    def __init__(self, job_id: UUID, token: UUID, seconds: float, since: float) -> None:
        self.job_id = job_id
        self.token = token
        self.seconds = seconds
        self.lost = False
        self.cancel_requested = False
        self._since = since

    def renew(self) -> None:
        """Hold it for another `seconds`, or find it `lost`."""
        asked_at = time.monotonic()
        if self._ask(_RENEW, {"lease_s": self.seconds}):
            self._since = asked_at

    def check(self) -> None:
        """Make sure that it is still held, asking PostgreSQL only when that may be in doubt. Raises: LeaseLost."""
        if not self.lost and time.monotonic() - self._since > self.seconds / 2:
            self.renew()
        if self.lost:
            raise LeaseLost(f"job {self.job_id} has another worker")

    def report(self, progress: dict[str, Any]) -> None:
        """Write the job's progress. Raises: LeaseLost."""
        if row := self._ask(_PROGRESS, {"progress": ujson.dumps(progress)}):
            tell_change(self.job_id, row[1])
        self.check()

    def complete(self, result: dict[str, Any] | None, progress: dict[str, Any] | None) -> int:
        """The job succeeded: inside the `transaction()` of what it did, if any. Returns: the job's version, to be
        told of after the commit. Raises: LeaseLost, and then that transaction must not commit."""
        values = {
            "job_id": self.job_id,
            "token": self.token,
            "result": _json(result),
            "progress": _json(progress),
        }
        row = fetch_row(_COMPLETE, values)
        if row is None:
            self.lost = True
            raise LeaseLost(f"job {self.job_id} has another worker")
        return int(row[0])

    def give_back(
        self,
        *,
        error: dict[str, Any] | None = None,
        after_s: float | None = None,
        final: bool = False,
        canceled: bool = False,
        uncharged: bool = False,
        anew: bool = False,
        waits_for: str | None = None,
    ) -> str:
        """End the attempt without success: the job is queued again, to run `after_s` from now (default: at once), or
        when the circuit `waits_for` lets calls through; or `failed` when `final` or out of attempts; or `canceled` when
        that was asked for. An `uncharged` attempt does not count, and with `anew` none so far. Returns: the new status.
        Raises: LeaseLost.
        """
        values = {
            "job_id": self.job_id,
            "token": self.token,
            "error": _json(error),
            "after_s": LONGEST_WAIT_S if waits_for else after_s,
            "waits_for": waits_for,
            "final": final,
            "canceled": canceled,
            "uncharged": int(uncharged),
            "anew": anew,
        }
        if (status := _give_back(_GIVE_BACK_MINE, values)) is None:
            self.lost = True
            raise LeaseLost(f"job {self.job_id} has another worker")
        return status

    def _ask(self, sql: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
        row = fetch_row_alone(sql, {**values, "job_id": self.job_id, "token": self.token})
        if row is None:
            self.lost = True
        else:
            self.cancel_requested = row[0]
        return row


def take_back(job_id: UUID, error: dict[str, Any]) -> str | None:
    """End the attempt of a worker that let its lease run out, as `give_back()` does. Returns: the new status, or
    None when the lease was renewed or somebody else has just done this."""
    values = {
        "job_id": job_id,
        "error": _json(error),
        "after_s": None,
        "waits_for": None,
        "final": False,
        "canceled": False,
        "uncharged": 0,
        "anew": False,
    }
    return _give_back(_TAKE_BACK, values)


def _give_back(sql: str, values: dict[str, Any]) -> str | None:
    with transaction():
        row = fetch_row(sql, values)
        if row is None:
            return None
        kind, args, status, error, version = row
        if status != "queued":
            found = ujson.loads(error) if error and status == "failed" else None
            announce(Ending(values["job_id"], kind, ujson.loads(args), status, found))
        after_commit(partial(tell_change, values["job_id"], version))
    return str(status)


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else ujson.dumps(value, allow_nan=False, escape_forward_slashes=False)
