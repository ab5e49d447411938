"""Parts of the OpenAPI document that many operations share: problem details, parameters, headers, pages of a list."""

from typing import Any

from api.openapi.examples import ID
from dues.accounts.actor import SCOPES
from dues.reads.query import DEFAULT_ROWS, MAX_PAGE, MAX_ROWS, MAX_WORDS

Part = dict[str, Any]


def ref(kind: str, name: str) -> Part:
    return {"$ref": f"#/components/{kind}/{name}"}


# What each refusal means; status -> title, meaning, an example's code and detail.
PROBLEMS: dict[int, tuple[str, str, str, str]] = {
    400: (
        "Bad request",
        "A parameter is unknown or unreadable, the JSON is malformed, or a required Idempotency-Key is missing.",
        "invalid_parameter",
        "colour: is not a parameter of this resource",
    ),
    401: (
        "Not authenticated",
        "There is no token, or it is unknown, expired or revoked.",
        "unauthenticated",
        "this needs an Authorization header: Bearer <token>",
    ),
    403: (
        "Forbidden",
        "The token lacks the scope or is bound to another store, or the caller's role does not allow this.",
        "insufficient_scope",
        "the token lacks the scope catalog:write",
    ),
    404: (
        "Not found",
        "There is no such thing, or the caller may not know of it.",
        "not_found",
        "there is no such row",
    ),
    409: (
        "Conflict",
        "Not possible in the present state, or the first request with this Idempotency-Key is still running.",
        "invalid_transition",
        "what is archived cannot be changed",
    ),
    410: (
        "Gone",
        "What there was once is kept no more: a cursor of sync is too old.",
        "cursor_expired",
        "this cursor is older than 90 days: begin anew without one",
    ),
    412: (
        "Precondition failed",
        "If-Match names a version that is no longer the present one.",
        "precondition_failed",
        "the resource is at version 4 now",
    ),
    413: (
        "Payload too large",
        "The body, once decoded, is larger than allowed.",
        "payload_too_large",
        "a body may have at most 1048576 bytes",
    ),
    415: (
        "Unsupported media type",
        "The body is not JSON, or is encoded in a way that is not understood.",
        "unsupported_media_type",
        "the body must be application/json",
    ),
    416: (
        "Range not satisfiable",
        "The file is shorter than the range asked for.",
        "range_not_satisfiable",
        "the file has 48213 bytes",
    ),
    421: (
        "Misdirected request",
        "The store has moved to another server: `address` is its URL.",
        "store_moved",
        "this store has moved to https://other.example",
    ),
    422: (
        "Validation failed",
        "The body is readable but wrong; `errors` names every fault at once. Or its Idempotency-Key came with another "
        "body before.",
        "validation",
        "#/amount: is required",
    ),
    424: (
        "Failed dependency",
        "What the request uses of another one's answer is not there.",
        "failed_dependency",
        "the answer of gold has no id",
    ),
    429: (
        "Too many requests",
        "More requests than the limit allows; come back after Retry-After.",
        "rate_limited",
        "at most 600 requests in 60 seconds",
    ),
    500: (
        "Internal error",
        "Something went wrong here; the request id finds it in the logs.",
        "internal_error",
        "something went wrong here; the request id finds it in the logs",
    ),
    503: (
        "Service unavailable",
        "Something Dues stands on is away, or it has too much to do; come back after Retry-After.",
        "unavailable",
        "the database is not available",
    ),
}
_FAULTS = {
    400: [{"parameter": "colour", "code": "unknown", "detail": "is not a parameter of this resource"}],
    422: [{"pointer": "#/amount", "code": "required", "detail": "is required"}],
}

FAULT: Part = {
    "type": "object",
    "description": "One fault: where it is, which it is, and in words.",
    "properties": {
        "pointer": {"type": "string", "description": "a JSON pointer into the body, such as `#/amount`"},
        "parameter": {"type": "string", "description": "the name of a query parameter"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
    "required": ["code", "detail"],
    "additionalProperties": False,
}
PROBLEM: Part = {
    "type": "object",
    "description": "Problem details (RFC 9457). `code` is stable; `detail` is for people.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "the path that was asked for"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": ref("schemas", "Fault")},
    },
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id"],
}
_LINK: Part = {"type": ["string", "null"], "format": "uri-reference"}
LINKS: Part = {
    "type": "object",
    "description": "Absolute-path references; null where there is none.",
    "properties": dict.fromkeys(("self", "first", "prev", "next", "last"), _LINK),
    "required": ["self", "first", "prev", "next", "last"],
    "additionalProperties": False,
}
PAGE_META: Part = {
    "type": "object",
    "description": "Of a page by number. Up to 10,000 rows `total` is exact; beyond it is the planner's estimate "
    "unless `total=exact` asks for more. `last_page` is at least the next page while rows follow.",
    "properties": {
        "current_page": {"type": "integer", "minimum": 1},
        "last_page": {"type": "integer", "minimum": 1},
        "per_page": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
        "total": {"type": "integer", "minimum": 0},
        "total_is_exact": {"type": "boolean"},
    },
    "required": ["current_page", "last_page", "per_page", "total", "total_is_exact"],
    "additionalProperties": False,
}
CURSOR_META: Part = {
    "type": "object",
    "description": "Of a page by cursor: nothing is counted.",
    "properties": {
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
        "has_more": {"type": "boolean"},
    },
    "required": ["limit", "has_more"],
    "additionalProperties": False,
}


def _query(name: str, description: str, **schema: Any) -> Part:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str, **schema: Any) -> Part:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}


PARAMETERS: dict[str, Part] = {
    # No defaults: clients that send what is declared as one would send both forms of page.
    "page": _query(
        "page",
        "A page by its number, at any depth: 1 unless another is asked for. Not together with `cursor` or `limit`.",
        type="integer",
        minimum=1,
        maximum=MAX_PAGE,
    ),
    "per_page": _query(
        "per_page",
        f"Rows of a page by number: {DEFAULT_ROWS} unless something else is asked for. `page_size` is another name of"
        " it; with `meta_style=drf` the page comes in the form of Django REST framework: `count`, `next`, `previous`,"
        " `current_page`, `total_pages`, `results`.",
        type="integer",
        minimum=1,
        maximum=MAX_ROWS,
    ),
    "q": _query(
        "q",
        "Words to be found, all of them; not together with `sort`. Of posts the best matches come first, and the last"
        " may be the beginning of a word; of customers each may begin a part of their name or e-mail address.",
        type="string",
        minLength=1,
        maxLength=MAX_WORDS,
        pattern="\\S",
    ),
    "total": _query("total", "`exact` counts every row, however many there are.", type="string", enum=["exact"]),
    "cursor": _query(
        "cursor",
        "A position from `links.next` or `links.prev`, empty for the beginning. Belongs to one list with its sort and "
        "filters. Not together with `page`, `per_page` or `total`.",
        type="string",
    ),
    "limit": _query(
        "limit",
        f"Rows of a page by cursor: {DEFAULT_ROWS} unless something else is asked for.",
        type="integer",
        minimum=1,
        maximum=MAX_ROWS,
    ),
    "if_none_match": _header("If-None-Match", "The ETag of an earlier answer: 304 where it still holds."),
    "if_match": _header("If-Match", "The ETag last seen: 412 where the resource has changed since."),
    "idempotency_key": _header(
        "Idempotency-Key",
        "Any text of yours, new for each new request: sent again within 24 hours it has no second effect and gets the "
        "first answer.",
        pattern=r"^[!-+\--~]{1,255}$",
    ),
    "idempotency_key_required": {
        **_header(
            "Idempotency-Key",
            "Any text of yours, new for each new request: sent again within 24 hours it has no second effect and gets "
            "the first answer.",
            pattern=r"^[!-+\--~]{1,255}$",
        ),
        "required": True,
        "example": "order-4711",
    },
    "prefer": _header(
        "Prefer",
        "`wait=10`: hold the answer up to that many seconds, at most 25, until there is news: the work that was asked "
        "for is done, the status has changed.",
    ),
}

HEADERS: dict[str, Part] = {
    "ETag": {"description": "Strong; that of a single resource begins with its version.", "schema": {"type": "string"}},
    "Location": {
        "description": "Where the new resource, or the status of its work, is found.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {"description": "The scheme to use.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` on an answer given before to the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Preference-Applied": {"description": "The `Prefer` that was honoured.", "schema": {"type": "string"}},
    "X-Request-Id": {"description": "Yours, or one made here; it is in the logs.", "schema": {"type": "string"}},
}

SECURITY: Part = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of `POST /v1/tokens`: `Authorization: Bearer dues_…`. Each operation names the scope that "
    "the token needs, one of: " + ", ".join(f"`{scope}`" for scope in SCOPES) + ". Logging in gives all of them.",
}


def problem_answer(status: int) -> Part:
    """The answer of one refusal, as a component."""
    title, meaning, code, detail = PROBLEMS[status]
    example = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"/v1/stores/{ID}/packages",
        "code": code,
        "request_id": "019aa1c25d3e7f608a413c5e7d9b1f20",
    }
    if status in _FAULTS:
        example["errors"] = _FAULTS[status]
    names = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
    return {
        "description": meaning,
        "headers": {name: ref("headers", name) for name in ["X-Request-Id", *names]},
        "content": {"application/problem+json": {"schema": ref("schemas", "Problem"), "example": example}},
    }


def list_schema(resource: str, example: Part, path: str) -> Part:
    """A page of a list of `resource`, as a component; `example` is one row, `path` where the list is."""
    links = {"self": f"{path}?page=1", "first": f"{path}?page=1", "prev": None, "next": None, "last": f"{path}?page=1"}
    meta = {"current_page": 1, "last_page": 1, "per_page": DEFAULT_ROWS, "total": 1, "total_is_exact": True}
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": ref("schemas", resource), "maxItems": MAX_ROWS},
            "meta": {"oneOf": [ref("schemas", "PageMeta"), ref("schemas", "CursorMeta")]},
            "links": ref("schemas", "PageLinks"),
        },
        "required": ["data", "meta", "links"],
        "additionalProperties": False,
        "examples": [{"data": [example], "meta": meta, "links": links}],
    }
