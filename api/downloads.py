"""Files as answers: whole or in part (RFC 9110, 13 and 14), streamed from the file store.

A file is never compressed on the way: its ranges and its entity tag are those of the bytes that are stored.
"""

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from api.http import matches
from api.reply import Reply
from api.request import Request
from dues.errors import NotFound, PreconditionFailed, RangeNotSatisfiable, Unavailable
from dues.reports.downloads import ReportFile
from dues.reports.files import FileStore

# One range only: several at once would need a multipart answer, and may be answered with the whole file.
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))", re.ASCII)
# No file is as long as a number of so many digits says, and Python takes no number of thousands of them.
_DIGITS = 18

_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def file_content(*media_types: str) -> dict[str, Any]:
    """The content of an answer that is a file, as the OpenAPI document has it.

    Bytes whatever the format stand first, for generators that know one type of an answer or none of these. No schema
    for JSON, of which a range is none.
    """
    return {"application/octet-stream": _BYTES} | {
        media_type: {} if media_type == "application/json" else _BYTES for media_type in media_types
    }


def file_responses(*media_types: str) -> dict[int, dict[str, Any]]:
    """The answers of a route that gives a file, as the OpenAPI document has them."""
    content = file_content(*media_types)
    return {
        200: {"description": "The whole file", "content": content},
        206: {"description": "The range that was asked for", "content": content},
        304: {"description": "Not modified: what you have still holds"},
        416: {},
    }


FILE_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "Range",
        "in": "header",
        "description": "One range of bytes, to go on with a download or to load it in parts.",
        "schema": {"type": "string", "examples": ["bytes=0-65535"]},
    },
    {
        "name": "If-Range",
        "in": "header",
        "description": "The ETag of what you have a part of: of another file you get the whole.",
        "schema": {"type": "string"},
    },
]


def download(files: FileStore, file: ReportFile, request: Request) -> Reply:
    """`file` as the request's method, conditions and Range ask for it.

    Raises: RangeNotSatisfiable, PreconditionFailed, NotFound, Unavailable.
    """
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Last-Modified": format_datetime(file.finished_at.astimezone(UTC), usegmt=True),
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
    }
    _require_match(file, etag, request)
    if _is_unchanged(file, etag, request):
        return Reply(None, 304, headers)
    headers |= {"Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{file.name}"'}
    wanted = _wanted_range(file, etag, request)
    start, stop = wanted or (0, file.size)
    headers["Content-Length"] = str(stop - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    try:
        content = files.read(file.key, start, stop)
    except FileNotFoundError:
        raise NotFound("the file is gone: ask for it again", code="file_gone") from None
    except OSError:
        raise Unavailable("the file cannot be read at present", code="file_unavailable") from None
    return Reply(None, 206 if wanted else 200, headers, file.media_type, file=content)


def _second(file: ReportFile) -> datetime:
    """When the file was last changed, as precisely as HTTP's dates are."""
    return file.finished_at.replace(microsecond=0)


def _require_match(file: ReportFile, etag: str, request: Request) -> None:
    """Raises: PreconditionFailed for a client that wants another file."""
    if_match = request.header("if-match")
    if if_match is not None:
        if not matches(if_match, etag):
            raise PreconditionFailed("this is not the representation that If-Match names")
        return
    unmodified_since = _parse_date(request.header("if-unmodified-since"))
    if unmodified_since and _second(file) > unmodified_since:
        raise PreconditionFailed("the file is newer than If-Unmodified-Since")


def _is_unchanged(file: ReportFile, etag: str, request: Request) -> bool:
    if none_match := request.header("if-none-match"):
        return matches(none_match, etag)
    since = _parse_date(request.header("if-modified-since"))
    return since is not None and _second(file) <= since


def _wanted_range(file: ReportFile, etag: str, request: Request) -> tuple[int, int] | None:
    """The first byte and the one after the last, or None for the whole file: no Range, one that is not understood,
    or an If-Range that names another file. Raises: RangeNotSatisfiable."""
    found = _RANGE.fullmatch((request.header("range") or "").replace(" ", ""))
    if found is None or request.method != "GET" or not _if_range_holds(file, etag, request):
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, stop = max(file.size - _number(suffix), 0), file.size
    else:
        start, stop = _number(first), min(_number(last) + 1, file.size) if last else file.size
        if last and _number(last) < start:
            return None
    if start >= file.size:
        raise RangeNotSatisfiable(f"the file has {file.size} bytes", headers={"Content-Range": f"bytes */{file.size}"})
    return start, stop


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else 10**_DIGITS


def _if_range_holds(file: ReportFile, etag: str, request: Request) -> bool:
    header = request.header("if-range")
    if header is None or header == etag:
        return True
    return _parse_date(header) == _second(file)


def _parse_date(header: str | None) -> datetime | None:
    """A date of HTTP, or None for what is none: the field is then ignored (RFC 9110, 13.1.3)."""
    try:
        found = parsedate_to_datetime(header or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
