"""The file of a finished report: its name, media type and size."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from uuid import UUID
from zoneinfo import ZoneInfo

from dues.errors import NotFound
from dues.postgres import fetch_row
from dues.reports.formats import FORMATS


@dataclass(frozen=True)
class ReportFile:
    """A finished report as it is downloaded. `sha256` is hexadecimal; `finished_at` when it became what it is."""

    key: str
    name: str
    media_type: str
    size: int
    sha256: str
    finished_at: datetime


_FILE = """
    select kind, format, range_from, range_to, timezone, file_key, bytes, sha256, updated_at from reports
    where store_id = %(store_id)s and id = %(id)s and status = 'succeeded'
"""


def get_file(store_id: UUID, report_id: UUID) -> ReportFile:
    """Raises: NotFound until the report has succeeded, and once its file has been deleted."""
    row = fetch_row(_FILE, {"store_id": store_id, "id": report_id})
    if row is None:
        raise NotFound("there is no such report, or it has no file")
    kind, form, range_from, range_to, timezone, key, size, sha256, finished_at = row
    if key is None:
        raise NotFound("the report's file is gone: ask for the report again", code="file_gone")
    document = FORMATS[form]
    name = f"{kind}-{range_name(range_from, range_to, ZoneInfo(timezone))}.{document.extension}"
    return ReportFile(key, name, document.media_type, size, sha256, finished_at)


def range_name(range_from: datetime, range_to: datetime, zone: tzinfo) -> str:
    """A range as people write it, in a time zone: `2026`, `2026-01`, `2026-01-05`, else its first and its last day."""
    first, end = range_from.astimezone(zone), range_to.astimezone(zone)
    last = end - timedelta(microseconds=1)
    whole_days = first == _midnight(first) and end == _midnight(end)
    if whole_days and first.day == 1 and (last + timedelta(days=1)).day == 1:
        if (first.month, last.month) == (1, 12) and first.year == last.year:
            return f"{first:%Y}"
        if (first.year, first.month) == (last.year, last.month):
            return f"{first:%Y-%m}"
    if first.date() == last.date():
        return f"{first:%Y-%m-%d}"
    return f"{first:%Y-%m-%d}-to-{last:%Y-%m-%d}"


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
