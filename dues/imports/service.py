"""Asking for imports, and the place an import's status changes. Each function is part of its caller's transaction."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from dues.errors import Conflict, InvalidTransition, NotFound
from dues.events import EventType, emit
from dues.ids import new_id
from dues.imports.models import Import
from dues.imports.reads import imports
from dues.imports.rows import Kind
from dues.imports.upload import Format, Upload
from dues.jobs import kinds
from dues.jobs.on_failure import Ending, when_ended
from dues.jobs.outbox import enqueue
from dues.postgres import after_commit, db, fetch_row, run_later
from dues.postgres.constraints import take_turns
from dues.reads.tags import touch
from dues.reports.downloads import ReportFile
from dues.reports.files import file_store

log = logging.getLogger("dues.imports")

# From which statuses an import may move to a status. Running again is the next attempt of a job that was interrupted;
# from `failed` an operator has it tried again.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "running": ("pending", "running", "failed"),
    "succeeded": ("running",),
    "failed": ("pending", "running"),
    "canceled": ("pending", "running"),
}
_EVENTS: Mapping[str, EventType] = {
    "succeeded": "import.succeeded",
    "failed": "import.failed",
    "canceled": "import.canceled",
}
FOLDER = "imports"
# Most imports of a store that wait or run.
MOST_UNFINISHED = 20
_UNFINISHED = "select count(*) from imports where store_id = %(store_id)s and status in ('pending', 'running')"
_FORGET = "delete from import_refusals where store_id = %(store_id)s and import_id = %(import_id)s"
_FILE = """
    select kind, file_key, file_bytes, sha256, updated_at from imports
    where store_id = %(store_id)s and id = %(id)s and status = 'succeeded'
"""


@dataclass(slots=True)
class Running:
    """An import that a worker has begun, as far as it has come (models.py)."""

    store_id: UUID
    id: UUID
    requested_by: UUID
    kind: Kind
    format: Format
    bytes: int
    upload_key: str
    position: int
    line: int
    rows: int


@dataclass(frozen=True)
class RefusalsFile:
    """A finished file of refusals in the file store; `sha256` is hexadecimal."""

    key: str
    bytes: int
    sha256: str


def import_folder(store_id: UUID, import_id: UUID) -> str:
    """What the keys of an import's files begin with."""
    return f"{FOLDER}/{store_id}/{import_id}"


def request_import(store_id: UUID, requested_by: UUID, kind: Kind, upload: Upload) -> Import:
    """A pending import, and the job that will do it. Raises: Conflict where too many of the store's imports are not
    done yet; OSError."""
    import_id = new_id()
    key = f"{import_folder(store_id, import_id)}/upload"
    take_turns("unfinished imports of a store", str(store_id))
    (unfinished,) = fetch_row(_UNFINISHED, {"store_id": store_id}) or (0,)
    if unfinished >= MOST_UNFINISHED:
        raise Conflict(f"{MOST_UNFINISHED} imports of this store are not done yet", code="too_many_unfinished")
    with file_store().create(key) as draft:
        upload.copy(draft)
    one = Import(
        store_id=store_id,
        id=import_id,
        requested_by=requested_by,
        kind=kind,
        format=upload.format,
        status="pending",
        bytes=upload.size,
        upload_key=key,
    )
    one.job_id = enqueue(
        kinds.IMPORT_RUN,
        {"store_id": str(store_id), "import_id": str(import_id)},
        owner_id=requested_by,
        store_id=store_id,
    )
    db.session.add(one)
    touch(f"store:{store_id}:imports")
    return one


def start_import(store_id: UUID, import_id: UUID) -> Running:
    """A worker begins, or goes on. Raises: NotFound; InvalidTransition for an import that has ended, or whose file is
    gone."""
    one = _get(store_id, import_id)
    if one.upload_key is None:
        raise InvalidTransition("the import's file is gone: send it again")
    _move(one, "running")
    return Running(
        store_id=store_id,
        id=import_id,
        requested_by=one.requested_by,
        kind=cast(Kind, one.kind),
        format=cast(Format, one.format),
        bytes=one.bytes,
        upload_key=one.upload_key,
        position=one.position,
        line=one.line,
        rows=one.rows,
    )


def finish_import(store_id: UUID, import_id: UUID, file: RefusalsFile) -> None:
    """Raises: InvalidTransition for an import that is not running."""
    one = _get(store_id, import_id)
    upload_key = one.upload_key
    _move(one, "succeeded", file_key=file.key, file_bytes=file.bytes, sha256=file.sha256, upload_key=None)
    forget_refusals(store_id, import_id)
    if upload_key:
        after_commit(lambda: _forget(upload_key))


@when_ended(kinds.IMPORT_RUN)
def end_import(ending: Ending) -> None:
    """The job was canceled or has failed for good. What was written of its rows stays written."""
    _move(_get(UUID(ending.args["store_id"]), UUID(ending.args["import_id"])), ending.status)


def get_refusals_file(store_id: UUID, import_id: UUID) -> ReportFile:
    """What was refused, as it is downloaded. Raises: NotFound until the import has succeeded, and when its file is
    gone."""
    row = fetch_row(_FILE, {"store_id": store_id, "id": import_id})
    if row is None:
        raise NotFound("there is no such import, or it has no file")
    kind, key, size, sha256, finished_at = row
    if key is None:
        raise NotFound("the import's file is gone", code="file_gone")
    finished: datetime = finished_at
    return ReportFile(key, f"refused-{kind}.csv", "text/csv", size, sha256, finished)


def forget_refusals(store_id: UUID, import_id: UUID) -> None:
    """What was refused is in the import's file by now, or its time is over."""
    run_later(_FORGET, {"store_id": store_id, "import_id": import_id})


def _get(store_id: UUID, import_id: UUID) -> Import:
    one = db.session.get(Import, (store_id, import_id), with_for_update=True, populate_existing=True)
    if one is None:
        raise NotFound("there is no such import")
    return one


def _move(one: Import, status: str, **values: Any) -> None:
    if one.status not in SOURCES[status]:
        raise InvalidTransition(f"an import that is {one.status} cannot become {status}")
    log.info("import %s: %s -> %s", one.id, one.status, status)
    one.status = status
    for name, value in values.items():
        setattr(one, name, value)
    if event_type := _EVENTS.get(status):
        emit(one.store_id, event_type, imports, {"store_id": one.store_id, "id": one.id})
    touch(f"store:{one.store_id}:imports")


def _forget(key: str) -> None:
    with suppress(OSError):
        file_store().delete(key)
