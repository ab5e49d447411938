"""redis-py's client as Dues uses it: each receiving bounded in time, and leaving trying again to its user."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import ConnectionError as RedisAway
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from urls import read_redis_url

# A connection that only listens sends nothing, and so would never learn that its peer is gone: the kernel asks after
# five seconds of silence, and gives up after five more.
_KEEP_ALIVE = {
    getattr(socket, name): value
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", 10_000),
    )
    # Not every system knows all of them.
    if hasattr(socket, name)
}


@contextmanager
def _foreseen() -> Iterator[None]:
    """A server in Redis' place may reply in no form of Redis' own. What redis-py raises then may be anything, and its
    callers foresee a RedisError."""
    try:
        yield
    except (RedisError, OSError):
        raise
    except Exception as error:
        raise RedisAway(f"this is no reply of Redis' ({type(error).__name__})") from error


class _Wary:
    def on_connect_check_health(self, *args: Any, **options: Any) -> Any:
        with _foreseen():
            return super().on_connect_check_health(*args, **options)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        with _foreseen():
            return super().read_response(*args, **options)  # type: ignore[misc]


class _Tcp(_Wary, Connection):
    pass


class _Tls(_Wary, SSLConnection):
    pass


class _Unix(_Wary, UnixDomainSocketConnection):
    pass


def check_takes_writes(client: Redis, prefix: str = "dues:") -> None:
    """Write a name, which begins with `prefix` and is gone a second later. Raises: redis.RedisError, which is a
    ResponseError where the server is there and takes no writes: it is a replica, say, or its memory is full."""
    if client.set(f"{prefix}probe", "1", px=1000) is not True:
        raise RedisAway("a write was to be acknowledged, and is not what was answered")


def takes_writes(client: Redis, prefix: str) -> bool:
    """Whether `check_takes_writes()` finds no fault."""
    try:
        check_takes_writes(client, prefix)
    except (RedisError, OSError):
        return False
    return True


def redis_client(url: str, timeout_s: float) -> Redis:
    """A client that waits at most `timeout_s` for a connection, and as long for an answer. Nothing is connected yet.
    Raises: ValueError."""
    found = read_redis_url(url)
    place: dict[str, Any] = {"unix_socket_path": found.path}
    if not found.path:
        place = {
            "host": found.host,
            "port": found.port,
            "ssl": found.tls,
            "socket_keepalive": True,
            "socket_keepalive_options": _KEEP_ALIVE,
        }
    client = Redis(
        **place,
        db=found.db,
        username=found.username or None,
        password=found.password or None,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    client.connection_pool.connection_class = _Unix if found.path else _Tls if found.tls else _Tcp
    return client
