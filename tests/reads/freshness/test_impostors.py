"""What answers is no Redis, or answers something else: an operator's proxy, or another server in its place."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from redis import RedisError

from api.limits import Limit, Policy
from api.server.redis_batch import UNKNOWN, CheckResult, Checks
from dues.reads.freshness.journal import Follower
from dues.reads.freshness.lua import SCRIPTS
from dues.reads.freshness.store import Store
from dues.reads.freshness.validator import Validator, ValidatorSet
from dues.redis.aio import connect
from dues.redis.client import check_takes_writes, redis_client
from dues.redis.wire import Address, CacheAway, Connection, Replies

_GREETED = b"+OK\r\n" * len(SCRIPTS) + b"$12\r\nrun_id:12345\r\n"
_HIT = b"*4\r\n$4\r\n100;\r\n$0\r\n\r\n:1000\r\n:1000\r\n"
_NO_REPLIES = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a length that is no number": b"$x\r\n\r\n",
    "a number of items that is none": b"*1e1\r\n",
    "a number that is none": b":\r\n",
    "more items than can be": b"*%d\r\n$0\r\n\r\n" % 2**63,
    "a number larger than any": b":%d\r\n" % 2**63,
    "a number smaller than any": b":%d\r\n" % (-(2**63) - 1),
    "arrays without end": b"*1\r\n" * 5000,
}
_NO_LOOKS = {
    "no array": b"+PONG\r\n",
    "too few items": b"*0\r\n",
    "of more tags": _HIT.replace(b"$4\r\n100;", b"$9\r\n100; 101;"),
}
_NO_NEWS = {
    "no array": b"+PONG\r\n",
    "too few items": b"*0\r\n",
    "no record": b"*2\r\n$4\r\n100;\r\n$3\r\n1-2\r\n",
    "no id": b"*2\r\n$3\r\n1-2\r\n$4\r\n100;\r\n",
}


class Impostor:
    """Greets as Redis does, unless `greets` is off, and gives `reply` to all else."""

    def __init__(self, reply: bytes, *, greets: bool = True) -> None:
        self._reply, self._greets = reply, greets
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        # Set whenever a client has hung up.
        self.left = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        reply = _GREETED if self._greets else self._reply
        with client:
            while client.recv(65536):
                client.sendall(reply)
                reply = self._reply
        self.left.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def impostor(request: pytest.FixtureRequest) -> Iterator[Impostor]:
    impostor = Impostor(request.param)
    yield impostor
    impostor.close()


def each_of(*tables: dict[str, bytes]) -> pytest.MarkDecorator:
    params = [pytest.param(reply, id=name) for table in tables for name, reply in table.items()]
    return pytest.mark.parametrize("impostor", params, indirect=True)


@each_of(_NO_REPLIES, _NO_LOOKS)
def test_who_looks_on_a_thread_learns_nothing_and_asks_no_more_on_that_connection(impostor: Impostor) -> None:
    with pytest.raises(CacheAway):
        Store(impostor.url).look(1, "k", ["a"])
    assert impostor.left.wait(10)


@each_of({"two hits": _HIT * 2, "half of one more": _HIT + b"*4"})
def test_who_is_told_more_than_was_asked_for_asks_no_more_on_that_connection(impostor: Impostor) -> None:
    Store(impostor.url).look(1, "k", ["a"])
    assert impostor.left.wait(10)
    impostor.left.clear()
    plan: Any = SimpleNamespace(key="k", tags=("a",), follows=False)
    ask(impostor, None, plan)
    assert impostor.left.wait(10)


@each_of({name: _HIT + reply for name, reply in _NO_NEWS.items()})
def test_so_does_who_asks_for_news_of_the_journal(impostor: Impostor) -> None:
    follower = Follower()
    with pytest.raises(CacheAway):
        Store(impostor.url).look(1, "k", ["a"], follower)
    assert impostor.left.wait(10)


@each_of(_NO_REPLIES, {"no numbers": b"+PONG\r\n" * 3})
def test_so_does_who_counts(impostor: Impostor) -> None:
    with pytest.raises(CacheAway):
        Store(impostor.url).count("limit", 60)
    assert impostor.left.wait(10)


@each_of(_NO_REPLIES, {"no number": b"+PONG\r\n", "a look": _HIT, "another number": b":0\r\n"})
def test_so_does_who_touches_and_takes_nothing_for_an_acknowledgement(impostor: Impostor) -> None:
    with pytest.raises(CacheAway):
        Store(impostor.url).touch(1, ["a"], "100")
    assert impostor.left.wait(10)


@each_of(_NO_REPLIES, _NO_LOOKS)
def test_who_looks_on_an_event_loop_is_told_that_nothing_is_known(impostor: Impostor) -> None:
    plan: Any = SimpleNamespace(key="k", tags=("a",), follows=False)
    assert ask(impostor, None, plan) == UNKNOWN
    assert impostor.left.wait(10)


@each_of({name: _HIT + reply for name, reply in _NO_NEWS.items()})
def test_so_is_who_asks_for_news_of_the_journal_there(impostor: Impostor) -> None:
    plan: Any = SimpleNamespace(key="k", tags=("a",), follows=True)
    assert ask(impostor, None, plan) == UNKNOWN
    assert impostor.left.wait(10)


@each_of(_NO_REPLIES, {"too few values": b"*0\r\n", "no values": b"+PONG\r\n"})
def test_so_is_who_asks_whether_an_answer_is_fresh(impostor: Impostor) -> None:
    assert ask(impostor, ValidatorSet.over([Validator("run:1:", ("a",), "1")]), None) == UNKNOWN
    assert impostor.left.wait(10)


@each_of(_NO_REPLIES, {"no numbers": b"+PONG\r\n" * 3})
def test_so_is_who_asks_how_much_is_used(impostor: Impostor) -> None:
    policy = Policy("read", 10, 60)
    assert ask(impostor, None, None, Limit(policy, "key")) == UNKNOWN
    assert impostor.left.wait(10)


def ask(impostor: Impostor, validators: ValidatorSet | None, plan: Any, limit: Limit | None = None) -> CheckResult:
    async def ask() -> CheckResult:
        checks = Checks(Address.parse(impostor.url), Store(impostor.url), lambda: 1)
        return await asyncio.wait_for(checks.ask(validators, limit, plan), 10)

    return asyncio.run(ask())


@pytest.mark.parametrize("reply", _NO_REPLIES.values(), ids=_NO_REPLIES)
def test_who_is_greeted_otherwise_hangs_up(reply: bytes) -> None:
    impostor = Impostor(reply, greets=False)
    address = Address.parse(impostor.url)
    with pytest.raises(CacheAway):
        Connection(address, [], 1)
    assert impostor.left.wait(10)
    impostor.left.clear()
    with pytest.raises(CacheAway):
        asyncio.run(connect(address, [], 1))
    assert impostor.left.wait(10)
    impostor.close()


_NO_ACKNOWLEDGEMENTS = _NO_REPLIES | {"a number": b":7\r\n", "another word": b"+PONG\r\n", "nothing": b"$-1\r\n"}


@pytest.mark.parametrize("reply", _NO_ACKNOWLEDGEMENTS.values(), ids=_NO_ACKNOWLEDGEMENTS)
def test_whoever_uses_the_library_need_foresee_its_errors_alone(reply: bytes) -> None:
    impostor = Impostor(reply, greets=False)
    client = redis_client(impostor.url, 1)
    for _ in range(2):
        with pytest.raises((RedisError, OSError)):
            check_takes_writes(client)
    client.close()
    impostor.close()


@pytest.mark.parametrize("reply", _NO_REPLIES.values(), ids=_NO_REPLIES)
def test_what_is_no_reply_is_refused_where_it_is_parsed(reply: bytes) -> None:
    replies = Replies()
    replies.feed(reply)
    with pytest.raises(CacheAway):
        replies.take(1)
