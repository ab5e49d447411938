"""What HTTP itself asks of an answer: entity tags and conditions, and problem details for whatever is refused."""

import logging
import re
from typing import Any

import ujson
from werkzeug.exceptions import HTTPException

from api.reply import Reply
from api.request import Request
from dues.cdn import cache_control, public_tags
from dues.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    Problem,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from dues.postgres import NOT_SUPPORTED, failure_of, sqlstate_of, wrong_release_of
from dues.reads import Answer
from dues.stores.access import Access

log = logging.getLogger("dues.api")

_VARY = "Accept-Encoding, Authorization"
# A compressed copy's entity tag is the plain one's with the encoding behind it (api/compress.py).
_ENCODING_SUFFIX = re.compile(r':(zstd|br|gzip|deflate)"$')


def reply_of(answer: Answer, access: Access) -> Reply:
    """A read's answer as it goes out to this caller, and how to know later whether it still is."""
    reply = Reply(answer.body, 200, read_headers(answer, access), hit=answer.hit)
    if answer.validator is not None and access.validators is not None:
        reply.validators = (*access.validators, answer.validator)
        reply.until = min(answer.expires_at, access.expires_at)
    return reply


def read_headers(answer: Answer, access: Access) -> dict[str, str]:
    """What a read's answer says of itself to clients and caches."""
    if access.actor:
        return {"ETag": answer.etag, "Cache-Control": "private, no-cache", "Vary": _VARY}
    tags = public_tags(answer)
    # For caches in front: what to purge this answer by, as Fastly and Varnish want it, and as Cloudflare does.
    keys = {"Surrogate-Key": " ".join(tags), "Cache-Tag": ",".join(tags)} if tags else {}
    return {"ETag": answer.etag, "Cache-Control": cache_control(tags), "Vary": _VARY, **keys}


def entity_tags(header: str | None) -> list[str]:
    """The entity tags of an If-Match or If-None-Match header, without W/ and without a compression's suffix."""
    tags = re.findall(r'(?:W/)?("[^"]*")|(\*)', header or "")
    return [star or _ENCODING_SUFFIX.sub('"', quoted) for quoted, star in tags]


def matches(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names the answer with this ETag, in whatever encoding the client has it."""
    if not header or not etag:
        return False
    if header == etag:
        return True
    # Nearly always the header names one other version, which need not be read to be told apart.
    if "*" not in header and etag.split('"')[1].partition(":")[0] not in header:
        return False
    (plain,) = entity_tags(etag)
    return any(tag in ("*", plain) for tag in entity_tags(header))


def require_match(header: str | None, version: int | None, digest: str | None = None) -> None:
    """If-Match compares the version, the part of an ETag before the point: other representations of the same version
    (fewer fields, more includes) match too. `header` is what was sent of it, `version` None where there is nothing
    yet, and `digest` the ETag of what is sent as a file. Raises: PreconditionFailed."""
    if header is None:
        return
    if version is None:
        raise PreconditionFailed("there is nothing yet that could match")
    named = {tag.strip('"').partition(".")[0] for tag in entity_tags(header)}
    if named.isdisjoint({"*", str(version), digest}):
        raise PreconditionFailed(f"the resource is at version {version} now", version=version)


# Fields that describe content, which a 304 does not have.
_OF_CONTENT = ("Content-Encoding", "Content-Language", "Content-Range")


def is_conditional(request: Request) -> bool:
    """Whether a read comes with a condition on the entity tag."""
    return "if-none-match" in request.fields or "if-match" in request.fields


def conditional(request: Request, reply: Reply) -> Reply:
    """The reply to a read under the request's conditions (RFC 9110, 13.2.2): itself, 304 (Not Modified) for a client
    that has it already, or 412 (Precondition Failed) for one that wants another."""
    if not is_conditional(request) or request.method not in ("GET", "HEAD") or reply.status != 200:
        return reply
    # What sends a file has looked at the conditions itself, before it opened the file.
    if reply.file is not None:
        return reply
    etag = reply.headers.get("ETag", "")
    if not etag:
        return reply
    if_match = request.fields.get("if-match")
    if if_match is not None and not matches(if_match, etag):
        return problem_reply(PreconditionFailed("this is not the representation that If-Match names"), request)
    if not matches(request.fields.get("if-none-match"), etag):
        return reply
    headers = {name: value for name, value in reply.headers.items() if name not in _OF_CONTENT}
    return Reply(None, 304, headers, hit=reply.hit, queries=reply.queries, db_s=reply.db_s, waiting=reply.waiting)


def problem_reply(problem: Problem, request: Request | None, request_id: str = "") -> Reply:
    """RFC 9457 problem details. `request` is None for what could not be read as one."""
    document: dict[str, Any] = {
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.path if request else "",
        "code": problem.code,
        "request_id": request.id if request else request_id,
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


def problem_of(error: Exception, request_id: str = "") -> Problem:
    """What a client is told of whatever was raised. What is not a refusal is logged, with the id of the request where
    nobody has said yet (`log_fields()`) whose lines these are."""
    extra = {"request_id": request_id} if request_id else {}
    match error:
        case Problem():
            return error
        case HTTPException():
            return _translate(error)
    if failure := failure_of(error):
        log.warning("%s: %s", failure.detail, type(error).__name__, extra={**extra, "sqlstate": sqlstate_of(error)})
        return Unavailable(failure.detail)
    if wrong := wrong_release_of(error):
        log.warning("%s: %s", wrong.told, type(error).__name__, extra={**extra, "sqlstate": sqlstate_of(error)})
        return Unavailable(wrong.detail, code=wrong.code)
    log.error("unhandled %s", type(error).__name__, exc_info=error, extra=extra)
    if sqlstate_of(error) == NOT_SUPPORTED:
        return Unsupported("the database that this runs on, which is spread over several servers, cannot do this")
    return Problem("something went wrong here; the request id finds it in the logs")


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
