"""The file store: where finished reports are kept, behind an interface that an object store could serve too.

A file appears whole or not at all. Its key is made of ids and never changes hands: each attempt at a report writes
under a key of its own, so that a worker which was taken for dead cannot touch what another has published.

Where the disk fails, an OSError is raised: a report is then built later (workers/reports.py), a download answered 503
(api/downloads.py). Reads that fail are counted, and have no circuit breaker: one bad file says nothing of the others.
"""

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID

from dues.observability.metrics import FILE_FAILURES
from dues.settings import settings

log = logging.getLogger("dues.reports")

FOLDER = "reports"
_CHUNK = 256 * 1024


class Draft:
    """A file being written, unseen by others. `workspace` is a folder for temporary files, gone with the draft."""

    def __init__(self, file: BinaryIO, workspace: Path) -> None:
        self.workspace = workspace
        self.size = 0
        self._file = file
        self._hash = sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def sha256(self) -> str:
        """Of all that was written so far, in hexadecimal."""
        return self._hash.hexdigest()


class FileStore(Protocol):
    """Keys look like paths: `reports/<id>/<name>`."""

    def create(self, key: str) -> AbstractContextManager[Draft]:
        """Write a file. It appears when the block ends well, and leaves nothing behind when it does not. Raises:
        OSError."""
        ...

    def size(self, key: str) -> int | None:
        """In bytes, or None where there is no such file."""
        ...

    def read(self, key: str, start: int, stop: int) -> "FileRange":
        """The bytes from `start` up to `stop`, not included. Raises: FileNotFoundError; OSError where there is a
        file that cannot be read."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove every file below `prefix`, and what killed writers left there."""
        ...

    def unchanged(self, prefix: str, depth: int, since: datetime) -> Iterator[str]:
        """The keys of the folders so many levels below `prefix` in which no file has come or gone since then."""
        ...


class FileRange:
    """Part of a file in chunks, for as long as its reader takes: an iterator to be closed. Raises: OSError."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file
        self._left = stop - start
        try:
            with _counting_failures():
                file.seek(start)
            # Opened first, so that a file that cannot be read is found out before anything is sent.
            self._next = self._read()
        except OSError:
            file.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._next
        if not chunk:
            self.close()
            raise StopIteration
        self._next = self._read()
        return chunk

    def close(self) -> None:
        self._next, self._left = b"", 0
        self._file.close()

    def _read(self) -> bytes:
        size = min(_CHUNK, self._left)
        with _counting_failures():
            chunk = self._file.read(size) if size else b""
            if len(chunk) < size:
                raise OSError(errno.EIO, "the file is shorter than it was")
        self._left -= size
        return chunk


@contextmanager
def _counting_failures() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        FILE_FAILURES.labels(errno.errorcode.get(error.errno or 0, "unknown")).inc()
        log.error("a report's file could not be read: %s", error.strerror)
        raise


class LocalFiles:
    """Files in a folder that the web and the workers share; only their user may look into it."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    @contextmanager
    def create(self, key: str) -> Iterator[Draft]:
        path = self._path(key)
        _make_folder(path.parent)
        part, workspace = path.with_name(path.name + ".part"), path.with_name(path.name + ".work")
        workspace.mkdir(mode=0o700)
        try:
            with open(part, "xb", opener=_private) as file:
                yield Draft(file, workspace)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
            _sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)
            shutil.rmtree(workspace, ignore_errors=True)

    def size(self, key: str) -> int | None:
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, key: str, start: int, stop: int) -> FileRange:
        path = self._path(key)
        with _counting_failures():
            file = path.open("rb")
        return FileRange(file, start, stop)

    def delete(self, prefix: str) -> None:
        path = self._path(prefix)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def unchanged(self, prefix: str, depth: int, since: datetime) -> Iterator[str]:
        for path in self._path(prefix).glob("/".join("*" * depth)):
            # Another process may delete it meanwhile.
            with suppress(FileNotFoundError):
                if path.is_dir() and path.stat().st_mtime < since.timestamp():
                    yield path.relative_to(self._root).as_posix()

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not key.isascii() or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"not a key of the file store: {key!r}")
        return self._root.joinpath(*parts)


def file_store() -> FileStore:
    """The file store of the settings. Needs an application context."""
    return LocalFiles(settings().files_dir)


def report_folder(report_id: UUID) -> str:
    """What the keys of every attempt at a report begin with."""
    return f"{FOLDER}/{report_id}"


def report_key(report_id: UUID, extension: str) -> str:
    """A new key for one attempt at a report."""
    return f"{report_folder(report_id)}/{secrets.token_hex(8)}.{extension}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _make_folder(folder: Path) -> None:
    missing = [folder, *folder.parents]
    for path in reversed([path for path in missing if not path.exists()]):
        path.mkdir(mode=0o700, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    # A rename survives a power cut only once its folder is on disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
