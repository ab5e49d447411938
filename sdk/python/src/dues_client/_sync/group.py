# Made from ../_async by `python -m sdk.generator`: change it there.
"""What the groups of operations are built on: how a call's answer becomes what the caller gets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from dues_client._exchange import Answer, request_headers, retry_delay
from dues_client._http import httpx
from dues_client._model import UNSET, Model, Unset
from dues_client._sync.download import Download
from dues_client._sync.paging import Paged
from dues_client._sync.started import Started
from dues_client.errors import ApiError, NetworkError
from dues_client.models import Job

M = TypeVar("M", bound=Model)

# The server says that it is there every 15 seconds.
_SILENCE_S = 45.0


class Caller(Protocol):
    """What a group needs of the client."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        request_timeout: float | None = None,
    ) -> Answer: ...

    def stream(
        self, path: str, *, headers: Mapping[str, str], request_timeout: float | None = None
    ) -> AbstractContextManager[httpx.Response]: ...


class Group:
    """Operations that belong together."""

    def __init__(self, client: Caller) -> None:
        self._client = client

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | bytes | None = None,
        idempotency_key: str | Unset | None = UNSET,
        if_version: int | None = None,
        wait: int | None = None,
        content_type: str | None = None,
        request_timeout: float | None = None,
    ) -> Answer:
        headers = request_headers(key=idempotency_key, if_version=if_version, wait=wait, content_type=content_type)
        return self._client.call(method, path, query=query, body=body, headers=headers, request_timeout=request_timeout)

    def _one(self, model: type[M], method: str, path: str, **options: Any) -> M:
        return model((self._call(method, path, **options)).data)

    def _none(self, method: str, path: str, **options: Any) -> None:
        self._call(method, path, **options)

    def _slow(self, model: type[M], method: str, path: str, **options: Any) -> Started[M]:
        answer = self._call(method, path, **options)
        return Started(self._client, model(answer.data), answer)

    def _list(self, model: type[M], path: str, **options: Any) -> Paged[M]:
        return Paged(self._client, model, path, **options)

    def _file(self, path: str, *, request_timeout: float | None = None) -> Download:
        return Download(self._client, path, request_timeout)

    def _events(self, path: str, *, request_timeout: float | None = None) -> Iterator[Job]:
        """The states of a job, until it is done. A stream that breaks is taken up where it was."""
        last_id, failures = "", 0
        while True:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
            try:
                with self._client.stream(
                    path, headers=headers, request_timeout=request_timeout or _SILENCE_S
                ) as response:
                    if response.status_code == 204:
                        return
                    for line in response.iter_lines():
                        name, _, value = line.partition(":")
                        if name == "id":
                            last_id = value.strip()
                        elif name == "data":
                            failures = 0
                            job = Job(json.loads(value))
                            yield job
                            if job.done:
                                return
            except (ApiError, NetworkError) as error:
                failures += 1
                delay = retry_delay(failures, error, "GET", {})
                if delay is None or failures > 5:
                    raise
                time.sleep(delay)
