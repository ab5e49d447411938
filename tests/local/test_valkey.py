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
