"""Files: read as they come in, and taken up where they broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from dues_client._exchange import retry_delay
from dues_client.errors import ApiError, DownloadChanged, NetworkError

if TYPE_CHECKING:
    from dues_client._async.group import AsyncCaller

_MOST_FAILURES = 5


class AsyncDownload:
    """A file of the API. Nothing is loaded until it is read."""

    def __init__(self, client: AsyncCaller, path: str, request_timeout: float | None) -> None:
        self._client, self._path, self._request_timeout = client, path, request_timeout
        self.content_type = ""
        self.filename = ""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Its bytes, in pieces. Where the connection breaks, the rest is asked for. Raises: DownloadChanged where that
        is of another file by then."""
        done, etag, failures = 0, "", 0
        while True:
            # Parts are counted in the file's own bytes, so nothing is compressed on the way.
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
            if done:
                headers |= {"Range": f"bytes={done}-", "If-Range": etag}
            try:
                async with self._client.stream(
                    self._path, headers=headers, request_timeout=self._request_timeout
                ) as response:
                    if done and response.status_code != 206:
                        raise DownloadChanged("the file is another one now")
                    etag = response.headers.get("etag", "")
                    self.content_type = response.headers.get("content-type", "")
                    self.filename = _filename(response.headers.get("content-disposition", ""))
                    async for piece in response.aiter_bytes():
                        done += len(piece)
                        failures = 0
                        yield piece
                return
            except (NetworkError, ApiError) as error:
                failures += 1
                delay = retry_delay(failures, error, "GET", {})
                if delay is None or failures > _MOST_FAILURES or (done and not etag):
                    raise
                await asyncio.sleep(delay)

    async def read(self) -> bytes:
        """All of it."""
        pieces = bytearray()
        async for piece in self:
            pieces += piece
        return bytes(pieces)

    async def save(self, path: str | Path) -> Path:
        """Write it to `path`, which is there only once it is whole. Returns: the path."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as file:
                async for piece in self:
                    file.write(piece)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target


def _filename(disposition: str) -> str:
    """Of `attachment; filename="payments.csv"`; the name alone, whatever folders it was sent with."""
    _, _, rest = disposition.partition("filename=")
    return Path(rest.split(";")[0].strip().strip('"').replace("\\", "/")).name
