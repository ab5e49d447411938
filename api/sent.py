"""A request as routes see it: what was sent, whoever serves it. Flask serves all; the front door some by itself."""

from collections.abc import Callable
from dataclasses import dataclass

from flask import request

from api.door import WAITS, Leftover

# Where WSGI has them; all other headers are HTTP_….
_APART = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


@dataclass(slots=True)
class Sent:
    """`query` is the query string. `header` gives a header by its name in lower case, and `read` the body, both as they
    were sent. `leftover` is where to leave what the server is to do beside sending the answer; None: it does no more.
    """

    method: str
    path: str
    query: str
    header: Callable[[str], str | None]
    read: Callable[[], bytes]
    leftover: Leftover | None = None


def sent_to_flask() -> Sent:
    """Flask's present request."""
    environ = request.environ

    def header(name: str) -> str | None:
        found: str | None = environ.get(_APART.get(name) or "HTTP_" + name.upper().replace("-", "_"))
        return found

    return Sent(
        environ["REQUEST_METHOD"],
        request.path,
        environ["QUERY_STRING"],
        header,
        lambda: request.get_data(cache=False),
        environ.get(WAITS),
    )
