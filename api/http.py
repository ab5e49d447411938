"""Answers: JSON bodies, conditional requests, and problem details for everything that is refused or fails."""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import ujson
from flask import Flask, Request, Response, g, request
from flask.json.provider import JSONProvider
from flask.sessions import NullSession, SessionInterface
from werkzeug.exceptions import HTTPException

from api.request_extras import DOOR, Leftover
from api.telemetry import route_template
from dues.cdn import cache_control
from dues.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    Problem,
    Unauthenticated,
    Unavailable,
)
from dues.postgres import failure_of, sqlstate_of
from dues.reads import Answer
from dues.stores.access import Access

log = logging.getLogger("dues.api")

# Flask-Compress suffixes the ETags of what it compresses; a client sends them back so.
_COMPRESSION_SUFFIX = re.compile(r':(zstd|br|gzip|deflate)"$')

_MOST_PURGE_KEYS = 16


class UJSONProvider(JSONProvider):
    """ujson as Flask's JSON. NaN is refused; what JSON does not know (dates, UUIDs) must be text already."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return ujson.dumps(obj, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return ujson.loads(s)


class NoSessions(SessionInterface):
    """There are no cookies here: every request says who it is. Spares each the work of looking for one."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


_WITH_BODY = (200, 201, 202)


class _Finished(Response):
    """A response whose headers need no second look: werkzeug copies them all to find places that are no ASCII, and
    lengths that it does not know, of which there are none here."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.status_code not in _WITH_BODY or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return self.response  # type: ignore[return-value]


@dataclass
class Reply:
    """What a handler answers. `body` is JSON text in UTF-8, or None for no content."""

    body: bytes | None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    mimetype: str = "application/json"

    def response(self) -> Response:
        headers = list(self.headers.items())
        if self.body is None:
            response = _Finished(b"", self.status, headers)
            del response.headers["Content-Type"]
            return response
        return _Finished(self.body, self.status, [*headers, ("Content-Type", self.mimetype)])


def json_reply(document: Any, status: int = 200, **headers: str) -> Reply:
    body = ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)
    return Reply(body.encode(), status, headers)


def no_content() -> Reply:
    return Reply(None, 204)


def conditional(answer: Answer, access: Access) -> Reply:
    """A read's answer, or 304 when the client has it already. A front door that can keep the answer gets all of it,
    and says 304 itself."""
    g.cache = "hit" if answer.hit else "miss"
    headers = read_headers(answer, access)
    if _leave_to_door(answer, access) or not matches(request.headers.get("If-None-Match"), answer.etag):
        return Reply(answer.body, 200, headers)
    return Reply(None, 304, headers)


def read_headers(answer: Answer, access: Access) -> dict[str, str]:
    """What a read's answer says of itself to clients and caches."""
    return {
        "ETag": answer.etag,
        "Cache-Control": "private, no-cache" if access.actor else cache_control(answer.tags),
        "Vary": "Accept-Encoding, Authorization",
        **_purge_keys(answer.tags),
    }


def _leave_to_door(answer: Answer, access: Access) -> bool:
    """Tell the front door, if there is one, how to know later whether this is still the answer for this caller."""
    door: Leftover | None = request.environ.get(DOOR)
    if door is None or answer.validator is None or access.validators is None or request.method != "GET":
        return False
    door.validators = [*access.validators, answer.validator]
    door.until = min(answer.expires_at, access.expires_at)
    door.route = route_template()
    return True


def _purge_keys(tags: tuple[str, ...]) -> dict[str, str]:
    """For caches in front: what to purge this answer by, as Fastly and Varnish want it, and as Cloudflare does."""
    tags = tags[:_MOST_PURGE_KEYS]
    return {"Surrogate-Key": " ".join(tags), "Cache-Tag": ",".join(tags)} if tags else {}


def entity_tags(header: str | None) -> list[str]:
    """The entity tags of an If-Match or If-None-Match header, without W/ and without a compression's suffix."""
    tags = re.findall(r'(?:W/)?("[^"]*")|(\*)', header or "")
    return [star or _COMPRESSION_SUFFIX.sub('"', quoted) for quoted, star in tags]


def matches(header: str | None, etag: str) -> bool:
    """Weak comparison, as If-None-Match wants it."""
    return any(tag in ("*", etag) for tag in entity_tags(header))


def require_match(header: str | None, version: int) -> None:
    """If-Match compares the version, the part of an ETag before the point: other representations of the same version
    (fewer fields, more includes) match too. `header` is what was sent of it. Raises: PreconditionFailed."""
    if header is None:
        return
    tags = entity_tags(header)
    if not any(tag == "*" or tag.strip('"').partition(".")[0] == str(version) for tag in tags):
        raise PreconditionFailed(f"the resource is at version {version} now", version=version)


def problem_reply(problem: Problem, path: str, request_id: str) -> Reply:
    """RFC 9457 problem details."""
    document: dict[str, Any] = {
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": path,
        "code": problem.code,
        "request_id": request_id,
        **problem.members,
    }
    if problem.errors:
        document["errors"] = [
            {key: value for key in ("pointer", "parameter", "code", "detail") if (value := getattr(fault, key))}
            for fault in problem.errors
        ]
    body = ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False, reject_bytes=False)
    headers = problem.headers | {"Cache-Control": "no-store"}
    if isinstance(problem, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="dues"'
    if isinstance(problem, Unavailable):
        headers.setdefault("Retry-After", "1")
    return Reply(body.encode(), problem.status, headers, "application/problem+json")


def problem_of(error: Exception) -> Problem:
    """What a client is told of whatever was raised. What is not a refusal is logged."""
    match error:
        case Problem():
            return error
        case HTTPException():
            return _translate(error)
    if failure := failure_of(error):
        log.warning("%s: %s", failure.detail, type(error).__name__, extra={"sqlstate": sqlstate_of(error)})
        return Unavailable(failure.detail)
    log.error("unhandled %s", type(error).__name__, exc_info=error)
    return Problem("something went wrong here; the request id finds it in the logs")


def init_errors(app: Flask) -> None:
    """Render whatever is raised as problem details; nothing else in Dues renders an error."""

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return problem_reply(problem_of(error), request.path, g.get("request_id", "")).response()


def _translate(error: HTTPException) -> Problem:
    match error.code:
        case 404:
            return NotFound("there is no such resource")
        case 405:
            allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
            return MethodNotAllowed(f"this takes {allowed}", headers={"Allow": allowed})
        case 413:
            return PayloadTooLarge("the body is too large")
        case _:
            return BadRequest(error.name)
