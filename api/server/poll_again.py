"""Clients that come back to wait on a status URL: they wait again without a trip into Flask.

Ten thousand who are woken together come back together. All that Flask would do is find out whose token it is, what
he may see, and whether the job has moved; the first is known from his last visit, and the others are looked at for
all who have come, in two statements (waits.py), before anything is told to anybody.
"""

import re
from collections import OrderedDict
from uuid import UUID

from api.long_poll import Waiting
from api.prefer import preferred_wait
from api.request_extras import Leftover
from api.server.asgi import Scope
from api.server.cached_response import request_id_of
from api.server.thread_pool import Finished
from api.telemetry import observer
from dues.ids import parse_id
from dues.jobs.status import jobs
from dues.reads import parse_query

STATUS_URL = "/v1/jobs/"
_VERSION = re.compile(rb'(?:W/)?"([0-9]{1,18})"')
_MOST_TOKENS = 10_000

_observe = observer("GET", STATUS_URL + "{job_id}", 304)


class Regulars:
    """The tokens that have been good for a status URL. What else is in a token never changes."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[bytes, UUID] = OrderedDict()

    def remember(self, scope: Scope, waiting: Waiting) -> None:
        """Flask has let this client wait on a status URL."""
        for name, value in scope["headers"]:
            if name == b"authorization":
                self._tokens[value] = waiting.token_id
                self._tokens.move_to_end(value)
        if len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)

    def recall(self, scope: Scope) -> Finished | None:
        """What Flask would answer at once: nothing new, and a client that waits. None: ask Flask."""
        if scope["method"] != "GET" or not scope["path"].startswith(STATUS_URL) or scope["query_string"]:
            return None
        job_id = parse_id(scope["path"].removeprefix(STATUS_URL))
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b"," + value if name in headers else value
        token_id = self._tokens.get(headers.get(b"authorization", b""))
        seen = _VERSION.fullmatch(headers.get(b"if-none-match", b""))
        seconds = preferred_wait(headers.get(b"prefer", b"").decode("latin-1"))
        if not (job_id and token_id and seen and seconds) or b"content-length" in headers:
            return None
        waiting = Waiting(job_id, int(seen[1]), token_id, parse_query(jobs, (), one=True), seconds, is_unchecked=True)
        answer = [
            (b"etag", b'"%s"' % seen[1]),
            (b"cache-control", b"private, no-cache"),
            (b"vary", b"Accept-Encoding, Authorization"),
            (b"retry-after", b"1"),
            (b"x-request-id", request_id_of(headers.get(b"x-request-id"))),
        ]
        _observe(0.0)
        return Finished(304, answer, b"", Leftover(waiting=waiting))
