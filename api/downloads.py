"""Files as answers: whole or in part (RFC 9110: conditional requests and ranges), streamed from the file store.

A file is never compressed on the way: its ranges and its entity tag are those of the bytes that are stored.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from flask import Response, request

from api.http import Reply, matches
from api.request_extras import DOOR, Leftover
from dues.errors import NotFound, RangeNotSatisfiable, Unavailable
from dues.reports.downloads import ReportFile
from dues.reports.files import FileRange, FileStore

# One range only: several at once would need a multipart answer, and may be answered with the whole file.
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))", re.ASCII)


@dataclass
class FileReply(Reply):
    """An answer whose body is read as it is sent, by whichever thread sends it; no database connection is held."""

    content: FileRange | None = None

    def response(self) -> Response:
        # The front door, where there is one, sends the file without holding this thread.
        door: Leftover | None = request.environ.get(DOOR)
        if door is not None and self.content is not None:
            door.file = self.content
        body = None if door else self.content
        response = Response(body, self.status, mimetype=self.mimetype, direct_passthrough=True)
        response.headers.update(self.headers)
        return response


def download(files: FileStore, file: ReportFile) -> Reply:
    """`file` as the request's method, conditions and Range ask for it. Raises: RangeNotSatisfiable, NotFound,
    Unavailable."""
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Last-Modified": format_datetime(file.finished_at.astimezone(UTC), usegmt=True),
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
    }
    if _is_unchanged(etag, file.finished_at):
        return Reply(None, 304, headers)
    headers |= {"Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{file.name}"'}
    wanted = _wanted_range(file, etag)
    start, stop = wanted or (0, file.size)
    headers["Content-Length"] = str(stop - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    reply = FileReply(None, 206 if wanted else 200, headers, file.media_type)
    if request.method != "HEAD":
        try:
            reply.content = files.read(file.key, start, stop)
        except FileNotFoundError:
            raise NotFound("the report's file is gone: ask for the report again", code="file_gone") from None
        except OSError:
            raise Unavailable("the report's file cannot be read at present", code="file_unavailable") from None
    return reply


def _is_unchanged(etag: str, modified_at: datetime) -> bool:
    if none_match := request.headers.get("If-None-Match"):
        return matches(none_match, etag)
    since = _parse_date(request.headers.get("If-Modified-Since"))
    return since is not None and modified_at.replace(microsecond=0) <= since


def _wanted_range(file: ReportFile, etag: str) -> tuple[int, int] | None:
    """The first byte and the one after the last, or None for the whole file: no Range, one that is not understood,
    or an If-Range that names another file. Raises: RangeNotSatisfiable."""
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if found is None or request.method != "GET" or not _if_range_holds(file, etag):
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, stop = max(file.size - int(suffix), 0), file.size
    else:
        start, stop = int(first), min(int(last) + 1, file.size) if last else file.size
        if last and int(last) < start:
            return None
    if start >= file.size:
        raise RangeNotSatisfiable(f"the file has {file.size} bytes", headers={"Content-Range": f"bytes */{file.size}"})
    return start, stop


def _if_range_holds(file: ReportFile, etag: str) -> bool:
    header = request.headers.get("If-Range")
    if header is None or header == etag:
        return True
    return _parse_date(header) == file.finished_at.replace(microsecond=0)


def _parse_date(header: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
