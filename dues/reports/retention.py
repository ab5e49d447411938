"""The files of reports are kept for a time; then the report stays, and says that its file is gone."""

from datetime import timedelta

from sqlalchemy import func, select

from dues.postgres import db
from dues.reads.tags import touch
from dues.reports.files import file_store, report_folder
from dues.reports.models import Report
from dues.settings import settings

# Each is a folder to be deleted.
_MOST = 100


def delete_expired_files() -> int:
    """Delete files of reports that were finished KEEP_REPORT_FILES_DAYS ago. Part of the caller's transaction().
    Returns: how many; 0 means that none are left.

    The file goes first: where the transaction then fails, the report's download says that the file is gone, and the
    next run finds the report again.
    """
    # By PostgreSQL's clock: what a fast clock of one machine deleted would be gone.
    kept = timedelta(days=settings().keep_report_files_days)
    old = select(Report).where(Report.file_key.is_not(None), Report.updated_at < func.now() - kept)
    found = db.session.scalars(old.limit(_MOST).with_for_update(skip_locked=True)).all()
    for report in found:
        file_store().delete(report_folder(report.id))
        report.file_key = None
        touch(f"store:{report.store_id}:reports")
    return len(found)
