"""The scripts on a real Valkey."""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from api.limits import Limit, Policy
from api.server.redis_batch import UNKNOWN, CheckResult, Checks
from dues.reads.freshness.backend import FreshCache
from dues.reads.freshness.lua import SCRIPTS
from dues.reads.freshness.read_protocol import Ask, establish_base
from dues.reads.freshness.store import NEWEST_IDS, Hit, Miss, Store, Unestablished
from dues.reads.freshness.validator import Validator, ValidatorSet
from dues.redis.wire import Address, CacheAway, Commands, Pool, Reply, T
from local.valkey import Valkey


@pytest.fixture
def store(fresh: FreshCache) -> Store:
    return fresh.store


def established(store: Store, xid: Callable[[], str] = lambda: "100") -> bool:
    """Establish the base at what `xid` gives out, unless somebody else is at it."""
    steps = establish_base(store, prefix_of(store))
    with closing(steps):
        try:
            step = next(steps)
            while True:
                step = steps.send(store.ask(step.commands) if isinstance(step, Ask) else xid())
        except StopIteration as end:
            return bool(end.value)


def prefix_of(store: Store) -> str:
    found = store.look(1, "k", ["a"])
    return found.prefix if isinstance(found, Unestablished) else found.validator.prefix


def fill(store: Store, found: Hit | Miss, key: str, payload: bytes) -> None:
    store.ask(store.fill_commands(found.validator, key, payload, 10, found.since_ms))


def is_fresh(valkey: Valkey, store: Store, generation: int, validator: Validator) -> bool:
    """Whether a web server takes what it kept under `validator` for fresh."""

    async def ask() -> bool:
        checks = Checks(Address.parse(valkey.url), store, lambda: generation)
        try:
            return (await checks.ask(ValidatorSet.over([validator]), None)).fresh
        finally:
            checks.close()
            await asyncio.sleep(0)

    return asyncio.run(ask())


def look(store: Store, key: str = "k", *tags: str) -> Hit | Miss:
    seen = store.look(1, key, tags or ("a", "b"))
    assert isinstance(seen, Hit | Miss)
    return seen


def test_without_a_base_nothing_can_be_known(store: Store) -> None:
    assert store.look(1, "k", ["a"]) == Unestablished(prefix_of(store), is_claimed=False)


def test_while_one_finds_a_base_others_are_told(store: Store) -> None:
    seen = []

    def xid() -> str:
        seen.append(store.look(1, "k", ["a"]))
        assert not established(store)
        return "100"

    assert established(store, xid)
    assert seen == [Unestablished(prefix_of(store), is_claimed=True)]
    assert look(store).validator.version == "100; 100;"


def test_a_base_is_above_what_was_touched_while_it_was_found(store: Store) -> None:
    def xid() -> str:
        store.touch(1, ["a"], "1000")
        store.touch(1, ["a"], "999")
        return "500"

    assert established(store, xid)
    assert look(store).validator.version == "1000; 1000;"


def test_an_entry_is_found_while_its_tags_read_the_same(store: Store) -> None:
    assert established(store)
    missed = look(store)
    fill(store, missed, "k", b"body\nwith \x00 bytes")

    found = look(store)
    assert isinstance(found, Hit)
    assert (found.payload, found.validator) == (b"body\nwith \x00 bytes", missed.validator)
    assert time.monotonic() < found.ends_at <= time.monotonic() + 10
    store.touch(1, ["b"], "101")
    assert isinstance(look(store), Miss)


class _ReadLate(Pool):
    """Whoever asks is held up when Redis has replied, and before the reply is looked at."""

    replied_at = 0.0

    def ask_for(self, commands: Commands, timeout_s: float, understand: Callable[[list[Reply]], T]) -> T:
        def understand_late(replies: list[Reply]) -> T:
            self.replied_at = time.monotonic()
            time.sleep(0.2)
            return understand(replies)

        return super().ask_for(commands, timeout_s, understand_late)


def test_what_is_left_of_an_entry_counts_from_when_it_was_asked_for(
    store: Store, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert established(store)
    fill(store, look(store), "k", b"body")
    late = _ReadLate(Address.parse(valkey.url), [script.text for script in SCRIPTS])
    monkeypatch.setattr(store, "_pool", late)
    found = look(store)
    assert isinstance(found, Hit)
    assert found.ends_at <= late.replied_at + 10


def test_it_does_so_on_an_event_loop(store: Store, valkey: Valkey) -> None:
    assert established(store)
    fill(store, look(store), "k", b"body")

    async def ask() -> tuple[Any, float]:
        checks = Checks(Address.parse(valkey.url), store, lambda: 1)
        plan: Any = SimpleNamespace(key="k", tags=("a", "b"), follows=False)
        try:
            await checks.ask(None, None, plan)
            answer = checks.ask(None, None, plan)
            # It is sent in this turn of the loop, which is then held up.
            await asyncio.sleep(0)
            sent_at = time.monotonic()
            time.sleep(0.5)
            return (await answer).found, sent_at
        finally:
            checks.close()
            await asyncio.sleep(0)

    found, sent_at = asyncio.run(ask())
    assert isinstance(found, Hit)
    assert found.ends_at <= sent_at + 10


def test_one_that_cannot_go_on_keeps_nobody_else_from_the_answer(store: Store, valkey: Valkey) -> None:
    def fail(_: CheckResult) -> None:
        raise RuntimeError("its client is gone")

    async def ask() -> CheckResult:
        checks = Checks(Address.parse(valkey.url), store, lambda: 1)
        limit = Limit(Policy("read", 10, 60), "key")
        try:
            checks.ask_then(None, limit, None, fail)
            return await asyncio.wait_for(checks.ask(None, limit), 10)
        finally:
            checks.close()
            await asyncio.sleep(0)

    used = asyncio.run(ask()).used
    assert used
    assert used.requests == 2


def test_one_that_asks_for_what_cannot_be_written_keeps_nobody_else_waiting(store: Store, valkey: Valkey) -> None:
    async def ask() -> list[CheckResult]:
        checks = Checks(Address.parse(valkey.url), store, lambda: 1)
        unwritable: Any = SimpleNamespace(key="\ud800", tags=(), follows=False)
        limit = Limit(Policy("read", 10, 60), "key")
        try:
            await checks.ask(None, limit)
            together = asyncio.gather(checks.ask(None, None, unwritable), checks.ask(None, limit))
            found = await asyncio.wait_for(together, 5)
            return [*found, await checks.ask(None, limit)]
        finally:
            checks.close()
            await asyncio.sleep(0)

    *found, later = asyncio.run(ask())
    assert found == [UNKNOWN, UNKNOWN]
    assert later.used


def test_a_tag_lists_its_newest_ids_and_a_floor(store: Store) -> None:
    assert established(store)
    look(store)
    ids = [200 + i for i in range(NEWEST_IDS)]
    for xid in (150, 120, *ids):
        store.touch(1, ["a"], str(xid))

    assert look(store).validator.version == f"150;{','.join(map(str, ids))} 100;"


def test_ids_are_compared_by_value_at_any_size(store: Store) -> None:
    """2**53 and 2**53 + 1 are one number to Lua."""
    assert established(store, lambda: "99")
    store.touch(1, ["x"], "100")
    store.touch(1, ["x"], "9007199254740993")
    store.touch(1, ["x"], "9007199254740992")

    assert look(store).validator.version == "9007199254740993; 9007199254740993;"


def test_a_missing_tag_starts_from_all_that_was_touched(store: Store, operator: redis.Redis) -> None:
    assert established(store)
    look(store)
    store.touch(1, ["a"], "300")
    operator.delete(*operator.keys("*:t:*"))

    assert look(store).validator.version == "300; 300;"


def test_one_leads_and_others_wait_until_it_is_filled_or_released(store: Store) -> None:
    assert established(store)
    first, second = look(store), look(store)
    assert isinstance(first, Miss)
    assert isinstance(second, Miss)
    assert (first.fills, first.must_wait) == (True, False)
    assert (second.fills, second.must_wait) == (False, True)

    store.ask(store.release_commands(first.validator, "k"))
    third = look(store)

    assert isinstance(third, Miss)
    assert (third.fills, third.must_wait) == (False, False)


def test_everything_expires(store: Store, operator: redis.Redis) -> None:
    assert established(store)
    fill(store, look(store), "k", b"")
    store.touch(1, ["a"], "101")
    look(store)

    names = operator.keys("*")

    assert len(names) == 5
    assert all(operator.ttl(name) > 0 for name in names)


def test_a_tag_under_which_nothing_is_kept_is_soon_forgotten(store: Store, operator: redis.Redis) -> None:
    assert established(store)
    missed = look(store, "k", "made up")
    (name,) = operator.keys("*made up")
    assert 0 < operator.ttl(name) <= 60
    fill(store, missed, "k", b"")
    look(store, "k", "made up")
    assert operator.ttl(name) > 3600


def test_a_restart_and_a_generation_have_names_of_their_own(store: Store, valkey: Valkey) -> None:
    assert established(store)
    missed = look(store)
    fill(store, missed, "k", b"body")
    assert isinstance(store.look(2, "k", ["a", "b"]), Unestablished)

    valkey.stop()
    valkey.start()

    assert isinstance(store.look(1, "k", ["a", "b"]), Unestablished)
    assert not is_fresh(valkey, store, 1, missed.validator)


def test_what_a_process_kept_is_checked_by_its_tags(store: Store, valkey: Valkey) -> None:
    assert established(store)
    validator = look(store).validator

    assert is_fresh(valkey, store, 1, validator)
    assert not is_fresh(valkey, store, 2, validator)
    assert not is_fresh(valkey, store, 1, validator._replace(tags=("a", "c")))
    store.touch(1, ["a"], "101")
    assert not is_fresh(valkey, store, 1, validator)


def test_touches_go_on_in_a_full_redis(store: Store, valkey: Valkey, operator: redis.Redis) -> None:
    assert established(store)
    missed = look(store)
    validator = missed.validator
    fill(store, missed, "k", b"body")
    operator.config_set("maxmemory", 1)

    assert is_fresh(valkey, store, 1, validator)
    store.touch(1, ["a"], "101")
    assert not is_fresh(valkey, store, 1, validator)
    with pytest.raises(CacheAway, match="OOM"):
        look(store, "k", "another tag")


def test_forgotten_scripts_are_brought_again(store: Store, operator: redis.Redis) -> None:
    assert established(store)
    operator.script_flush()

    assert look(store).validator.version == "100; 100;"
