"""Ports that are found for servers which do not listen yet."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from local import ports

pytestmark = pytest.mark.unit


def test_none_is_given_twice() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ports.free_port(), range(500)))
    assert len({*found, *ports.free_ports(100)}) == 600


def test_one_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        free = ports.free_port()
        monkeypatch.setattr(ports, "_RANGE", [number, free])
        monkeypatch.setattr(ports, "_order", ports._in_any_order())
        assert [ports.free_port() for _ in range(3)] == [free] * 3


def test_where_all_are_taken_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_RANGE", [number])
        monkeypatch.setattr(ports, "_order", ports._in_any_order())
        with pytest.raises(OSError, match=f"each port of 127.0.0.1 from {number} to {number} is taken"):
            ports.free_port()
