# Made from ../_async by `python -m sdk.generator`: change it there.
"""The client itself: who is calling, and one call with its retries."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any

from dues_client._exchange import LAST, USER_AGENT, Answer, Options, network_error, read_answer, retry_delay, sendable
from dues_client._http import httpx
from dues_client._model import body_of, query_of
from dues_client._sync.groups import Groups
from dues_client.errors import ApiError, NetworkError, NotFound


class Dues(Groups):
    """A client of one Dues.

        with Dues(token) as dues:
            for package in dues.packages.list(store_id):
                print(package.name, package.money)

    token, url: by default those of DUES_TOKEN and DUES_URL. timeout: seconds for a whole call with its retries;
    request_timeout: for one attempt. retries: further attempts after one that failed. transport: an httpx transport,
    for tests and proxies.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        url: str | None = None,
        timeout: float = 60.0,
        request_timeout: float = 30.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = (url or os.environ.get("DUES_URL") or "http://127.0.0.1:8000").rstrip("/")
        self._token = token or os.environ.get("DUES_TOKEN") or ""
        self._options = Options(timeout, request_timeout, retries)
        self._http = httpx.Client(transport=transport, headers={"User-Agent": USER_AGENT, "Accept": "application/json"})
        super().__init__(self)

    def with_options(
        self,
        *,
        token: str | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
        retries: int | None = None,
    ) -> Dues:
        """The same client, on the same connections, with other options or as somebody else."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        mine = self._options
        other._options = Options(
            mine.timeout if timeout is None else timeout,
            mine.request_timeout if request_timeout is None else request_timeout,
            mine.retries if retries is None else retries,
        )
        other._token = self._token if token is None else token
        Groups.__init__(other, other)
        return other

    def log_in(self, email: str, password: str) -> Dues:
        """The same client as the user with this e-mail and password."""
        issued = self.with_options(token="").tokens.log_in(email=email, password=password)
        return self.with_options(token=issued.token)

    @property
    def last(self) -> Answer | None:
        """The last answer that this thread or task got: its status, headers and request id."""
        return LAST.get()

    def __enter__(self) -> Dues:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        request_timeout: float | None = None,
    ) -> Answer:
        """One call of any path, tried again where that is safe. Raises: ApiError, NetworkError."""
        headers = headers or {}
        give_up, attempt, lost = monotonic() + self._options.timeout, 0, False
        while True:
            attempt += 1
            limit = min(request_timeout or self._options.request_timeout, max(give_up - monotonic(), 0.001))
            request = self._request(method, path, query, body, headers, limit)
            try:
                response = self._http.send(request)
                return read_answer(response, response.content)
            except httpx.TransportError as cause:
                lost = True
                failure: ApiError | NetworkError = network_error(cause)
            except NotFound as gone:
                if method == "DELETE" and lost:
                    # The answer that was lost said so.
                    return Answer(204, gone.headers, None)
                raise
            except ApiError as refused:
                failure = refused
            delay = retry_delay(attempt, failure, method, headers)
            if delay is None or attempt > self._options.retries or monotonic() + delay > give_up:
                raise failure
            time.sleep(delay)

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str], request_timeout: float | None = None
    ) -> Iterator[httpx.Response]:
        """An answer that is read as it comes in, once. Raises: ApiError, NetworkError."""
        limit = request_timeout or self._options.request_timeout
        request = self._request("GET", path, None, None, headers, limit)
        try:
            response = self._http.send(request, stream=True)
            try:
                if response.status_code >= 300:
                    read_answer(response, response.read())
                yield response
            finally:
                response.close()
        except httpx.TransportError as cause:
            raise network_error(cause) from cause

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | bytes | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> httpx.Request:
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is no path")
        all_headers = {**headers, **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        return self._http.build_request(
            method,
            self.url + path,
            params=(query_of(query) if query else None) or None,
            content=body if isinstance(body, bytes) else None,
            json=None if body is None or isinstance(body, bytes) else body_of(body),
            headers=sendable(all_headers),
            timeout=timeout,
        )
