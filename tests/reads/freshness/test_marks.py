"""What a replica's marks prove, and which replica is asked."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any

import pytest

from api.routing import Priority
from api.server import replicas
from api.server.admission import AdaptiveLimit
from api.server.loop_reader import LoopRound
from api.server.replicas import Replica, Replicas, Row, for_replicas
from dues.errors import Unavailable
from dues.postgres.aio import Lost
from dues.reads.freshness.marks import MARK_LIFE_S, SHOW, Marks, Shown
from dues.reads.freshness.read_protocol import (
    Check,
    Compute,
    Computed,
    ComputeOnReplica,
    Look,
    ReadProtocol,
    Tell,
)
from dues.reads.freshness.store import Miss, Store
from dues.reads.freshness.validator import Validator
from dues.redis.wire import Command
from urls import read_dsn

pytestmark = pytest.mark.unit

GENERATION = 7
SNAPSHOT = "100:110:104"


@pytest.mark.parametrize(
    ("shown", "generation", "later_s", "proves"),
    [
        (Shown(1, None, is_standby=True), GENERATION, 0, True),
        (Shown(2, 1, is_standby=True), GENERATION, 0, True),
        (Shown(2, 3, is_standby=True), GENERATION, 0, False),
        (Shown(None, None, is_standby=True), GENERATION, 0, False),
        # It takes writes of its own.
        (Shown(1, None, is_standby=False), GENERATION, 0, False),
        # Of another primary, or of before a failover.
        (Shown(1, None, is_standby=True), GENERATION + 1, 0, False),
        (Shown(1, None, is_standby=True), GENERATION, MARK_LIFE_S - 0.1, True),
        (Shown(1, None, is_standby=True), GENERATION, MARK_LIFE_S, False),
    ],
)
def test_what_a_mark_proves(shown: Shown, generation: int, later_s: float, proves: bool):
    now = 1000.0
    marks = Marks(lambda: now)
    marks.add(1, GENERATION, SNAPSHOT)
    now += later_s
    assert marks.snapshot_of(shown, generation) == (SNAPSHOT if proves else None)


def test_a_mark_that_is_read_again_and_again_grows_old_all_the_same():
    now = 1000.0
    marks = Marks(lambda: now)
    while now < 1000 + MARK_LIFE_S:
        marks.add(1, GENERATION, SNAPSHOT)
        assert marks.snapshot_of(Shown(1, None, is_standby=True), GENERATION)
        now += 1
    marks.add(1, GENERATION, SNAPSHOT)
    marks.add(2, GENERATION, SNAPSHOT)
    assert marks.snapshot_of(Shown(2, 1, is_standby=True), GENERATION)


@pytest.mark.parametrize(
    ("sql", "timed"),
    [
        ("select t.current_period_start, known, snow, t.timestamp from t", None),
        ("select pg_current_snapshot()::text, created_at, package, page from payments", None),
        ("select json_build_object('known', t.known, 'nowhere', '') from t", None),
        ("select x from t where t.expires_at > now()", "select x from t where t.expires_at > {now}"),
        ("select NOW ( ) - x, now() from t", "select {now} - x, {now} from t"),
    ],
)
def test_a_statement_for_replicas_has_the_primarys_time(sql: str, timed: str | None):
    wanted = for_replicas(sql)
    assert wanted
    assert wanted.by_the_clock == (timed is not None)
    assert (timed or sql).format(now="to_timestamp(%(primary_now)s::float8)") in wanted.sql


@pytest.mark.parametrize(
    "sql",
    [
        "select clock_timestamp()",
        "select now(), transaction_timestamp()",
        "select CURRENT_TIMESTAMP",
        "select current_date",
        "select localtime",
        "select gen_random_uuid()",
        "select uuidv7()",
        "select random()",
        "select timeofday()",
        "select now(2)",
        "select age(created_at) from t",
        "select x from t where expires_at > 'Now'::timestamptz",
        "select timestamptz 'today 10:00'",
    ],
)
def test_what_else_depends_on_the_server_is_the_primarys(sql: str):
    assert for_replicas(sql) is None


class Turns:
    def turn(self, priority: Priority) -> AbstractAsyncContextManager[None]:
        return nullcontext()


class Standby:
    """Shows a mark; answers `row`, or raises it, or never answers."""

    def __init__(self, mark: int, row: Any = ("row",)) -> None:
        self.shown, self.row, self.asked = (mark, None, True), row, 0
        self.times: list[Any] = []

    async def fetch_row(self, sql: str, values: Mapping[str, object]) -> Row | None:
        if sql == SHOW:
            return self.shown
        self.asked += 1
        self.times.append(values.get("primary_now"))
        if self.row is Ellipsis:
            await asyncio.sleep(3600)
        if isinstance(self.row, Exception):
            raise self.row
        return self.row and (*self.row, *self.shown)


def read(version: str, *standbys: Standby, looks: int = 1, reads: int = 1) -> list[Any]:
    """What reads of tags with this version come to, while the primary shows mark 1."""

    async def primary(sql: str, values: Mapping[str, object]) -> Row | None:
        return 1, GENERATION, SNAPSHOT, 1e9

    async def run() -> list[Any]:
        found = Replicas([Replica("a", each.fetch_row, Turns()) for each in standbys], primary)  # type: ignore[arg-type]
        for _ in range(looks):
            await found.look()
        validator = Validator(f"dues:run:{GENERATION:x}:", ("tag",), version)
        return [await found.fetch_row(validator, "select 1", {}, Priority.READ) for _ in range(reads)]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("version", "is_asked"), [("99;", True), ("99;101,109", True), ("100;", False), ("9;104", False), ("9;110", False)]
)
def test_only_what_the_primary_had_seen_at_the_mark_is_read_from_a_standby(version: str, is_asked: bool):
    standby = Standby(1)
    assert read(version, standby) == ([(("row",), SNAPSHOT)] if is_asked else [None])
    assert standby.asked == is_asked


def test_one_that_is_behind_is_passed_over():
    behind, near = Standby(5), Standby(1)
    assert read("9;", behind, near) == [(("row",), SNAPSHOT)]
    assert (behind.asked, near.asked) == (0, 1)


@pytest.mark.parametrize(
    ("took_s", "later_s", "time"),
    [
        # Counted from when it was asked for: never behind the primary's own.
        ([0.0], 0.0, 1e9),
        ([0.05], 0.0, 1e9 + 0.05),
        ([0.2, 0.05], 0.0, 1e9 + 0.05),
        ([0.05], MARK_LIFE_S - 0.1, 1e9 + MARK_LIFE_S - 0.05),
        # Too long ago, or not known near enough: it may have been set since.
        ([0.05], MARK_LIFE_S - 0.04, None),
        ([0.05, 0.2], 0.0, None),
    ],
)
def test_what_the_clock_decides_is_decided_by_the_primarys(took_s: list[float], later_s: float, time: float | None):
    moment, standby, times = 1000.0, Standby(1), iter(took_s)

    async def primary(sql: str, values: Mapping[str, object]) -> Row | None:
        nonlocal moment
        moment += next(times)
        return 1, GENERATION, SNAPSHOT, 1e9

    async def run() -> Any:
        nonlocal moment
        found = Replicas([Replica("a", standby.fetch_row, Turns())], primary, lambda: moment)  # type: ignore[arg-type]
        for _ in took_s:
            await found.look()
        moment += later_s
        # The marks' own life is another matter.
        found._marks._clock = lambda: 1000.0
        validator = Validator(f"dues:run:{GENERATION:x}:", ("tag",), "9;")
        return await found.fetch_row(validator, "select now()", {}, Priority.READ)

    answer = asyncio.run(run())
    assert (answer is not None) == (time is not None)
    assert standby.times == ([pytest.approx(time, abs=0.001)] if time else [])


@pytest.mark.parametrize("failure", [Lost(), Unavailable("what it replays stands in the way"), None, Ellipsis])
def test_where_a_standby_fails_the_primary_is_asked(failure: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replicas, "_PATIENCE_S", 0.05)
    standby = Standby(1, failure)
    assert read("9;", standby, reads=2) == [None, None]
    # One that does not answer is left alone for a while.
    assert standby.asked == (1 if failure is Ellipsis or isinstance(failure, Lost) else 2)


def test_one_is_not_left_alone_where_a_read_s_turn_to_ask_it_did_not_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(replicas, "_PATIENCE_S", 0.05)
    standby, turns = Standby(1), AdaptiveLimit(1)

    async def primary(sql: str, values: Mapping[str, object]) -> Row | None:
        return 1, GENERATION, SNAPSHOT, 1e9

    async def run() -> None:
        found = Replicas([Replica("a", standby.fetch_row, turns)], primary)
        await found.look()
        read = partial(found.fetch_row, Validator(f"dues:run:{GENERATION:x}:", ("tag",), "9;"), "select 1", {})
        async with turns.turn(Priority.READ):
            assert await read(Priority.READ) is None
        assert standby.asked == 0
        assert await read(Priority.READ)

    asyncio.run(run())


def test_an_answer_that_shows_less_than_was_known_is_not_given():
    """Behind a balancer another standby may answer."""
    standby = Standby(1)

    async def fetch_row(sql: str, values: Mapping[str, object]) -> Row | None:
        return (1, None, True) if sql == SHOW else ("row", 0, None, True)

    standby.fetch_row = fetch_row  # type: ignore[method-assign]
    assert read("9;", standby) == [None]


def test_one_that_shows_no_known_mark_is_told_of_once_there_was_time_for_one(caplog: pytest.LogCaptureFixture):
    moment = 1000.0

    async def primary(sql: str, values: Mapping[str, object]) -> Row | None:
        return 1, GENERATION, SNAPSHOT, 1e9

    async def run() -> None:
        nonlocal moment
        found = Replicas([Replica("a", Standby(5).fetch_row, Turns())], primary, lambda: moment)  # type: ignore[arg-type]
        await found.look()
        assert not caplog.messages
        moment += MARK_LIFE_S + 1
        for _ in range(3):
            await found.look()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert caplog.messages == ["the replica a is behind, or follows another primary: it is not read from"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Connection refused\n\tIs the server running on that host?\n", "Connection refused"),
        (
            'relation "replica_mark" does not exist\nLINE 1: select mark from replica_mark\n                 ^\n',
            'relation "replica_mark" does not exist',
        ),
        (
            "canceling statement due to conflict with recovery\nDETAIL:  User was holding …\n",
            "canceling statement due to conflict with recovery",
        ),
        (None, "nothing came in time"),
    ],
)
def test_the_log_says_what_is_the_matter_with_one(
    text: str | None, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(replicas, "_PATIENCE_S", 0.01)

    async def fetch_row(sql: str, values: Mapping[str, object]) -> Row | None:
        if text is None:
            await asyncio.sleep(3600)
        raise Lost from OSError(text)

    standby = Standby(1)
    standby.fetch_row = fetch_row  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        assert read("9;", standby, looks=2) == [None]
    assert caplog.messages == [f"the replica a does not answer ({reason}): it is not read from"]


@pytest.mark.parametrize(
    ("took_s", "left_s", "is_fresh", "is_given"),
    [(0.4, 1.0, True, True), (0.4, 1.0, False, False), (0.4, 0.3, True, False), (0.0, 0.0, True, False)],
)
def test_what_a_standby_says_is_given_while_it_holds(took_s: float, left_s: float, is_fresh: bool, is_given: bool):
    """How long that is counts from before it was asked: its time is of then, or later."""
    moment = 1000.0
    kept: list[Any] = []

    class Kept(Store):
        def fill_commands(
            self, validator: Validator, key: str, payload: bytes, life_s: float, since_ms: int
        ) -> list[Command]:
            kept.append((payload, life_s, since_ms))
            return []

    store = Kept("redis://unused")
    protocol = ReadProtocol(store, 60, LoopRound, lambda count: None, lambda: moment, has_replicas=True)
    steps = protocol.read("key", ["tag"])
    assert isinstance(next(steps), Look)
    validator = Validator("dues:", ("tag",), "9;")
    assert isinstance(steps.send(Miss(validator, fills=False, must_wait=False, since_ms=5)), ComputeOnReplica)
    moment += took_s
    step = steps.send(Computed(b"a standby's", SNAPSHOT, left_s))
    if isinstance(step, Check):
        step = steps.send(is_fresh)
    if isinstance(step, Compute):
        step = steps.send(Computed(b"the primary's", SNAPSHOT, 30))
    assert isinstance(step, Tell)
    with pytest.raises(StopIteration) as end:
        steps.send(None)
    result = end.value.value
    assert (result.payload == b"a standby's") is is_given
    # And in Redis by Redis' clock, from before then.
    assert kept == [(result.payload, left_s if is_given else 30, 5)]
    assert result.expires_at == pytest.approx(1000.0 + (left_s if is_given else took_s + 30))


def test_a_url_that_is_none_is_refused_without_its_password():
    with pytest.raises(ValueError, match="not the URL of a PostgreSQL database") as refusal:
        read_dsn("postgresql://dues:hush%zz@db.example/dues")
    assert "hush" not in str(refusal.value)
