"""The switch on a real PostgreSQL: who waits, who does not, and who turns it on again."""

from contextlib import closing

import pytest
from flask import Flask

from dues.reads.freshness import switch
from dues.reads.freshness.backend import FreshCache
from dues.reads.freshness.store import Store
from dues.reads.freshness.switch import BELIEF_S, SETTLE_S, Belief, Restorer, Row
from dues.reads.freshness.writer import Writer
from dues.redis.wire import CacheAway
from local.valkey import Valkey
from tests.kept_connections import KeptConnections
from tests.reads.freshness.conftest import connect
from tests.servers import Servers, wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def switch_of(fresh: FreshCache) -> Row:
    row = fresh.switch.read()
    assert row
    return row


def test_a_reading_is_believed_for_a_second_from_its_start() -> None:
    clock = Clock()
    belief = Belief(clock)
    assert belief.generation() is None

    def slowly() -> Row:
        clock.sleep(0.4)
        return Row(5, on=True, settled=False)

    belief.read(slowly)
    assert belief.generation() == 5
    clock.now = BELIEF_S - 0.01
    assert belief.generation() == 5
    clock.now = BELIEF_S
    assert belief.generation() is None


@pytest.mark.parametrize(
    "row",
    [
        None,
        Row(5, on=False, settled=False),
        Row(5, on=False, settled=True),
        Row(5, on=True, settled=False, is_distributed=True),
    ],
)
def test_off_and_no_row_are_believed_too(row: Row | None) -> None:
    belief = Belief(Clock())
    belief.read(lambda: Row(5, on=True, settled=False))
    belief.read(lambda: row)
    assert belief.generation() is None


@pytest.mark.one_server("the switch stays off")
def test_the_poller_finds_out_that_it_is_off(fresh: FreshCache) -> None:
    generation = switch_of(fresh).generation
    assert fresh.poller.generation() == generation
    fresh.switch.close(generation)
    wait_until(lambda: fresh.poller.generation() is None, 2, "the poller")


@pytest.mark.one_server("the switch stays off")
def test_the_poller_outlives_a_lost_connection(fresh: FreshCache, servers: Servers) -> None:
    generation = fresh.poller.generation()
    with closing(connect(servers)) as operator, operator.cursor() as cursor:
        cursor.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            " and datname = current_database() and query like '%cache_switch%'"
        )
    fresh.switch.close(switch_of(fresh).generation)
    wait_until(lambda: fresh.poller.generation() is None, 3, "the poller")
    row = switch_of(fresh)
    fresh.switch.settle(row.generation)
    fresh.switch.open(row.generation)
    wait_until(lambda: fresh.poller.generation() not in (None, generation), 3, "the poller")


class Deaf(Store):
    """A Redis that acknowledges nothing."""

    def __init__(self) -> None:
        self.touched = 0

    def touch(self, *_: object) -> None:
        self.touched += 1
        raise CacheAway("no answer")


@pytest.mark.one_server("the switch stays off")
def test_a_touch_that_nobody_acknowledged_closes_the_switch_and_waits(fresh: FreshCache) -> None:
    clock, row = Clock(), switch_of(fresh)

    Writer(Deaf(), fresh.switch, clock.sleep).touch(["a"], "1", row)

    assert clock.slept == [SETTLE_S]
    assert switch_of(fresh) == Row(row.generation, on=False, settled=True)


def test_who_finds_it_closed_but_not_settled_waits_and_asks_nobody(fresh: FreshCache) -> None:
    fresh.switch.close(switch_of(fresh).generation)
    clock, deaf, row = Clock(), Deaf(), switch_of(fresh)

    Writer(deaf, fresh.switch, clock.sleep).touch(["a"], "1", row)

    assert (clock.slept, deaf.touched) == ([SETTLE_S], 0)
    assert switch_of(fresh).settled


def test_once_it_is_settled_nobody_waits(fresh: FreshCache) -> None:
    generation = switch_of(fresh).generation
    fresh.switch.close(generation)
    fresh.switch.settle(generation)
    clock, deaf = Clock(), Deaf()

    Writer(deaf, fresh.switch, clock.sleep).touch(["a"], "1", switch_of(fresh))

    assert (clock.slept, deaf.touched) == ([], 0)


def test_a_lost_row_counts_as_closed(fresh: FreshCache, servers: Servers) -> None:
    generation = switch_of(fresh).generation
    with closing(connect(servers)) as operator, operator, operator.cursor() as cursor:
        cursor.execute("delete from cache_switch")
    clock = Clock()

    Writer(Deaf(), fresh.switch, clock.sleep).touch(["a"], "1", fresh.switch.read())

    row = switch_of(fresh)
    assert clock.slept == [SETTLE_S]
    assert (row.on, row.settled) == (False, True)
    assert row.generation != generation


def test_a_closing_that_comes_late_does_not_touch_a_newer_generation(fresh: FreshCache) -> None:
    old = switch_of(fresh).generation
    fresh.switch.close(old)
    fresh.switch.settle(old)
    assert fresh.switch.open(old)
    newer = switch_of(fresh)
    assert newer.generation != old

    fresh.switch.close(old)
    fresh.switch.settle(old)

    assert switch_of(fresh) == newer
    assert not fresh.switch.open(old)


@pytest.mark.one_server("the switch stays off")
def test_the_relay_opens_only_what_is_settled_and_only_when_redis_takes_writes(fresh: FreshCache) -> None:
    clock, answers = Clock(), [False, True]
    restorer = Restorer(fresh.switch, lambda: answers.pop(0), clock)
    generation = switch_of(fresh).generation
    fresh.switch.close(generation)

    for moment in (0.0, 0.5, SETTLE_S - 0.01):
        clock.now = moment
        assert not restorer.restore_once(fresh.switch.read())
        assert not switch_of(fresh).settled
    clock.now = SETTLE_S
    assert not restorer.restore_once(fresh.switch.read())
    assert switch_of(fresh) == Row(generation, on=False, settled=True)
    assert not restorer.restore_once(fresh.switch.read())
    assert not switch_of(fresh).on
    assert restorer.restore_once(fresh.switch.read())

    row = switch_of(fresh)
    assert row.on
    assert row.generation != generation
    assert not restorer.restore_once(fresh.switch.read())


@pytest.mark.one_server("the switch stays off")
def test_what_is_soon_closed_again_is_opened_ever_more_seldom(
    fresh: FreshCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, openings = Clock(), []
    # It is asked hundreds of times.
    with closing(KeptConnections(fresh.switch.connect)) as kept, monkeypatch.context() as patch:
        patch.setattr(fresh.switch, "connect", kept)
        restorer = Restorer(fresh.switch, lambda: True, clock)
        for second in range(130):
            clock.now = float(second)
            row = switch_of(fresh)
            if row.on and second < 90:
                fresh.switch.close(row.generation)
                fresh.switch.settle(row.generation)
            if restorer.restore_once(switch_of(fresh)):
                openings.append(second)

    assert openings == [0, 1, 5, 13, 29, 59, 89]


@pytest.mark.one_server("the switch stays off")
def test_clearing_the_cache_is_a_new_generation(fresh: FreshCache) -> None:
    generation = switch_of(fresh).generation
    assert fresh.clear()
    row = switch_of(fresh)
    assert row.on
    assert row.generation != generation


@pytest.fixture
def citus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extension were installed: one that every database has is asked for in its place."""
    assert "'citus'" in switch.READ
    monkeypatch.setattr(switch, "READ", switch.READ.replace("'citus'", "'plpgsql'"))


def test_where_citus_is_installed_the_cache_is_off_for_good(fresh: FreshCache, app: Flask, citus: None) -> None:
    clock = Clock()
    restorer = Restorer(fresh.switch, lambda: True, clock)
    # Nobody reads through it, not even before the relay has turned it off,
    assert switch_of(fresh).on
    assert fresh.poller.generation() is None
    # and that it does, so that writers lose no time with it. It does not turn it on again.
    for second in range(5):
        clock.now = float(second)
        assert not restorer.restore_once(fresh.switch.read())
    row = switch_of(fresh)
    assert (row.on, row.settled) == (False, True)
    Writer(Deaf(), fresh.switch, clock.sleep).touch(["a"], "1", row)
    assert clock.slept == []
    cleared = app.test_cli_runner().invoke(args=["cache", "clear"])
    assert cleared.exit_code == 1
    assert "the extension citus" in cleared.output


def test_the_table_is_gone_after_a_crash_by_design(servers: Servers) -> None:
    with closing(connect(servers)) as operator, operator.cursor() as cursor:
        cursor.execute("select relpersistence from pg_class where relname = 'cache_switch'")
        assert cursor.fetchone() == ("u",)


def test_only_tags_and_snapshots_make_an_entry(fresh: FreshCache, valkey: Valkey) -> None:
    with pytest.raises(NotImplementedError, match=r"read\(\)"):
        fresh.set("k", b"v", timeout=5)
    with pytest.raises(NotImplementedError, match=r"read\(\)"):
        fresh.get("k")
