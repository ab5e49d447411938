"""Bodies that are files: they go to a temporary file while they arrive, so that however large one is, memory holds a
part of it at a time. Nothing of it outlives the request, or the process.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO

from api.body import decoded_parts, encoding_of
from api.request import Request
from api.routing import Route
from dues.errors import PayloadTooLarge, Unavailable, UnsupportedMediaType
from dues.settings import settings

log = logging.getLogger("dues.server")


@contextmanager
def saving() -> Iterator[None]:
    """Around what writes files. Raises: Unavailable where the disk takes none."""
    try:
        yield
    except OSError as error:
        log.error("a file that was sent cannot be kept: %s", error.strerror or type(error).__name__)
        raise Unavailable("files cannot be kept at present", code="files_unavailable") from error


def media_type(request: Request) -> str:
    return (request.header("content-type") or "").partition(";")[0].strip().lower()


def check_upload(route: Route, request: Request) -> None:
    """What a request's head says of its file. Raises: UnsupportedMediaType, PayloadTooLarge."""
    encoding_of(request)
    if media_type(request) not in route.uploads:
        known = ", ".join(route.uploads)
        raise UnsupportedMediaType(f"the body must be {known.replace(', ', ' or ')}", headers={"Accept": known})
    if int(request.header("content-length") or 0) > settings().max_import_bytes:
        raise _too_large()


@dataclass
class Upload:
    """A body as it was sent, in a temporary file. To be closed. Needs an application context."""

    size: int = 0
    _files: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        with saving():
            self._raw = self._new_file()

    def _new_file(self) -> IO[bytes]:
        # Beside what becomes of it: the system's folder may lie in memory.
        Path(settings().files_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._files.enter_context(tempfile.TemporaryFile(dir=settings().files_dir))

    def write(self, part: bytes) -> None:
        """Raises: PayloadTooLarge, Unavailable."""
        self.size += len(part)
        if self.size > settings().max_import_bytes:
            raise _too_large()
        with saving():
            self._raw.write(part)

    def take(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self.write(part)

    def decoded(self, request: Request) -> tuple[IO[bytes], bytes]:
        """The file that was sent, from its beginning, and a digest of what it is: the same for the same file, however
        it was packed. Raises: PayloadTooLarge, BadRequest, Unavailable."""
        with saving():
            return self._decoded(request)

    def _decoded(self, request: Request) -> tuple[IO[bytes], bytes]:
        self._raw.seek(0)
        encoding, digest, file = encoding_of(request), sha256(), self._raw
        if encoding != "identity":
            file, size = self._new_file(), 0
            for part in decoded_parts(self._raw, encoding):
                size += len(part)
                if size > settings().max_import_bytes:
                    raise _too_large()
                file.write(part)
            file.seek(0)
        while part := file.read(256 * 1024):
            digest.update(part)
        file.seek(0)
        digest.update(f"{media_type(request)} {request.query}".encode())
        return file, digest.digest()

    def close(self) -> None:
        # A file has its last part written as it is closed: on a disk that is full it is gone all the same.
        with suppress(OSError):
            self._files.close()


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"a file may have at most {settings().max_import_bytes} bytes")
