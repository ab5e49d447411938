"""An import as it runs: batch after batch, each one transaction, which also moves the position that the import has come
to. A worker that is killed has either done a batch or not begun it, and the next one goes on from there.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import psycopg2
import ujson
from sqlalchemy.exc import DBAPIError

from dues.clock import store_now
from dues.errors import Conflict, Forbidden
from dues.failpoints import failpoint
from dues.imports.apply import Applied, apply
from dues.imports.context import Importer
from dues.imports.lines import BOM, Record, Records
from dues.imports.rows import Parsed, Refusal, parse
from dues.imports.service import Running
from dues.jobs import Canceled, LeaseLost, PermanentFailure, Retry, Run
from dues.payments.gateways import chosen_gateway
from dues.postgres import failure_of, fetch_row, repeated, run_later, transaction
from dues.reads.tags import touch
from dues.reports.files import FileStore
from dues.stores.clock import require_still

log = logging.getLogger("dues.imports")

# So many rows are written in one transaction, or so many bytes of them: enough that its statements weigh little, and
# few enough that nobody waits long.
BATCH, _BATCH_BYTES = 500, 1024 * 1024
# After this long, others in the queue get their turn.
_LONGEST_S = 60.0

_BEGIN = """
    select i.status, i.position, s.timezone, s.test, array[s.currency] || s.currencies, exists (
        select from store_staff r where r.store_id = i.store_id and r.user_id = i.requested_by
            and r.role in ('manager', 'owner'))
    from imports i join stores s on s.id = i.store_id
    where i.store_id = %(store_id)s and i.id = %(import_id)s for update of i
"""
_MOVE = """
    update imports set position = %(position)s, line = %(line)s, rows = rows + %(rows)s,
        created = created + %(created)s, updated = updated + %(updated)s, unchanged = unchanged + %(unchanged)s,
        refused = refused + %(refused)s, version = version + 1, updated_at = now()
    where store_id = %(store_id)s and id = %(import_id)s returning rows
"""
# Of so many refused rows an import tells at most. A small file may have millions of lines that are none, and what is
# written of each is far longer than the line.
MOST_TOLD = 100_000
_REFUSE = """
    insert into import_refusals(store_id, import_id, line, external_id, code, pointer, detail)
    select %(store_id)s, %(import_id)s, r.line, r.external_id, r.code, r.pointer, r.detail
    from jsonb_to_recordset(%(rows)s::jsonb)
        as r(line bigint, external_id text, code text, pointer text, detail text)
    order by r.line
    limit greatest(0, %(most)s - (
        select i.refused from imports i where i.store_id = %(store_id)s and i.id = %(import_id)s))
"""


def run_import(run: Run, one: Running, files: FileStore) -> int:
    """Write the rows that are left. Returns: how many rows there are. Raises: Canceled, LeaseLost; PermanentFailure
    where whoever asked for it may do so no more; Retry, to go on later."""
    until = time.monotonic() + _LONGEST_S
    rows = one.rows
    for batch in batches(one, files):
        rows = _write_all(run, one, batch)
        end = batch[-1].record.end
        # How many rows there are nobody knows before the last is read: as many as the bytes so far let expect.
        run.progress(rows, max(rows, rows * one.bytes // max(end, 1)), "rows")
        failpoint("import.after_batch")
        if time.monotonic() > until and end < one.bytes:
            raise Retry(0, "the import goes on", charged=False)
    return rows


def columns_of(files: FileStore, one: Running) -> tuple[list[str], int, int]:
    """The columns of a CSV's first record, where that ends, and on how many lines; nothing of NDJSON but its mark."""
    with closing(files.read(one.upload_key, 0, one.bytes)) as chunks:
        first = next(chunks, b"")
    start = len(BOM) if first.startswith(BOM) else 0
    if one.format != "csv":
        return [], start, 0
    heading = next(iter(Records([first[start:]], "csv", start)))
    assert isinstance(heading.content, list), "looked at when it was sent"
    return heading.content, heading.end, heading.line + heading.lines - 1


def batches(one: Running, files: FileStore) -> Iterator[list[Parsed]]:
    """The rows from the import's position on, in batches of which each has an external id once."""
    columns, start, lines = columns_of(files, one)
    position, line = max(one.position, start), max(one.line, lines)
    with closing(files.read(one.upload_key, position, one.bytes)) as chunks:
        batch: list[Parsed] = []
        names: set[str] = set()
        for record in Records(chunks, one.format, position, line):
            parsed = parse(record, one.kind, columns)
            is_full = len(batch) == BATCH or record.end - position > _BATCH_BYTES
            if batch and (is_full or parsed.external_id in names):
                yield batch
                batch, names, position = [], set(), batch[-1].record.end
            batch.append(parsed)
            if not isinstance(parsed.row, Refusal):
                names.add(parsed.external_id)
        if batch:
            yield batch


def _write_all(run: Run, one: Running, batch: list[Parsed]) -> int:
    """Write a batch; where PostgreSQL refuses it, each row by itself, so that one that cannot be written costs no
    other. Returns: how many rows there are so far."""
    try:
        return repeated(partial(_write, run, one, batch))
    except (psycopg2.Error, DBAPIError) as error:
        if failure_of(error):
            # Not the rows' fault: PostgreSQL is away, or others were in the way.
            raise
        log.warning("a batch of import %s could not be written: each row is written by itself", one.id)
    rows = 0
    for parsed in batch:
        try:
            rows = repeated(partial(_write, run, one, [parsed]))
        except (psycopg2.Error, DBAPIError) as error:
            if failure_of(error):
                raise
            log.exception("a row of import %s, on line %d, cannot be written", one.id, parsed.record.line)
            refusal = Refusal("not_written", "cannot be written together with what there is")
            rows = _write(run, one, [replace(parsed, row=refusal)])
    return rows


def _write(run: Run, one: Running, batch: Sequence[Parsed]) -> int:
    run.check()
    with transaction():
        store = _begin(one)
        applied = apply(store, one.kind, batch)
        rows = _move(one, batch, applied)
        failpoint("import.before_commit")
    one.position, one.line = batch[-1].record.end, batch[-1].record.line + batch[-1].record.lines - 1
    return rows


def _begin(one: Running) -> Importer:
    """The store, and the import locked, which nobody has moved meanwhile. Raises: Canceled, LeaseLost,
    PermanentFailure, Retry."""
    row = fetch_row(_BEGIN, {"store_id": one.store_id, "import_id": one.id}, hot=True)
    if row is None or row[0] != "running":
        raise Canceled
    _, position, timezone, test, currencies, may = row
    if position != one.position:
        raise LeaseLost(f"import {one.id} has another worker")
    if not may:
        raise PermanentFailure(Forbidden("whoever asked for the import is no manager of the store any more"))
    if test:
        try:
            require_still(one.store_id)
        except Conflict as moving:
            raise Retry(1.0, moving, charged=False) from None
    at: datetime = store_now(one.store_id)
    gateway = chosen_gateway(one.store_id)
    return Importer(one.store_id, one.requested_by, at, timezone, frozenset(currencies), test, gateway)


def _move(one: Running, batch: Sequence[Parsed], applied: Applied) -> int:
    """The import has come to the end of a batch. Returns: how many rows there are so far."""
    names: dict[str, Any] = {"store_id": one.store_id, "import_id": one.id}
    if applied.refused:
        refused = [
            {
                "line": parsed.record.line,
                "external_id": parsed.external_id,
                "code": refusal.code,
                "pointer": refusal.pointer,
                "detail": refusal.detail,
            }
            for parsed, refusal in applied.refused
        ]
        run_later(_REFUSE, names | {"rows": ujson.dumps(refused, ensure_ascii=False), "most": MOST_TOLD})
    last: Record = batch[-1].record
    moved = {
        "position": last.end,
        "line": last.line + last.lines - 1,
        "rows": len(batch),
        "created": applied.created,
        "updated": applied.updated,
        "unchanged": applied.unchanged,
        "refused": len(applied.refused),
    }
    (rows,) = fetch_row(_MOVE, names | moved, hot=True) or (0,)
    touch(f"store:{one.store_id}:imports")
    return int(rows)
