"""The files of reports are kept for a time; then the report stays, and says that its file is gone."""

from datetime import timedelta
from itertools import islice

from sqlalchemy import func, select, text

from dues.ids import parse_id
from dues.moving import is_here
from dues.postgres import database_now, db, lock_some
from dues.reads.tags import touch
from dues.reports.files import FOLDER, file_store, report_folder
from dues.reports.models import Report
from dues.settings import settings

# Each is a folder to be deleted.
_MOST = 100
_DAY = timedelta(days=1)
_IS_HERE = text(is_here("reports.store_id"))


def delete_expired_files() -> int:
    """Delete files of reports that were finished KEEP_REPORT_FILES_DAYS ago. Part of the caller's transaction().
    Returns: how many; 0 means that none are left.

    The file goes first: where the transaction then fails, the report's download says that the file is gone, and the
    next run finds the report again.
    """
    # By PostgreSQL's clock: a machine whose clock is fast would delete files too early.
    kept = timedelta(days=settings().keep_report_files_days)
    old = select(Report).where(Report.file_key.is_not(None), Report.updated_at < func.now() - kept, _IS_HERE)
    found = lock_some(old, Report.store_id, _MOST)
    for report in found:
        file_store().delete(report_folder(report.id))
        report.file_key = None
        touch(f"store:{report.store_id}:reports")
    return len(found) or _delete_leftovers()


def _delete_leftovers() -> int:
    """Delete what killed processes have left and no report names. Returns: how many folders."""
    files = file_store()
    since = database_now() - timedelta(days=settings().keep_report_files_days) - _DAY
    ids = {folder: parse_id(folder.partition("/")[2]) for folder in islice(files.unchanged(FOLDER, 1, since), _MOST)}
    used = select(Report.id).where(Report.id.in_([one for one in ids.values() if one]), Report.file_key.is_not(None))
    left = {*ids.values()} - {None, *db.session.scalars(used)}
    for folder, report_id in ids.items():
        if report_id in left:
            files.delete(folder)
    return len(left)
