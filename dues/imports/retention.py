"""The files of imports are kept for a time; then the import stays, and says that its file is gone."""

from datetime import timedelta

from sqlalchemy import func, or_, select

from dues.imports.models import Import
from dues.imports.service import forget_refusals, import_folder
from dues.postgres import db
from dues.reads.tags import touch
from dues.reports.files import file_store
from dues.settings import settings

# Each is a folder to be deleted.
_MOST = 100


def delete_expired_files() -> int:
    """Delete files of imports that ended KEEP_REPORT_FILES_DAYS ago, and what was refused of them. Part of the caller's
    transaction(). Returns: how many; 0 means that none are left."""
    kept = timedelta(days=settings().keep_report_files_days)
    has_files = or_(Import.upload_key.is_not(None), Import.file_key.is_not(None))
    old = select(Import).where(has_files, Import.updated_at < func.now() - kept)
    found = db.session.scalars(old.limit(_MOST).with_for_update(skip_locked=True)).all()
    for one in found:
        # The files go first: where the transaction then fails, the next run finds the import again.
        file_store().delete(import_folder(one.store_id, one.id))
        one.upload_key = one.file_key = None
        forget_refusals(one.store_id, one.id)
        touch(f"store:{one.store_id}:imports")
    return len(found)
