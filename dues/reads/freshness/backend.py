"""The cache as Flask-Caching configures and reaches it: `CACHE_TYPE`, `CACHE_REDIS_URL`, `CACHE_KEY_PREFIX` and
`CACHE_DEFAULT_TIMEOUT` (seconds). Values are bytes and have tags; nothing is ever pickled.

What knows only time (`get`, `set`, and with them `@cached` and `memoize`) is refused: `read()` takes its place.
"""

import time
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn

from flask import Flask
from flask_caching.backends.base import BaseCache

from config import Settings
from dues.postgres import connect
from dues.reads.freshness.reader import Reader
from dues.reads.freshness.store import TOUCH_TIMEOUT_S, Store
from dues.reads.freshness.switch import DISTRIBUTED, SETTLE_S, Poller, Restorer, SwitchTable
from dues.reads.freshness.writer import Writer
from dues.redis.client import redis_client, takes_writes

_CONNECT_S = 2
_PROGRAM = Path(__file__).resolve().parents[2]


class CacheBarred(Exception):
    """The cache must stay off here; the message says why."""


class FreshCache(BaseCache):
    """One process's parts of the protocol, put together."""

    def __init__(self, config: Settings, redis_url: str, prefix: str, life_s: float, release: bytes = b"") -> None:
        super().__init__(default_timeout=int(life_s))
        self.store = Store(redis_url, prefix, release)
        self.switch = SwitchTable(partial(connect, config, "dues cache switch", _CONNECT_S))
        self.poller = Poller(self.switch)
        self.writer = Writer(self.store, self.switch)
        self._redis = redis_client(redis_url, TOUCH_TIMEOUT_S)
        self.restorer = Restorer(self.switch, partial(takes_writes, self._redis, prefix))
        self.reader = Reader(self.store, self.poller.generation, self.switch.new_xid, life_s)

    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> "FreshCache":
        """Called by Flask-Caching."""
        return cls(
            app.extensions["settings"],
            config["CACHE_REDIS_URL"],
            config["CACHE_KEY_PREFIX"],
            config["CACHE_DEFAULT_TIMEOUT"],
            _release(config["SECRET_KEY"]),
        )

    def clear(self) -> bool:
        """Forget everything, by a new generation. Takes a second: every process must notice first.

        Raises: CacheBarred where the cache must stay off.
        """
        row = self.switch.read()
        if row and row.is_distributed:
            raise CacheBarred(DISTRIBUTED)
        if row and row.on:
            self.switch.close(row.generation, "all that is in it is to be forgotten")
        if not (row and row.settled):
            time.sleep(SETTLE_S)
            self.switch.settle(row.generation if row else None)
        closed = self.switch.read()
        return bool(closed and self.switch.open(closed.generation))

    def stop(self) -> None:
        """End the thread and close the connections of this process."""
        self.poller.stop()
        self.store.close()
        self._redis.close()

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError("what is cached needs tags and the snapshot it was read in: use read()")

    get = set = add = has = delete = get_many = get_dict = set_many = delete_many = inc = dec = _refuse


def _release(secret_key: str) -> bytes:
    """What an answer depends on beside the data: the program that writes it, and the key that signs its cursors."""
    digest = blake2b(secret_key.encode(), digest_size=16)
    for file in sorted(_PROGRAM.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.digest()
