"""The files of imports are kept for a time; then the import stays, and says that its file is gone. Files that no import
names are deleted after a day.
"""

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

import ujson
from sqlalchemy import func, or_, select, text

from dues.ids import parse_id
from dues.imports.models import Import
from dues.imports.service import FOLDER, forget_refusals, import_folder
from dues.moving import is_here
from dues.postgres import database_now, fetch_row, lock_some
from dues.reads.tags import touch
from dues.reports.files import file_store
from dues.settings import settings

# Each is a folder to be deleted.
_MOST = 100
_IS_HERE = text(is_here("imports.store_id"))
# How long after a file has come its import is there, unless it never will be.
_LATEST = timedelta(days=1)
# How many folders are looked up at a time.
_BATCH = 500
_WITH_FILES = """
    select coalesce(json_agg(i.id), '[]')::text from imports i
    join jsonb_to_recordset(%(pairs)s::jsonb) as p(store_id uuid, id uuid) on i.store_id = p.store_id and i.id = p.id
    where i.upload_key is not null or i.file_key is not null
"""


def delete_expired_files() -> int:
    """Delete files of imports that ended KEEP_REPORT_FILES_DAYS ago, and what was refused of them; then files that
    belong to no import. Part of the caller's transaction(). Returns: how many; 0 means that none are left."""
    kept = timedelta(days=settings().keep_report_files_days)
    has_files = or_(Import.upload_key.is_not(None), Import.file_key.is_not(None))
    old = select(Import).where(has_files, Import.updated_at < func.now() - kept, _IS_HERE)
    found = lock_some(old, Import.store_id, _MOST)
    for one in found:
        # The files go first: where the transaction then fails, the next run finds the import again.
        file_store().delete(import_folder(one.store_id, one.id))
        one.upload_key = one.file_key = None
        forget_refusals(one.store_id, one.id)
        touch(f"store:{one.store_id}:imports")
    return len(found) or _delete_orphans()


def _delete_orphans() -> int:
    """What was sent when a process was killed, or its transaction rolled back, before there was an import. Returns: how
    many folders."""
    files = file_store()
    orphans = list(islice(_orphans(), _MOST))
    for folder in orphans:
        files.delete(folder)
    return len(orphans)


def _orphans() -> Iterator[str]:
    folders = file_store().unchanged(FOLDER, 2, database_now() - _LATEST)
    while batch := list(islice(folders, _BATCH)):
        ids = {folder: [parse_id(part) for part in folder.split("/")[1:]] for folder in batch}
        pairs = [{"store_id": str(store_id), "id": str(one)} for store_id, one in ids.values() if store_id and one]
        (text,) = fetch_row(_WITH_FILES, {"pairs": ujson.dumps(pairs)}) or ("[]",)
        used = {parse_id(one) for one in ujson.loads(text)}
        yield from (folder for folder, (store_id, one) in ids.items() if store_id and one and one not in used)
