"""Private folders, folders with a path short enough for a socket, and files that are written completely or not at
all."""

import hashlib
import json
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Any

from local.process import CannotStart

# Linux allows 107 bytes, macOS 103.
_LONGEST_SOCKET_PATH = 100


def private(folder: Path, account: str | None = None, mode: int = 0o700) -> Path:
    """Make `folder` belong to `account` (default: our own), with no access for others. Its parents are not changed.

    Raises: CannotStart if it belongs to somebody else or cannot be created.
    """
    uid = pwd.getpwnam(account).pw_uid if account else os.geteuid()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (uid, os.geteuid()):
            raise CannotStart(f"{folder} is not ours: remove it or choose another DUES_HOME")
        if found.st_uid != uid:
            os.chown(folder, uid, pwd.getpwuid(uid).pw_gid, follow_symlinks=False)
        folder.chmod(mode)
    except OSError as error:
        raise CannotStart(f"cannot make {folder}: {error.strerror}; choose another DUES_HOME") from error
    return folder


def for_sockets(folder: Path, longest_name: str, account: str | None = None) -> Path:
    """Make `folder` private; if its path is too long for a socket called `longest_name`, use one in the temporary
    folder.

    The folder in the temporary folder is the same each time. Returns: the folder to use.
    """
    if len(os.fsencode(folder / longest_name)) > _LONGEST_SOCKET_PATH:
        folder = Path(tempfile.gettempdir()) / f"dues-{fingerprint(folder)}"
    return private(folder, account)


def fingerprint(folder: Path) -> str:
    """A short name for a folder and the current user, fit for a file name."""
    return hashlib.sha256(f"{os.geteuid()}:{folder}".encode()).hexdigest()[:12]


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace the contents of `path` with `text` atomically: a reader, or a crash, finds the old or the new
    contents."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    Path(temporary).chmod(mode)
    Path(temporary).replace(path)


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file, or no whole object in it."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
