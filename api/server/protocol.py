"""The bytes of a connection: uvicorn's own protocol, without what it takes from after a request's head.

Fields behind a body (trailers) are no headers (RFC 9110, 6.5.1): uvicorn appends them to the very list that the
request is read from, at a time when who is asking has been decided. And where a request asks for another protocol,
its parser stops at the head, so that a body which follows would be read as the next request (RFC 9112, 6.3).
"""

from typing import Any

from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker


class Protocol(HttpToolsProtocol):
    """One connection."""

    def on_headers_complete(self) -> None:
        self.scope["headers"] = list(self.headers)
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self._is_in_doubt:
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:
            # Nothing that follows is looked at: whether it is a body or a request nobody can tell any more.
            self._is_in_doubt = True
            self.cycle.keep_alive = False
            self.cycle.more_body = False
            self.cycle.message_event.set()
        except Exception:
            self.send_400_response("Invalid HTTP request received.")

    _is_in_doubt = False


class Worker(UvicornWorker):
    """Gunicorn's, with this protocol. WebSockets are not spoken."""

    CONFIG_KWARGS: dict[str, Any] = {"loop": "auto", "http": Protocol, "ws": "none"}
