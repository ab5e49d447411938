"""What can go wrong, each with its HTTP status and a code that clients may rely on.

Raised anywhere below the API, rendered as problem details (RFC 9457) in one place: `api/http.py`.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar, Self

import msgspec

# Faults that one problem names: beyond, an answer would only grow with what is wrong with its question.
MOST_FAULTS = 20


class Fault(msgspec.Struct, omit_defaults=True):
    """One fault of a request: where (a JSON pointer into the body, or a query parameter), which, and in words."""

    code: str
    detail: str
    pointer: str = ""
    parameter: str = ""


class InvalidValue(ValueError):
    """What a function that reads one value raises where it is none: the code and the words of the fault, which whoever
    knows where the value stands makes of it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class Problem(Exception):
    """A refusal that the client is told about.

    `code` is stable; `detail` is for people and never holds a secret; `headers` go out with the answer.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    code: str = "internal_error"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str = "",
        errors: list[Fault] | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = errors or []
        self.headers = headers or {}
        self.members = members

    @classmethod
    def of_faults(cls, faults: Iterable[Fault]) -> Self:
        """A problem that names each of `faults`, of which it takes no more than it tells, and says where there are
        more."""
        told = list(islice(faults, MOST_FAULTS + 1))
        detail = "; ".join(f"{fault.pointer or fault.parameter}: {fault.detail}" for fault in told[:MOST_FAULTS])
        if len(told) > MOST_FAULTS:
            told[MOST_FAULTS:] = [Fault(code="more", detail="and more", pointer="#")]
            detail += "; and more"
        return cls(detail, errors=told)


class BadRequest(Problem):
    status, title, code = 400, "Bad request", "bad_request"


class InvalidParameter(BadRequest):
    """A query parameter or header that is unknown or unreadable; `errors` name each."""

    title, code = "Invalid parameter", "invalid_parameter"

    @classmethod
    def of(cls, parameter: str, detail: str, code: str = "invalid") -> "InvalidParameter":
        return cls.of_faults([Fault(code=code, detail=detail, parameter=parameter)])


class Unauthenticated(Problem):
    status, title, code = 401, "Not authenticated", "unauthenticated"


class Forbidden(Problem):
    status, title, code = 403, "Forbidden", "forbidden"


class NotFound(Problem):
    status, title, code = 404, "Not found", "not_found"


class MethodNotAllowed(Problem):
    status, title, code = 405, "Method not allowed", "method_not_allowed"


class RequestTimeout(Problem):
    status, title, code = 408, "Request timeout", "request_timeout"


class Conflict(Problem):
    """The request is well-formed, but not possible in the present state."""

    status, title, code = 409, "Conflict", "conflict"


class InvalidTransition(Conflict):
    """A state machine has no such move."""

    code = "invalid_transition"


class Gone(Problem):
    """What there was once, and what is kept no more."""

    status, title, code = 410, "Gone", "gone"


class PreconditionFailed(Problem):
    status, title, code = 412, "Precondition failed", "precondition_failed"


class PayloadTooLarge(Problem):
    status, title, code = 413, "Payload too large", "payload_too_large"


class UriTooLong(Problem):
    status, title, code = 414, "URI too long", "uri_too_long"


class FailedDependency(Problem):
    """What this rests on has failed, so it was not tried."""

    status, title, code = 424, "Failed dependency", "failed_dependency"


class UnsupportedMediaType(Problem):
    status, title, code = 415, "Unsupported media type", "unsupported_media_type"


class RangeNotSatisfiable(Problem):
    status, title, code = 416, "Range not satisfiable", "range_not_satisfiable"


class Misdirected(Problem):
    """Another server has what was asked for."""

    status, title, code = 421, "Misdirected request", "misdirected"


class ValidationFailed(Problem):
    """The body is readable but wrong; `errors` hold every fault at once."""

    status, title, code = 422, "Validation failed", "validation"

    @classmethod
    def of(cls, pointer: str, detail: str, code: str = "invalid") -> "ValidationFailed":
        return cls.of_faults([Fault(code=code, detail=detail, pointer=pointer)])


class TooManyRequests(Problem):
    status, title, code = 429, "Too many requests", "rate_limited"


class HeadersTooLarge(Problem):
    status, title, code = 431, "Request header fields too large", "headers_too_large"


class UnknownCoding(Problem):
    """A transfer coding that is not spoken here."""

    status, title, code = 501, "Not implemented", "unknown_transfer_coding"


class Unsupported(Problem):
    """Something that the database cannot do: the request is right, and asking again does not help."""

    status, title, code = 501, "Not implemented", "unsupported"


class UnknownVersion(Problem):
    status, title, code = 505, "HTTP version not supported", "unknown_http_version"


class Unavailable(Problem):
    """Something Dues stands on is away; the client may come back after `Retry-After`."""

    status, title, code = 503, "Service unavailable", "unavailable"


class Outdated(Exception):
    """What was worked out before a transaction() no longer holds inside it: it is to be worked out anew."""
