"""What operators may do with jobs, whoever owns them: find them, look at one, have one tried again (`flask jobs`)."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from sqlalchemy import select

from dues.errors import Conflict, NotFound
from dues.jobs.models import Job
from dues.jobs.notifications import tell_change, wake_relay
from dues.postgres import after_commit, db, fetch_row, unit_of_work

# A job that stands in for this one, by its key, is not to be doubled.
_RETRY = """
    update jobs set status = 'queued', attempt = case status when 'failed' then 0 else attempt end, run_at = now(),
        due = true, waits_for = null, finished_at = null, cancel_requested_at = null, version = version + 1
    where id = %(id)s and (status = 'failed' or status = 'queued' and run_at > now())
        and not exists (select from jobs other where other.kind = jobs.kind and other.dedupe_key = jobs.dedupe_key
                        and other.status in ('queued', 'running') and other.id <> jobs.id)
    returning version
"""
_STANDING = "select status, run_at > now() from jobs where id = %(id)s"


def find_jobs(
    *, queue: str | None = None, kind: str | None = None, statuses: Sequence[str] = (), most: int = 20
) -> list[Job]:
    """Jobs that fit all that is given, the newest first."""
    found = select(Job).order_by(Job.id.desc()).limit(most)
    if queue:
        found = found.where(Job.queue == queue)
    if kind:
        found = found.where(Job.kind == kind)
    if statuses:
        found = found.where(Job.status.in_(statuses))
    return list(db.session.scalars(found.execution_options(populate_existing=True)))


def get_job(job_id: UUID) -> Job:
    """Raises: NotFound."""
    job = db.session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NotFound("there is no such job")
    return job


def retry(job_id: UUID) -> None:
    """Have a job that has failed begin anew, with all its attempts, or one that waits for its next attempt go on now.
    Inside a `transaction()`.

    Raises: Conflict for a job in any other state, or where one with the same key is live; NotFound.
    """
    unit_of_work()
    row = fetch_row(_RETRY, {"id": job_id})
    if row is None:
        raise _refusal(job_id)
    after_commit(wake_relay)
    after_commit(partial(tell_change, job_id, row[0]))


def _refusal(job_id: UUID) -> Conflict | NotFound:
    row = fetch_row(_STANDING, {"id": job_id})
    if row is None:
        return NotFound("there is no such job")
    status, waits = row
    if status == "failed" or waits:
        return Conflict("another job does the same work already")
    return Conflict(
        f"the job is {'due' if status == 'queued' else status}: only one that failed or waits can be retried"
    )
