"""`flask jobs …`: slow work, for those who run Dues.

`flask --app wsgi jobs` where the web is installed; `flask --app dues.app:create_base jobs` needs nothing of it.
"""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import click
import ujson
from sqlalchemy import inspect

from dues.clock import now, rfc3339
from dues.jobs.admin import find_jobs, get_job, retry
from dues.jobs.kinds import KINDS, QUEUES
from dues.jobs.models import Job
from dues.jobs.service import cancel
from dues.jobs.stats import QueueStats, notices, queue_stats
from dues.jobs.status import STATUSES
from dues.postgres import transaction
from dues.postgres.command_line import Group, refusals

T = TypeVar("T")

command = Group("jobs", help="Look at slow work, and have a hand in it.")

_STATS: dict[str, Callable[[QueueStats], str]] = {
    "queue": lambda found: found.queue,
    "depth": lambda found: str(found.depth),
    "held back": lambda found: str(found.held_back),
    "latency": lambda found: f"{found.latency_s:.1f} s",
    "objective": lambda found: f"{found.objective_s:g} s",
    "no relay for": lambda found: f"{found.relay_lag_s:.1f} s",
    "running": lambda found: str(found.running),
    "expired leases": lambda found: str(found.expired),
    "unknown": lambda found: str(found.unknown),
    "arrivals": lambda found: f"{found.arrivals_per_s:.2f} /s",
    "mean": lambda found: "-" if found.mean_s is None else f"{found.mean_s:.3f} s",
    "workers wanted": lambda found: str(found.recommended_workers),
}


def next_attempt(job: Job) -> str:
    """When a job is tried again; empty where it is not, or may be now."""
    if job.status != "queued" or job.run_at <= now():
        return ""
    return f"waits for {job.waits_for}" if job.waits_for else "in " + span(job.run_at)


_JOBS: dict[str, Callable[[Job], str]] = {
    "id": lambda job: str(job.id),
    "kind": lambda job: job.kind,
    "queue": lambda job: job.queue,
    "status": lambda job: job.status,
    "attempt": lambda job: f"{job.attempt}/{job.max_attempts}",
    "age": lambda job: span(job.created_at),
    "next attempt": next_attempt,
    "last error": lambda job: str((job.error or {}).get("detail", "")),
}
# What stands on the left; numbers are aligned on the right.
_WORDS = {"queue", "id", "kind", "status", "last error"}


@command.command("stats")
def stats() -> None:
    """How far behind each queue is, and how many workers it wants."""
    queues = queue_stats()
    _show_table(_STATS, queues)
    for sentence in notices(queues):
        click.echo(sentence)


@command.command("list")
@click.option("--queue", type=click.Choice(QUEUES))
@click.option("--kind", type=click.Choice(list(KINDS)))
@click.option("--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="May be given several times.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True)
def list_jobs(queue: str | None, kind: str | None, statuses: tuple[str, ...], limit: int) -> None:
    """The newest jobs."""
    _show_table(_JOBS, find_jobs(queue=queue, kind=kind, statuses=statuses, most=limit))


@command.command("show")
@click.argument("job_id", type=click.UUID)
def show(job_id: UUID) -> None:
    """All there is to know of a job."""
    job = get_job(job_id)
    values = {column.key: getattr(job, column.key) for column in inspect(Job).column_attrs}
    width = max(map(len, values))
    for name, value in values.items():
        click.echo(f"{name.ljust(width)}  {_text(value)}".rstrip())


@command.command("retry")
@click.argument("job_ids", type=click.UUID, nargs=-1)
@click.option("--failed", "kind", type=click.Choice(list(KINDS)), help="All failed jobs of this kind.")
def retry_jobs(job_ids: Sequence[UUID], kind: str | None) -> None:
    """Have failed jobs begin anew, and those that wait for their next attempt go on now."""
    if not job_ids and not kind:
        raise click.UsageError("name jobs by their ids, or all that failed of a kind with --failed")
    if kind:
        job_ids = [*job_ids, *(job.id for job in find_jobs(kind=kind, statuses=["failed"], most=1_000_000))]
    _each(job_ids, _retry)


@command.command("cancel")
@click.argument("job_ids", type=click.UUID, nargs=-1, required=True)
def cancel_jobs(job_ids: Sequence[UUID]) -> None:
    """Cancel jobs of a kind that allows it: at once, or where they run at their next report of progress."""
    _each(job_ids, _cancel)


@command.command("drain")
@click.argument("queue", type=click.Choice(QUEUES))
def drain(queue: str) -> None:
    """Do all that is due in a queue here and now, beside its workers or without any, and without Redis."""
    # The handlers of jobs are not for this floor to import. It takes this process's place, so that a signal reaches it
    # and nothing else: what is under way is then finished, and not killed with whoever waits for it.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "workers.drain", queue])  # noqa: S606  (no shell, nothing typed)


def _retry(job_id: UUID) -> str:
    retry(job_id)
    return "is queued"


def _cancel(job_id: UUID) -> str:
    return "is canceled" if cancel(job_id) == "canceled" else "will be canceled"


def _each(job_ids: Sequence[UUID], act: Callable[[UUID], str]) -> None:
    """Do something to each job, in a transaction() of its own, whatever becomes of the others."""
    refused = 0
    for job_id in job_ids:
        try:
            with refusals(), transaction():
                said = act(job_id)
        except click.ClickException as why:
            if len(job_ids) == 1:
                raise
            click.echo(f"{job_id}: {why.message}", err=True)
            refused += 1
        else:
            click.echo(f"{job_id} {said}")
    if refused:
        raise click.ClickException(f"{refused} of {len(job_ids)} jobs are as they were")


def _show_table(columns: dict[str, Callable[[T], str]], items: Sequence[T]) -> None:
    rows = [list(columns), *([value(item) for value in columns.values()] for item in items)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows:
        cells = [
            cell.ljust(width) if name in _WORDS else cell.rjust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def span(moment: datetime) -> str:
    """How far away a moment is, in the largest unit that gives two or more: `45 s`, `12 min`, `30 h`, `3 d`."""
    seconds = abs((now() - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return f"{rfc3339(value)} ({span(value)} {'ago' if value <= now() else 'from now'})"
        case dict():
            return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False)
    return str(value)
