"""The embedded Valkey."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import redis

from local.valkey import Valkey
from tests.servers import Home


@pytest.fixture
def home() -> Iterator[Path]:
    home = Home()
    yield home.path
    home.remove()


def test_what_was_acknowledged_outlives_a_kill(home: Path) -> None:
    server = Valkey(home)
    server.start()
    try:
        with closing(redis.Redis.from_url(server.url)) as client:
            client.set("key", "value")
        assert [found for found in psutil.Process(server.pid).net_connections() if found.family.name != "AF_UNIX"] == []
        server.kill()
        server.start()
        with closing(redis.Redis.from_url(server.url)) as client:
            assert client.get("key") == b"value"
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        server.stop()


def test_one_on_path_is_used_if_it_is_not_too_old(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = home / "programs"
    programs.mkdir()
    for name, version in (("valkey-server", "5.0.1"), ("redis-server", "7.2.4")):
        (programs / name).write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    assert Valkey(home).prepare().argv[0] == str(programs / "redis-server")


def test_what_one_server_keeps_is_left_alone_by_another(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody installs Redis: an older server cannot read what a newer one has written."""
    usual = Valkey(home)
    usual.start()
    with closing(redis.Redis.from_url(usual.url)) as client:
        client.set("key", "value")
    usual.stop()
    programs = home / "programs"
    programs.mkdir()
    stranger = "[ \"$1\" = --version ] && echo 'Redis server v=7.0.15 sha=0' && exit"
    (programs / "redis-server").write_text(f'#!/bin/sh\n{stranger}\nexec {usual.prepare().argv[0]} "$@"\n')
    (programs / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    another = Valkey(home)
    another.start()
    try:
        with closing(redis.Redis.from_url(another.url)) as client:
            assert client.get("key") is None
            client.set("key", "another value")
    finally:
        another.stop()
    assert (home / "valkey" / "redis-7.0" / "appendonlydir").is_dir()
    monkeypatch.undo()
    usual.start()
    try:
        with closing(redis.Redis.from_url(usual.url)) as client:
            assert client.get("key") == b"value"
    finally:
        usual.stop()
