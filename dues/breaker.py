"""Circuit breakers, shared by all processes through PostgreSQL: what does not answer is not called for a while.

    circuit = Circuit("gateway:sandbox")
    if circuit.wait_s():                # open: a job waits until it lets calls through
        raise Retry(waits_for=circuit.name)
    ...
    circuit.failed()                    # or succeeded(), by what became of the call

A job that waits for a circuit is offered to no worker meanwhile, so that an outage costs each job one look, however
long it lasts. The relay makes one of them due when the circuit's rest is over, and all once the circuit has closed.

Closed until `threshold` calls in a row have failed; then open for `first_s`, after which one call is let through, the
probe: its success closes the circuit, its failure opens it for twice as long, up to `longest_s`. The state is a row,
which a circuit that works does not have. A circuit is as narrow as what it protects from: where two tenants share one,
the failures of the one's calls keep the other's from being made.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from dues.jobs.stats import notice
from dues.moving import HELD
from dues.postgres import db, fetch_row, fetch_row_alone, unit_of_work

log = logging.getLogger("dues.breaker")

# A crash of the server may lose the last changes: that costs a call too many.
_UNHURRIED = "(select set_config('synchronous_commit', 'off', true)) unhurried"

# The caller that moves `open_until` on makes the one probe; after a probe that never comes back another may.
_ASK = f"""
    with probe as (
        update circuit_breakers set open_until = clock_timestamp() + make_interval(secs => %(probe_s)s)
        from {_UNHURRIED}
        where name = %(name)s and open_until <= clock_timestamp() returning name)
    select case when open_until is null or exists (select from probe) then 0.0
                else greatest(extract(epoch from open_until - clock_timestamp()), 0.001) end
    from circuit_breakers where name = %(name)s
"""
# What failed longer ago than a day says nothing about now.
_FAILED = f"""
    insert into circuit_breakers as c (name, failures, open_until, updated_at)
    select %(name)s, 1, case when %(threshold)s <= 1 then clock_timestamp() + make_interval(secs => %(first_s)s) end,
        clock_timestamp() from {_UNHURRIED}
    on conflict (name) do update set updated_at = excluded.updated_at,
        failures = case when c.updated_at < excluded.updated_at - interval '1 day' then 1 else c.failures + 1 end,
        open_until = case when c.updated_at < excluded.updated_at - interval '1 day' then excluded.open_until
            when c.failures + 1 >= %(threshold)s then clock_timestamp() + make_interval(secs =>
                least(%(longest_s)s, %(first_s)s * 2 ^ least(c.failures + 1 - %(threshold)s, 30))) end
    returning name
"""
_SUCCEEDED = f"""
    delete from circuit_breakers c using {_UNHURRIED} where c.name = %(name)s returning c.name
"""
_RESET = "delete from circuit_breakers where name = %(name)s returning name"
_TROUBLED = text("""
    select name, failures, coalesce(open_until > clock_timestamp(), false) from circuit_breakers
    where updated_at > now() - interval '1 day' and not starts_with(name, :webhooks)
    order by updated_at desc limit 200
""")
_WEBHOOKS = text("""
    select count(*), count(*) filter (where open_until > clock_timestamp()) from circuit_breakers
    where updated_at > now() - interval '1 day' and starts_with(name, :webhooks)
""")
_EXPIRED = """
    with old as (
        select name from circuit_breakers where updated_at < now() - interval '1 day'
        limit %(most)s for update skip locked),
    gone as (delete from circuit_breakers c using old where c.name = old.name returning 1)
    select count(*) from gone
"""

# Each circuit that jobs wait for is one step away in the index of the waiting jobs.
_WAITS = "status = 'queued' and waits_for is not null"
_READY = f"""
    with recursive circuits(name) as (
        (select waits_for from jobs where {_WAITS} order by waits_for, id limit 1)
        union all
        select next.name from circuits cross join lateral (
            select waits_for as name from jobs where {_WAITS} and waits_for > circuits.name
            order by waits_for, id limit 1) next)
    select array_agg(w.name), array_agg(case when c.open_until is null then %(most)s::int else 1 end)
    from circuits w left join circuit_breakers c on c.name = w.name
    where c.open_until is null or c.open_until <= clock_timestamp()
"""
# Not the jobs of a store that moves: one that makes no call would be taken for the probe.
_RELEASE = f"""
    with found as (
        select id from jobs where status = 'queued' and waits_for = %(name)s and not starts_with(queue, '{HELD}')
        order by id limit %(most)s for update skip locked),
    released as (
        update jobs set due = true, run_at = now(), waits_for = null, version = version + 1
        where id = any(array(select id from found)) returning 1)
    select count(*) from released
"""
_COUNT_WAITING = f"select count(*) from jobs where {_WAITS}"
# Most jobs that one look makes due for each circuit.
MOST_RELEASED = 500


# What the names of the circuits of webhook endpoints begin with. Operators see how many there are, and no more: those
# are customers' receivers.
WEBHOOKS = "webhook:"
_MOST_DELETED = 1000

# How long a process takes a circuit for closed without asking again, and until when it does so with each.
_TRUST_S = 1.0
_trusted_until: dict[str, float] = {}


@dataclass
class Circuit:
    """The breaker of something outside, by its name. `probe_s` is longer than a call can take.

    It writes apart from any transaction that the caller is in. Another process's failures may be seen a second late, so
    that what works costs next to nothing.
    """

    name: str
    threshold: int = 5
    first_s: float = 30.0
    longest_s: float = 1800.0
    probe_s: float = 60.0
    _has_failed: bool = field(default=False, init=False)

    def wait_s(self) -> float:
        """How many seconds to stay away; 0: make the call, and say how it went."""
        if time.monotonic() < _trusted_until.get(self.name, 0.0):
            return 0.0
        row = _alone(_ASK, {"name": self.name, "probe_s": self.probe_s})
        self._has_failed = row is not None
        if row is None:
            _trust(self.name)
        return float(row[0]) if row else 0.0

    def failed(self) -> None:
        values = {"threshold": self.threshold, "first_s": self.first_s, "longest_s": self.longest_s}
        _trusted_until.pop(self.name, None)
        _alone(_FAILED, {"name": self.name, **values})

    def succeeded(self) -> None:
        if self._has_failed:
            _alone(_SUCCEEDED, {"name": self.name})


def _trust(name: str) -> None:
    if len(_trusted_until) > 1000:
        _trusted_until.clear()
    _trusted_until[name] = time.monotonic() + _TRUST_S


def _alone(sql: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
    """Never raises: a breaker is there to spare time, and nothing may fail for its sake."""
    try:
        return fetch_row_alone(sql, values)
    except (psycopg2.Error, SQLAlchemyError) as error:
        log.warning("the circuit %s is taken for closed: %s", values["name"], type(error).__name__)
        return None


@dataclass(frozen=True)
class CircuitState:
    """A circuit that has failed of late: how often in a row, and whether it is open now."""

    name: str
    failures: int
    is_open: bool


@dataclass(frozen=True)
class WebhookCircuits:
    """How many webhook endpoints have not answered of late, and how many of them are left alone now."""

    failing: int
    open: int


def troubled_circuits() -> list[CircuitState]:
    """Those that have failed of late, the latest first; at most 200. Those of webhook endpoints are not among them."""
    with db.engine.connect() as connection:
        return [CircuitState(*row) for row in connection.execute(_TROUBLED, {"webhooks": WEBHOOKS})]


def webhook_circuits() -> WebhookCircuits:
    """The circuits of webhook endpoints, counted."""
    with db.engine.connect() as connection:
        return WebhookCircuits(*connection.execute(_WEBHOOKS, {"webhooks": WEBHOOKS}).one())


def release_waiting() -> int:
    """Make jobs due that wait for a circuit which lets calls through: for one that is closed up to MOST_RELEASED, the
    oldest first, and for one whose rest is over the one job that makes its probe. Returns: how many are due now."""
    ready = fetch_row(_READY, {"most": MOST_RELEASED})
    if ready is None or ready[0] is None:
        return 0
    released = [fetch_row(_RELEASE, {"name": name, "most": most}) or (0,) for name, most in zip(*ready, strict=True)]
    return sum(int(count) for (count,) in released)


@notice
def waiting_jobs() -> str:
    (count,) = fetch_row(_COUNT_WAITING, {}) or (0,)
    return f"jobs that wait for a circuit to close: {count} (dues_circuit_open names the circuits)" if count else ""


def reset_circuit(name: str) -> None:
    """Forget what has failed: it leads to something else now. Part of the caller's transaction()."""
    unit_of_work()
    fetch_row(_RESET, {"name": name})


def delete_expired_circuits() -> int:
    """Delete circuits that have not failed for a day, which counts no more, in the caller's transaction(). Returns: how
    many; 0 means that none are left."""
    unit_of_work()
    (count,) = fetch_row(_EXPIRED, {"most": _MOST_DELETED}) or (0,)
    return int(count)
