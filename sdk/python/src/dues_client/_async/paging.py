"""Lists: walked through to their end, or read by the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dues_client._model import Model

if TYPE_CHECKING:
    from dues_client._async.group import AsyncCaller

M = TypeVar("M", bound=Model)

_MOST_ROWS = 100


@dataclass(frozen=True)
class AsyncPage(Generic[M]):
    """One page by its number. `total` is exact up to 10,000 rows and an estimate beyond (`total_is_exact`);
    `last_page` is above `current_page` as long as rows follow."""

    data: list[M]
    current_page: int
    last_page: int
    per_page: int
    total: int
    total_is_exact: bool

    def __iter__(self) -> Iterator[M]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


class AsyncPaged(Generic[M]):
    """A list of the API. Nothing is asked for until it is walked through, or a page of it is wanted.

    async for payment in dues.payments.list(store_id, status="failed"):
        …
    """

    def __init__(
        self,
        client: AsyncCaller,
        model: type[M],
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        page_size: int | None = None,
        request_timeout: float | None = None,
    ) -> None:
        self._client, self._model, self._path = client, model, path
        self._query = dict(query or {})
        self._page_size = page_size or _MOST_ROWS
        self._request_timeout = request_timeout

    def __aiter__(self) -> AsyncIterator[M]:
        """Every row once, by cursor: rows that come or go meanwhile move no others."""
        return self._walk(self._page_size)

    async def _walk(self, page_size: int) -> AsyncIterator[M]:
        link: str | None = self._path
        query: Mapping[str, Any] | None = {**self._query, "cursor": "", "limit": page_size}
        while link:
            answer = await self._client.call("GET", link, query=query, request_timeout=self._request_timeout)
            for row in answer.data["data"]:
                yield self._model(row)
            # The link has all the parameters in it.
            link, query = answer.data["links"]["next"], None

    async def page(self, number: int = 1, *, per_page: int | None = None, exact: bool = False) -> AsyncPage[M]:
        """One page by its number, from 1 on; `exact` has the rows counted however many there are."""
        query = {**self._query, "page": number, "per_page": per_page or self._page_size}
        if exact:
            query["total"] = "exact"
        answer = await self._client.call("GET", self._path, query=query, request_timeout=self._request_timeout)
        return AsyncPage([self._model(row) for row in answer.data["data"]], **answer.data["meta"])

    async def to_list(self, *, limit: int | None = None) -> list[M]:
        """The rows as a list: all of them, or the first `limit`."""
        rows: list[M] = []
        if limit is not None and limit < 1:
            return rows
        async for row in self._walk(min(self._page_size, limit or _MOST_ROWS)):
            rows.append(row)
            if len(rows) == limit:
                break
        return rows

    async def first(self) -> M | None:
        """The first row, or None."""
        rows = await self.to_list(limit=1)
        return rows[0] if rows else None
