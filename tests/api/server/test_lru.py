"""The bound on what a process keeps."""

import pytest

from api.server.lru import Lru

pytestmark = pytest.mark.unit


def test_the_least_recently_used_go_first() -> None:
    memory: Lru[str] = Lru(30)
    for name in "abc":
        memory.put(name, name.upper(), 10)
    memory.get("a")
    memory.put("d", "D", 10)

    assert [memory.get(name) for name in "abcd"] == ["A", None, "C", "D"]
    assert memory.bytes == 30


def test_replacing_gives_bytes_back() -> None:
    memory: Lru[str] = Lru(30)
    memory.put("a", "A", 20)
    memory.put("a", "B", 25)
    assert (memory.get("a"), memory.bytes, len(memory)) == ("B", 25, 1)
    memory.put("a", "C", 31)
    assert (memory.get("a"), memory.bytes, len(memory)) == (None, 0, 0)


def test_what_is_too_large_is_not_kept_and_drives_nothing_out() -> None:
    memory: Lru[str] = Lru(30)
    memory.put("a", "A", 30)
    memory.put("b", "B", 31)
    assert (memory.get("a"), memory.get("b")) == ("A", None)
