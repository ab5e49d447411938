"""Redis's protocol: addresses, replies cut anywhere, and connections that are never used twice after a failure."""

import os
import signal
import socket
import threading
import time
from contextlib import closing

import pytest
import redis

from dues.redis.wire import Address, CacheAway, Command, Connection, Pool, Replies, ReplyError, encode
from local.valkey import Valkey


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", ("", "localhost", 6379, False, "", "", 0)),
        ("redis://cache.example:7000/3", ("", "cache.example", 7000, False, "", "", 3)),
        ("rediss://me:p%40ss@[::1]:1/0", ("", "::1", 1, True, "me", "p@ss", 0)),
        ("valkeys://:secret@h", ("", "h", 6379, True, "", "secret", 0)),
        ("unix:///run/a%20b.sock?db=2", ("/run/a b.sock", "localhost", 6379, False, "", "", 2)),
    ],
)
def test_addresses(url: str, expected: tuple[object, ...]) -> None:
    address = Address.parse(url)
    found = (address.path, address.host, address.port, address.tls, address.username, address.password, address.db)
    assert found == expected


def test_another_address_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match="no such URL") as refused:
        Address.parse("memcached://:hidden@h")
    assert "hidden" not in str(refused.value)


def test_replies_are_read_whole_wherever_they_are_cut() -> None:
    data = b"+OK\r\n:-7\r\n$-1\r\n$4\r\na\r\nb\r\n*3\r\n$1\r\nx\r\n*-1\r\n*0\r\n-ERR no\r\n"
    for cut in range(1, len(data)):
        replies = Replies()
        replies.feed(data[:cut])
        assert replies.take(6) is None
        replies.feed(data[cut:])
        *plain, refusal = replies.take(6) or []
        assert plain == [b"OK", -7, None, b"a\r\nb", [b"x", None, []]]
        assert isinstance(refusal, ReplyError)


def test_commands_are_encoded_by_bytes() -> None:
    assert encode([("SET", "é", 5), ("GET", b"\xff")]) == (
        b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$1\r\n5\r\n*2\r\n$3\r\nGET\r\n$1\r\n\xff\r\n"
    )


def test_a_connection_whose_call_ran_out_of_time_reads_no_later_reply(valkey: Valkey) -> None:
    pool = Pool(Address.parse(valkey.url), [])
    pool.ask(lambda _: [("SET", "k", "old")], 1)
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(CacheAway):
            pool.ask(lambda _: [("GET", "k")], 0.05)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)

    assert pool.ask(lambda _: [("SET", "k", "new"), ("GET", "k")], 1) == [b"OK", b"new"]
    pool.close()


def test_a_reply_that_comes_in_parts_has_no_more_time_than_one_that_is_whole() -> None:
    """Each part that comes late leaves the rest what is left of the call's time, and the next call has its own."""
    said = [
        (0.0, b"$8\r\nrun_id:a\r\n"),
        (0.0, b"$2\r\nh"),
        (0.1, b"i\r\n"),
        (0.0, b"$2\r\nho\r\n"),
        (1.6, b"$2\r\nh"),
    ]

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            for after_s, part in said:
                if part.startswith(b"$"):
                    client.recv(1000)
                time.sleep(after_s)
                client.sendall(part)
            # Silent from now on, until the other side hangs up.
            client.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        connection = Connection(Address.parse(f"redis://127.0.0.1:{listener.getsockname()[1]}"), (), 20)
        assert connection.call([("GET", "k")], 20) == [b"hi"]
        assert connection.call([("GET", "k")], 20) == [b"ho"]
        began = time.monotonic()
        with pytest.raises(CacheAway, match="in time"):
            connection.call([("GET", "k")], 2)
        assert time.monotonic() - began < 3.2
        thread.join()


def test_a_lost_idle_connection_is_replaced_and_its_commands_written_anew(valkey: Valkey) -> None:
    pool = Pool(Address.parse(valkey.url), [])
    seen: list[str] = []

    def ping(connection: Connection) -> list[Command]:
        seen.append(connection.run_id)
        return [("PING",)]

    pool.ask(ping, 1)
    valkey.stop()
    valkey.start()
    pool.ask(ping, 1)

    assert len(set(seen)) == 2
    assert seen[-1] != seen[0]
    pool.close()


def test_what_is_only_told_is_done_before_what_is_asked_next(valkey: Valkey) -> None:
    pool = Pool(Address.parse(valkey.url), [])
    pool.ask(lambda _: [("PING",)], 1)
    pool.tell([("SET", "k", "v" * 100_000), ("NONSENSE",)], 1)
    pool.tell([("APPEND", "k", "w")], 1)

    assert pool.ask(lambda _: [("STRLEN", "k"), ("GET", "none")], 1) == [100_001, None]
    pool.close()


def test_what_is_told_while_all_connections_are_in_use_is_done_too(valkey: Valkey) -> None:
    pool = Pool(Address.parse(valkey.url), [])
    pool.tell([("SET", "k", "v")], 1)
    assert pool.ask(lambda _: [("GET", "k")], 1) == [b"v"]
    pool.close()


def test_a_refusal_leaves_the_connection_usable(valkey: Valkey) -> None:
    pool = Pool(Address.parse(valkey.url), [])
    with pytest.raises(CacheAway, match="unknown command"):
        pool.ask(lambda _: [("NONSENSE",), ("PING",)], 1)

    with closing(redis.Redis.from_url(valkey.url)) as client:
        before = client.info("stats")["total_connections_received"]
        pool.ask(lambda _: [("PING",)], 1)
        assert client.info("stats")["total_connections_received"] == before
    pool.close()


def test_a_child_process_opens_connections_of_its_own(valkey: Valkey) -> None:
    pool = Pool(Address.parse(valkey.url), [])
    pool.ask(lambda _: [("PING",)], 1)
    child = os.fork()
    if child == 0:
        os._exit(0 if not pool._idle else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.ask(lambda _: [("PING",)], 1) == [b"PONG"]
    pool.close()


def test_nobody_listening_is_known_at_once(valkey: Valkey) -> None:
    valkey.stop()
    started = time.monotonic()
    with pytest.raises(CacheAway, match="no connection"):
        Pool(Address.parse(valkey.url), []).ask(lambda _: [("PING",)], 5)
    assert time.monotonic() - started < 4
