"""Asking for slow work: one row, in the transaction of the data that needs it.

The row is the outbox. Either it commits with the data, and the relay will find it whatever happens to Redis or to this
process, or neither was ever there.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import ujson

from dues.ids import new_id
from dues.jobs.kinds import Kind, QueueName
from dues.jobs.notifications import wake_relay
from dues.observability.trace import current_trace
from dues.postgres import after_commit, fetch_row, run_later, unit_of_work

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

# Arguments name rows; what is larger belongs in one.
MAX_ARGS_BYTES = 4096

# No index is named for the conflict: of a partitioned table it is a trigger's (dues/partitions/tables.py).
_INSERT = """
    insert into jobs(id, kind, queue, priority, args, owner_id, store_id, dedupe_key, run_at, due, max_attempts,
                     timeout_s, cancelable, trace)
    values (%(id)s, %(kind)s, %(queue)s, %(priority)s, %(args)s::jsonb, %(owner_id)s, %(store_id)s, %(dedupe_key)s,
            coalesce(%(run_at)s, now() + make_interval(secs => %(delay_s)s)),
            coalesce(%(run_at)s <= now(), %(delay_s)s <= 0), %(max_attempts)s, %(timeout_s)s, %(cancelable)s, %(trace)s)
    on conflict do nothing returning id
"""
_INSERT_SELECTED = """
    insert into jobs(id, kind, queue, priority, args, store_id, run_at, due, max_attempts, timeout_s, cancelable, trace)
    select %(id)s, %(kind)s, %(queue)s, %(priority)s, selected.args, %(store_id)s, now(), true, %(max_attempts)s,
        %(timeout_s)s, %(cancelable)s, %(trace)s
    from ({selected}) as selected(args)
"""
_LIVE = """
    select id from jobs
    where kind = %(kind)s and dedupe_key = %(dedupe_key)s and status in ('queued', 'running')
"""


def enqueue(
    kind: Kind,
    args: Mapping[str, JSON],
    *,
    owner_id: UUID | None = None,
    store_id: UUID | None = None,
    dedupe_key: str | None = None,
    delay_s: float = 0.0,
    run_at: datetime | None = None,
    priority: int = 100,
    queue: QueueName | None = None,
) -> UUID:
    """Have a worker call the handler of `kind` with `args` once the present `transaction()` is committed.

    `args` are small JSON: ids, as strings. `owner_id` and `store_id` say who may see the job, and whose turn it takes:
    stores take turns in a queue, and among the jobs of one store a lower `priority` goes first. With `dedupe_key`, and
    a job of this kind and key that is not finished, that one's id is returned and nothing is added. It runs `delay_s`
    from now at the earliest, by PostgreSQL's clock, or at a moment that something stored says, `run_at`. `queue` is
    another than the kind's, for a job that nobody waits for.

    Returns: the job's id, by which its status is known from the commit on.
    Raises: TypeError or ValueError for arguments that are not small JSON; RuntimeError outside `transaction()`.
    """
    unit_of_work()
    job_id = new_id()
    row = _values(job_id, kind, store_id, priority) | {
        "queue": queue or kind.queue,
        "args": args_text(args),
        "owner_id": owner_id,
        "dedupe_key": dedupe_key,
        "run_at": run_at,
        "delay_s": delay_s,
    }
    if dedupe_key is None:
        run_later(_INSERT, row)
    else:
        job_id = _insert(row)
    # One that is not due yet is found by the relay's next look, as it would be when it is.
    if run_at is None and delay_s <= 0:
        after_commit(wake_relay)
    return job_id


def enqueue_selected(kind: Kind, selected: str, values: Mapping[str, object], *, store_id: UUID) -> None:
    """The same with the arguments that a query selects: a job where it finds a row, none where it finds none. `values`
    are the query's, and `store_id` is one of them. Nothing is asked of PostgreSQL that would have to be waited for."""
    unit_of_work()
    run_later(_INSERT_SELECTED.format(selected=selected), {**_values(new_id(), kind, store_id, priority=100), **values})
    after_commit(wake_relay)


def _values(job_id: UUID, kind: Kind, store_id: UUID | None, priority: int) -> dict[str, object]:
    return {
        "id": job_id,
        "kind": kind.name,
        "queue": kind.queue,
        "priority": priority,
        "store_id": store_id,
        "max_attempts": kind.max_attempts,
        "timeout_s": kind.timeout_s,
        "cancelable": kind.cancelable,
        "trace": current_trace(),
    }


def _insert(row: dict[str, object]) -> UUID:
    while True:
        # A live job that stood in the way may be finished by the time it is looked for: then there is room again.
        found = fetch_row(_INSERT, row, hot=True) or fetch_row(_LIVE, row)
        if found:
            job_id: UUID = found[0]
            return job_id


def args_text(args: Mapping[str, JSON]) -> str:
    """`args` as JSON. Raises: TypeError or ValueError where they are not, or are not small."""
    for name, value in args.items():
        _check(value, name)
    text = ujson.dumps(args, ensure_ascii=False, escape_forward_slashes=False)
    if len(text.encode()) > MAX_ARGS_BYTES:
        raise ValueError(f"a job's arguments are ids, not data: {len(text)} characters of JSON are too many")
    return text


def _check(value: Any, path: str) -> None:
    match value:
        case None | bool() | int():
            return
        case str():
            if "\0" in value:
                raise ValueError(f"argument {path}: PostgreSQL cannot store a NUL")
        case float():
            if not math.isfinite(value):
                raise ValueError(f"argument {path}: {value} is not JSON")
        case list():
            for i, item in enumerate(value):
                _check(item, f"{path}[{i}]")
        case dict():
            for name, item in value.items():
                if not isinstance(name, str):
                    raise TypeError(f"argument {path}: the name {name!r} is not a string")
                _check(item, f"{path}.{name}")
        case _:
            raise TypeError(f"argument {path}: a {type(value).__name__} is not JSON (pass ids as strings)")
