"""Following jobs and canceling them. Whether a user may is for the caller to decide.

A job carries its owner and its store."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal
from uuid import UUID

import ujson
from sqlalchemy import text

from dues.errors import Conflict, NotFound
from dues.jobs.notifications import tell_change
from dues.jobs.on_failure import Ending, announce
from dues.jobs.status import DONE, jobs
from dues.postgres import after_commit, db, fetch_row, unit_of_work
from dues.reads import Query, parse_query
from dues.reads.compile import compile_one
from dues.reads.shape import Shape, bind, shape_of

_CANCEL = """
    update jobs set cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
        status = case status when 'queued' then 'canceled' else status end,
        finished_at = case status when 'queued' then clock_timestamp() end,
        version = version + 1
    where id = %(id)s and cancelable and (status = 'queued' or status = 'running' and cancel_requested_at is null)
    returning status, kind, args::text, version
"""
_MOVED = text(
    "select w.id, j.version from unnest(cast(:ids as uuid[]), cast(:seen as bigint[])) w(id, seen)"
    " left join jobs j on j.id = w.id where j.version is distinct from w.seen"
)
_STANDING = "select status, cancel_requested_at is not null from jobs where id = %(id)s"


@dataclass(frozen=True, slots=True)
class StatusDocument:
    """A job as it stands: the status document as JSON text, and whether there will be another."""

    document: str
    version: int
    done: bool

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


@dataclass(frozen=True, slots=True)
class Status(StatusDocument):
    """With what decides who may see it."""

    owner_id: UUID | None
    store_id: UUID | None


def get_status(job_id: UUID, query: Query | None = None) -> Status:
    """The job's status, in one statement; `query` chooses the document's fields. Raises: NotFound."""
    query = query or parse_query(jobs, (), one=True)
    scope = {"id": job_id}
    row = fetch_row(_status_sql(shape_of(jobs, scope, query, None)), bind(query, scope, jobs))
    if row is None:
        raise NotFound("there is no such job")
    document, version, status, owner_id, store_id = row
    return Status(document, version, status in DONE, owner_id, store_id)


@lru_cache(maxsize=256)
def _status_sql(shape: Shape) -> str:
    return (
        "select d.document, d.version, j.status, j.owner_id, j.store_id from jobs j,"
        f" ({compile_one(shape)}) as d(document, version, snapshot) where j.id = %(id)s"
    )


def document_sql(query: Query, job_id: str) -> str:
    """A query whose first column is the status document of the job that the SQL expression `job_id` names."""
    return compile_one(shape_of(jobs, {"id": None}, query, None)).replace("%(id)s", job_id)


def find_moved(seen: Mapping[UUID, int]) -> dict[UUID, int | None]:
    """Of jobs and the versions that were seen of them: those at another one now, or None where they are gone. One
    statement, by key."""
    values = {"ids": [str(job_id) for job_id in seen], "seen": list(seen.values())}
    with db.engine.connect() as connection:
        return {row.id: row.version for row in connection.execute(_MOVED, values).all()}


def cancel(job_id: UUID) -> Literal["canceled", "requested"]:
    """Cancel a queued job at once, or ask for it where the job is running: it ends at its next report of progress.
    Inside a `transaction()`. Doing it again changes nothing.

    Raises: Conflict where the job is over or its kind cannot be canceled; NotFound.
    """
    unit_of_work()
    row = fetch_row(_CANCEL, {"id": job_id})
    if row is None:
        return _standing(job_id)
    status, kind, args, version = row
    after_commit(partial(tell_change, job_id, version))
    if status != "canceled":
        return "requested"
    announce(Ending(job_id, kind, ujson.loads(args), "canceled", None))
    return "canceled"


def _standing(job_id: UUID) -> Literal["canceled", "requested"]:
    """What an earlier request to cancel has led to."""
    row = fetch_row(_STANDING, {"id": job_id})
    if row is None:
        raise NotFound("there is no such job")
    status, requested = row
    if status == "canceled":
        return "canceled"
    if status == "running" and requested:
        return "requested"
    raise Conflict(f"the job is {status} and cannot be canceled", code="not_cancelable")
