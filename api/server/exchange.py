"""A request at the front door, and what has been found out about it."""

import time
from collections.abc import Callable

from api.limits import Limit
from api.server.admission import Priority
from api.server.asgi import Headers, Receive, Scope, Send


class Visit:
    """`authorization`, `accepts`, `none_match` and `request_id` are the headers Authorization, Accept-Encoding,
    If-None-Match and X-Request-Id. `limit` is what it counts against, of which `used` are gone, this one included;
    `take_back` is to be called should its token turn out to be good."""

    __slots__ = (
        "accepts",
        "authorization",
        "began",
        "limit",
        "method",
        "none_match",
        "path",
        "receive",
        "request_id",
        "scope",
        "send",
        "take_back",
        "used",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.began = time.perf_counter()
        self.scope, self.receive, self.send = scope, receive, send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.limit: Limit | None = None
        self.used = 0
        self.take_back: Callable[[], object] | None = None
        authorization = accepts = none_match = request_id = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value if authorization is None else _joined(authorization, value)
            elif name == b"accept-encoding":
                accepts = value if accepts is None else _joined(accepts, value)
            elif name == b"if-none-match":
                none_match = value if none_match is None else _joined(none_match, value)
            elif name == b"x-request-id":
                request_id = value if request_id is None else _joined(request_id, value)
        self.authorization: bytes | None = authorization
        self.accepts: bytes | None = accepts
        self.none_match: bytes | None = none_match
        self.request_id: bytes | None = request_id

    @property
    def raw_path(self) -> str:
        """As it was sent, nothing decoded."""
        sent: bytes = self.scope.get("raw_path") or self.path.encode()
        return sent.decode("latin-1")

    @property
    def address(self) -> str:
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def priority(self) -> Priority:
        """What is shed first under overload: feeds, then other reads, then what changes something or tells of it."""
        if self.method not in ("GET", "HEAD") or self.path.startswith("/v1/jobs"):
            return Priority.WRITE
        return Priority.FEED if self.path in ("/v1/feed", "/v1/newsfeed") else Priority.READ

    def limit_headers(self) -> Headers:
        return self.limit.pairs(self.used) if self.limit else []


def _joined(before: bytes, value: bytes) -> bytes:
    """A header that is there more than once is one, as WSGI has it."""
    return before + b"," + value
