"""The tables that may be partitioned, and what each of them needs for it.

PostgreSQL holds a unique key of a partitioned table only where the key has the column that says which partition a row
is in. Those that have not stay unique within each partition, and `guards` or the way rows are written keep them unique
over all:

- `events (store_id, seq)`: a number is taken under the lock of its store's row in `event_streams` (dues/events.py).
- `webhook_deliveries (store_id, endpoint_id, seq, asked_by)`: the id is derived from these (dues/webhooks/fanout.py).
- `jobs (kind, dedupe_key)` of jobs that are live, `email_sends (dedupe_key)`: a small table that triggers keep.
"""

from collections.abc import Callable
from dataclasses import dataclass

from config import Settings


@dataclass(frozen=True)
class Partitioned:
    """A table that may be partitioned by month on `key`, a UUIDv7 of its rows.

    kept_days: for how long rows are kept; None: for ever.
    in_use, younger: SQL that tells whether a partition, `{part}`, has rows that may come into use again at any moment,
    or some that are kept for longer than their ids say. `%(since)s` is the time from which on rows are kept,
    `%(lower)s` and `%(upper)s` are the ids that bound the partition.
    primary_key: one with the id, where the present one has not.
    guards: statements that make what keeps unique keys unique over all partitions; the table's rows lie in `{part}`.
    """

    name: str
    key: str = "id"
    kept_days: Callable[[Settings], int] | None = None
    in_use: str = "false"
    younger: str = "false"
    primary_key: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()


# A trigger that returns null has the insert pass over the row, as `on conflict do nothing` does.
_JOBS_GUARDS = (
    "create table jobs_live_keys(kind text, dedupe_key text, job_id uuid not null, primary key (kind, dedupe_key))",
    "insert into jobs_live_keys select kind, dedupe_key, id from {part}"
    " where dedupe_key is not null and status in ('queued', 'running')",
    """create function jobs_take_key() returns trigger language plpgsql as $$
    begin
        insert into jobs_live_keys values (new.kind, new.dedupe_key, new.id) on conflict do nothing;
        if found then return new; end if;
        return null;
    end $$""",
    """create function jobs_keep_key() returns trigger language plpgsql as $$
    begin
        if tg_op = 'UPDATE' and new.status in ('queued', 'running') then
            insert into jobs_live_keys values (new.kind, new.dedupe_key, new.id);
        else
            delete from jobs_live_keys k
            where k.kind = old.kind and k.dedupe_key = old.dedupe_key and k.job_id = old.id;
        end if;
        return null;
    end $$""",
    """create trigger jobs_take_key before insert on jobs for each row
    when (new.dedupe_key is not null and new.status in ('queued', 'running')) execute function jobs_take_key()""",
    """create trigger jobs_keep_key after update of status on jobs for each row
    when (old.dedupe_key is not null and (old.status in ('queued', 'running')) <> (new.status in ('queued', 'running')))
    execute function jobs_keep_key()""",
    """create trigger jobs_drop_key after delete on jobs for each row
    when (old.dedupe_key is not null and old.status in ('queued', 'running')) execute function jobs_keep_key()""",
)
_MAILS_GUARDS = (
    "create table email_sends_keys(dedupe_key text primary key, email_id uuid not null)",
    "insert into email_sends_keys select dedupe_key, id from {part}",
    """create function email_sends_take_key() returns trigger language plpgsql as $$
    begin
        insert into email_sends_keys values (new.dedupe_key, new.id) on conflict do nothing;
        if found then return new; end if;
        return null;
    end $$""",
    """create function email_sends_drop_key() returns trigger language plpgsql as $$
    begin
        delete from email_sends_keys k where k.dedupe_key = old.dedupe_key and k.email_id = old.id;
        return null;
    end $$""",
    "create trigger email_sends_take_key before insert on email_sends for each row"
    " execute function email_sends_take_key()",
    "create trigger email_sends_drop_key after delete on email_sends for each row"
    " execute function email_sends_drop_key()",
)

# Payments before their events, which refer to them.
TABLES = (
    Partitioned("payments"),
    # By the payment, so that all events of one lie together.
    Partitioned("payment_events", key="payment_id"),
    Partitioned(
        "jobs",
        kept_days=lambda config: config.keep_jobs_days,
        in_use="exists (select from {part} where status in ('queued', 'running') or finished_at >= %(since)s)",
        guards=_JOBS_GUARDS,
    ),
    Partitioned(
        "events",
        kept_days=lambda config: config.keep_events_days,
        in_use="exists (select from webhook_deliveries"
        " where status = 'pending' and event_id >= %(lower)s and event_id < %(upper)s)",
        primary_key=("store_id", "seq", "id"),
    ),
    Partitioned(
        "webhook_deliveries",
        kept_days=lambda config: config.keep_events_days,
        in_use="exists (select from {part} where status = 'pending')",
        # A replay makes deliveries for as long as it takes, under ids of when it was asked for.
        younger="exists (select from {part} where created_at >= %(since)s)",
    ),
    Partitioned("email_sends", guards=_MAILS_GUARDS),
)
BY_NAME = {table.name: table for table in TABLES}
