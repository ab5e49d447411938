"""Pages of other origins in browsers, which may read an answer only where it says so (the Fetch standard, 3.2).

`CORS_ORIGINS` lists them. No cookie is ever looked at here, so an origin that is allowed gets no more than what the
token that its page holds opens, or what everybody may see.
"""

from api.reply import Reply
from api.request import Request

# What a page may send, and what of an answer's header it may read, beyond what each page may.
ALLOWED = (
    "Authorization",
    "Content-Type",
    "Content-Encoding",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "traceparent",
    "X-Request-Id",
)
EXPOSED = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "Date",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Server-Timing",
    "Vary",
    "WWW-Authenticate",
    "X-Request-Duration",
    "X-Request-Id",
)
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
# How long a browser need not ask again, in seconds: the most that one of them takes.
_KEPT_S = 7200


class Cors:
    """What `CORS_ORIGINS` allows: origins separated by commas, `*` for all, or none."""

    def __init__(self, origins: str) -> None:
        self._origins = frozenset(origins.split(",")) if origins else frozenset[str]()
        exposed = f"access-control-expose-headers: {', '.join(EXPOSED)}\r\n"
        # Where not all are allowed, an answer depends on who asks: caches must keep them apart.
        self._of_others = b"" if not origins or origins == "*" else b"vary: Origin\r\n"
        self._lines = {
            origin: self._of_others + f"access-control-allow-origin: {origin}\r\n{exposed}".encode()
            for origin in self._origins
        }

    def lines(self, origin: str | None) -> bytes:
        """The header fields of every answer to a request of this Origin, as they go over the wire."""
        return self._lines.get("*") or self._lines.get(origin or "", self._of_others)

    def preflight(self, request: Request) -> Reply | None:
        """The answer to a browser that asks what a page may send; None where that is not what is asked. It needs no
        token and counts against no limit: browsers ask by themselves, and send nothing along."""
        fields = request.fields
        if not self._origins or request.method != "OPTIONS" or "access-control-request-method" not in fields:
            return None
        if not self._origins & {"*", fields.get("origin", "")}:
            return None
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": ", ".join(ALLOWED),
            "Access-Control-Max-Age": str(_KEPT_S),
        }
        return Reply(None, 204, headers)
