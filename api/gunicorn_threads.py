"""Gunicorn's worker of threads for `gunicorn wsgi:app`, whose own refusals are problem details too."""

import logging
from contextlib import suppress
from typing import Any

from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

from api.http import problem_reply
from api.request import new_request_id
from dues.errors import BadRequest, HeadersTooLarge, Problem, UnknownCoding, UriTooLong

log = logging.getLogger("dues.server")

_STATUS_WORDS = {400: b"Bad Request", 414: b"URI Too Long", 431: b"Request Header Fields Too Large"}


class Worker(ThreadWorker):
    """One web process of threads."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Told to end, it would wait for clients that it holds (`Prefer: wait`), who may have left long ago."""
        self.wsgi.extensions["thread_waiters"].close()
        super().handle_exit(sig, frame)  # type: ignore[no-untyped-call]

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """A request that could not be read is refused, and the connection closed."""
        problem = _problem_of(exc)
        if problem.status == Problem.status:
            log.error("a request could not be answered", exc_info=exc)
        request_id = new_request_id()
        reply = problem_reply(problem, None, request_id)
        fields = "".join([f"{name}: {value}\r\n" for name, value in reply.fields()]).encode("latin-1")
        words = _STATUS_WORDS.get(reply.status, problem.title.encode())
        head = b"HTTP/1.1 %d %b\r\n%bX-Request-Id: %b\r\nConnection: close\r\n\r\n"
        with suppress(OSError):
            client.sendall(head % (reply.status, words, fields, request_id.encode()) + (reply.body or b""))


def _problem_of(error: BaseException) -> Problem:
    match error:
        case LimitRequestLine():
            return UriTooLong("the request line is too long")
        case LimitRequestHeaders():
            return HeadersTooLarge("the fields of the request are too many, or too long")
        case UnsupportedTransferCoding():
            return UnknownCoding("Transfer-Encoding may be chunked and nothing else")
        case ConfigurationProblem():
            return Problem("something went wrong here; the request id finds it in the logs")
        case ExpectationFailed() | ParseException():
            return BadRequest("this is not HTTP/1.1", code="malformed_request")
    return Problem("something went wrong here; the request id finds it in the logs")
