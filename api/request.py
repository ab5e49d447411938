"""A request as routes see it: what was sent, whoever serves it. Flask serves all; the front door some by itself."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from flask import request

from api.request_extras import WAITS, Leftover
from dues.errors import NotFound

# What every path of ours is made of: words and ids with one slash before each, and nothing to be decoded. Servers,
# proxies and routers read other spellings each in their own way (`//v1`, `%2Fv1`, `/v1/./stores`), and what one of
# them has decided of such a path is not what another serves; so there is nothing there.
_PATH = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+/?")

# Where WSGI has them; all other headers are HTTP_….
_APART = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def is_canonical(path: str) -> bool:
    """Whether a path, as it was sent, is spelt in the one way that is served."""
    return _PATH.fullmatch(path) is not None


def refuse_other_spellings() -> None:
    """Of Flask's present request. Raises: NotFound."""
    sent: str = request.environ.get("RAW_URI") or request.path
    path = sent if sent.startswith("/") else "/" + sent.partition("://")[2].partition("/")[2]
    if not is_canonical(path.partition("?")[0]):
        raise NotFound("there is no such resource")


@dataclass(slots=True)
class Request:
    """`query` is the query string. `header` gives a header by its name in lower case, and `read` the body, both as they
    were sent. `leftover` is where to leave what the server is to do beside sending the answer; None: it does no more.
    """

    method: str
    path: str
    query: str
    header: Callable[[str], str | None]
    read: Callable[[], bytes]
    leftover: Leftover | None = None


def flask_request() -> Request:
    """Flask's present request."""
    environ = request.environ

    def header(name: str) -> str | None:
        found: str | None = environ.get(_APART.get(name) or "HTTP_" + name.upper().replace("-", "_"))
        return found

    return Request(
        environ["REQUEST_METHOD"],
        request.path,
        environ["QUERY_STRING"],
        header,
        lambda: request.get_data(cache=False),
        environ.get(WAITS),
    )


def query_parameters(text: str) -> list[tuple[str, str]]:
    """Of a query string as servers hand it on, with bytes that are no ASCII as Latin-1: what Flask calls args."""
    if not text.isascii():
        text = text.encode("latin-1").decode(errors="replace")
    return parse_qsl(text, keep_blank_values=True, errors="werkzeug.url_quote")
