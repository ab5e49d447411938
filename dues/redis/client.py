"""redis-py's client as Dues uses it: bounded in time, and leaving trying again to its user."""

import socket
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
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


def check_takes_writes(client: Redis, prefix: str = "dues:") -> None:
    """Write a name, which begins with `prefix` and is gone a second later. Raises: redis.RedisError, which is a
    ResponseError where the server is there and takes no writes: it is a replica, say, or its memory is full."""
    client.set(f"{prefix}probe", "1", px=1000)


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
    return Redis(
        **place,
        db=found.db,
        username=found.username or None,
        password=found.password or None,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
