"""A request, read once. Whoever serves it, whatever looks at it afterwards finds the same path, caller and fields.

A path has one spelling, an id one form, a token one reading, a field that may be there once is there once; limits,
caches, keys and handlers all take them from here.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from dues.errors import BadRequest, UriTooLong
from dues.ids import parse_id
from dues.observability.trace import begin_span

# Fields by their names in lower case.
Fields = dict[str, str]

# What those who run Dues ask, and their gateways for them: counted against no limit, and kept waiting by no client. All
# of it comes from few addresses, and a gateway whose question goes unanswered takes a web server that works out.
OPERATORS = frozenset(("/healthz", "/readyz", "/metrics"))

LONGEST_QUERY = 8192
MOST_PARAMETERS = 100

# What every path of ours is made of: words and ids with one slash before each, and nothing to be decoded. Servers,
# proxies and routers read other spellings each in their own way (`//v1`, `%2Fv1`, `/v1/./stores`), and what one of
# them has decided of such a path is not what another serves; so nothing is found there.
_PATH = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+/?")
_TARGET = re.compile(r"(?:https?://[^/?#]*)?(/[^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
_FIELD = re.compile(r"([^:\r\n]+):([^\r\n]*)\r\n")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")

_BLANKS = " \t"

# Fields that a request has once: of two, one reader would take the first and another the last.
_SINGLE = frozenset(
    (
        "authorization",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "if-modified-since",
        "if-range",
        "if-unmodified-since",
        "last-event-id",
        "range",
        "traceparent",
        "x-request-id",
    )
)


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent, of which nothing changes any more.

    method: in capitals. path: canonical, ids in lower case; "" for a target that names no path of ours.
    query: the query string as it was sent, ASCII. fields: by their names in lower case; of a list that came in several
    lines the values are joined by commas. address: the client's (api/client_address.py). token: the bearer token, None
    where no Authorization was sent, and "" for an Authorization that is not one. id: tells requests apart and keeps no
    secret: the client's own where it is fit for a log. span: the traceparent of the span that is recorded of it, None
    where none is.
    """

    method: str
    path: str
    query: str
    fields: Fields
    address: str
    token: str | None
    id: str
    span: str | None = None

    def header(self, name: str) -> str | None:
        """A field by its name in lower case."""
        return self.fields.get(name)


def make_request(method: str, target: str, fields: Fields, address: str, *, begins: bool = False) -> Request:
    """A request whose head has been read; `target` is the request line's. One that `begins` here may be recorded as a
    span; else it is part of another.

    Raises: UriTooLong, BadRequest for what is no target, and for a query of too many parameters.
    """
    if target[:1] != "/" and not _has_a_form(target, method):
        raise BadRequest("this is not HTTP/1.1", code="malformed_request")
    path, query = read_target(target)
    if query:
        if len(query) > LONGEST_QUERY:
            raise UriTooLong(f"a query may have at most {LONGEST_QUERY} bytes")
        if query.count("&") >= MOST_PARAMETERS:
            raise BadRequest(f"a query may have at most {MOST_PARAMETERS} parameters", code="too_many_parameters")
    sent_id = fields.get("x-request-id")
    request_id = sent_id if sent_id and _REQUEST_ID.fullmatch(sent_id) else new_request_id()
    span = begin_span(fields.get("traceparent")) if begins else None
    return Request(method, path, query, fields, address, read_token(fields.get("authorization")), request_id, span)


def new_request_id() -> str:
    return f"{random.getrandbits(128):032x}"


def read_fields(lines: str) -> Fields:
    """The lines of a head, each ended by CRLF, as fields. Those whose names hold an underscore are left out: a proxy
    may look at `x-name` and pass `x_name` by, and in CGI's environment both are HTTP_X_NAME.

    Raises: BadRequest.
    """
    return join_fields(_FIELD.findall(lines))


def join_fields(pairs: Iterable[tuple[str, str]]) -> Fields:
    """Raises: BadRequest for a field that is there twice and may not be."""
    fields: Fields = {}
    for sent_name, value in pairs:
        name = sent_name.lower()
        if "_" in name:
            continue
        if name in fields:
            if name in _SINGLE:
                raise BadRequest(f"the field {name} is there twice", code="repeated_field")
            fields[name] = f"{fields[name]}, {value.strip(_BLANKS)}"
        else:
            fields[name] = value.strip(_BLANKS)
    return fields


def read_target(target: str) -> tuple[str, str]:
    """The path, in its one spelling, and the query string of a request line's target (RFC 9112, 3.2)."""
    found = _TARGET.fullmatch(target)
    if found is None:
        return "", ""
    return canonical_path(found[1]), found[2] or ""


def _has_a_form(target: str, method: str) -> bool:
    """Whether a target that does not begin with a slash has another of the four forms (RFC 9112, 3.2)."""
    return "://" in target or method == ("OPTIONS" if target == "*" else "CONNECT")


def canonical_path(path: str) -> str:
    """A path as it was sent, with its ids in lower case; "" for one that is spelt in another way than is served."""
    if not _PATH.fullmatch(path):
        return ""
    if path.islower():
        return path
    # A UUID is the same in capitals (RFC 9562, 4), as Swift and .NET write it.
    return "/".join(str(parse_id(part) or part) for part in path.split("/"))


def read_token(authorization: str | None) -> str | None:
    """The token of an Authorization field: None where there is none, "" where it is no bearer token."""
    if authorization is None:
        return None
    found = _BEARER.fullmatch(authorization)
    return found[1] if found else ""


def parameters_of(query: str) -> list[tuple[str, str]]:
    """The parameters of a query string, decoded, in their order. What is no UTF-8 becomes U+FFFD."""
    return parse_qsl(query, keep_blank_values=True, errors="replace", max_num_fields=None)
