"""The scripts on a real Valkey."""

import pytest
import redis

from dues.reads.freshness.backend import FreshCache
from dues.reads.freshness.store import NEWEST_IDS, Hit, Miss, Proof, Store, Unfounded
from dues.redis.wire import CacheAway
from local.valkey import Valkey


@pytest.fixture
def store(fresh: FreshCache) -> Store:
    return fresh.store


def founded(store: Store, xid: str = "100") -> None:
    assert store.found_base(1, lambda: xid)


def look(store: Store, key: str = "k", *tags: str) -> Hit | Miss:
    seen = store.look(1, key, tags or ("a", "b"))
    assert isinstance(seen, Hit | Miss)
    return seen


def test_without_a_base_nothing_can_be_known(store: Store) -> None:
    assert store.look(1, "k", ["a"]) == Unfounded(claimed=False)


def test_while_one_finds_a_base_others_are_told(store: Store) -> None:
    seen = []

    def xid() -> str:
        seen.append(store.look(1, "k", ["a"]))
        assert not store.found_base(1, lambda: "7")
        return "100"

    assert store.found_base(1, xid)
    assert seen == [Unfounded(claimed=True)]
    assert look(store).proof.version == "100; 100;"


def test_a_base_is_above_what_was_touched_while_it_was_found(store: Store) -> None:
    def xid() -> str:
        store.touch(1, ["a"], "1000")
        store.touch(1, ["a"], "999")
        return "500"

    assert store.found_base(1, xid)
    assert look(store).proof.version == "1000; 1000;"


def test_an_entry_is_found_while_its_tags_read_the_same(store: Store) -> None:
    founded(store)
    proof = look(store).proof
    store.fill(proof, "k", b"body\nwith \x00 bytes", 10)

    assert look(store) == Hit(b"body\nwith \x00 bytes", proof)
    store.touch(1, ["b"], "101")
    assert isinstance(look(store), Miss)


def test_a_tag_lists_its_newest_ids_and_a_floor(store: Store) -> None:
    founded(store)
    look(store)
    ids = [200 + i for i in range(NEWEST_IDS)]
    for xid in (150, 120, *ids):
        store.touch(1, ["a"], str(xid))

    assert look(store).proof.version == f"150;{','.join(map(str, ids))} 100;"


def test_ids_are_compared_by_value_at_any_size(store: Store) -> None:
    """2**53 and 2**53 + 1 are one number to Lua."""
    founded(store, "99")
    store.touch(1, ["x"], "100")
    store.touch(1, ["x"], "9007199254740993")
    store.touch(1, ["x"], "9007199254740992")

    assert look(store).proof.version == "9007199254740993; 9007199254740993;"


def test_a_missing_tag_starts_from_all_that_was_touched(store: Store, operator: redis.Redis) -> None:
    founded(store)
    look(store)
    store.touch(1, ["a"], "300")
    operator.delete(*operator.keys("*:t:*"))

    assert look(store).proof.version == "300; 300;"


def test_one_leads_and_others_wait_until_it_is_filled_or_released(store: Store) -> None:
    founded(store)
    first, second = look(store), look(store)
    assert isinstance(first, Miss)
    assert isinstance(second, Miss)
    assert (first.leads, first.waits) == (True, False)
    assert (second.leads, second.waits) == (False, True)

    store.release(first.proof, "k")
    third = look(store)

    assert isinstance(third, Miss)
    assert (third.leads, third.waits) == (False, False)


def test_everything_expires(store: Store, operator: redis.Redis) -> None:
    founded(store)
    store.fill(look(store).proof, "k", b"", 10)
    store.touch(1, ["a"], "101")
    look(store)

    names = operator.keys("*")

    assert len(names) == 5
    assert all(operator.ttl(name) > 0 for name in names)


def test_a_tag_under_which_nothing_is_kept_is_soon_forgotten(store: Store, operator: redis.Redis) -> None:
    founded(store)
    proof = look(store, "k", "made up").proof
    (name,) = operator.keys("*made up")
    assert 0 < operator.ttl(name) <= 60
    store.fill(proof, "k", b"", 10)
    look(store, "k", "made up")
    assert operator.ttl(name) > 3600


def test_a_restart_and_a_generation_have_names_of_their_own(store: Store, valkey: Valkey) -> None:
    founded(store)
    kept = look(store).proof
    store.fill(kept, "k", b"body", 10)
    assert store.look(2, "k", ["a", "b"]) == Unfounded(claimed=False)

    valkey.stop()
    valkey.start()

    assert store.look(1, "k", ["a", "b"]) == Unfounded(claimed=False)
    assert not store.check(1, kept)


def test_what_a_process_kept_is_checked_by_its_tags(store: Store) -> None:
    founded(store)
    proof = look(store).proof

    assert store.check(1, proof)
    assert not store.check(2, proof)
    assert not store.check(1, Proof(proof.prefix, ("a", "c"), proof.version))
    store.touch(1, ["a"], "101")
    assert not store.check(1, proof)


def test_touches_go_on_in_a_full_redis(store: Store, operator: redis.Redis) -> None:
    founded(store)
    proof = look(store).proof
    store.fill(proof, "k", b"body", 10)
    operator.config_set("maxmemory", 1)

    assert store.check(1, proof)
    store.touch(1, ["a"], "101")
    assert not store.check(1, proof)
    with pytest.raises(CacheAway, match="OOM"):
        look(store, "k", "another tag")


def test_forgotten_scripts_are_brought_again(store: Store, operator: redis.Redis) -> None:
    founded(store)
    operator.script_flush()

    assert look(store).proof.version == "100; 100;"


def test_a_redis_that_takes_no_writes_says_so(store: Store, valkey: Valkey, operator: redis.Redis) -> None:
    assert store.takes_writes()
    operator.config_set("maxmemory", 1)
    assert not store.takes_writes()
    valkey.stop()
    assert not store.takes_writes()
