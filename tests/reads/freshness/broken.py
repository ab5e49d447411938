"""The protocol's rules, each broken on its own: what the explorer must find out."""

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Generator
from typing import Any

import pytest

from api.server import loop_reader, redis_batch, replicas
from dues.reads.freshness import journal, lua, marks, read_protocol, store, switch, validator, writer
from dues.reads.freshness.snapshot import covers
from dues.redis import aio, wire
from dues.redis.wire import CacheAway
from tests.reads.freshness import play, postgres, redis, world

Break = Callable[[pytest.MonkeyPatch], None]


def keeps_whatever_it_computed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(read_protocol, "covers", lambda version, snapshot: True)


def ignores_listed_ids(patch: pytest.MonkeyPatch) -> None:
    def without_ids(version: str, snapshot: str) -> bool:
        return covers(" ".join(tag.rpartition(";")[0] + ";" for tag in version.split(" ")), snapshot)

    patch.setattr(read_protocol, "covers", without_ids)


def ignores_the_floor(patch: pytest.MonkeyPatch) -> None:
    def without_floor(version: str, snapshot: str) -> bool:
        return covers(" ".join("0;" + tag.partition(";")[2] for tag in version.split(" ")), snapshot)

    patch.setattr(read_protocol, "covers", without_floor)


def starts_from_what_is_finished(patch: pytest.MonkeyPatch) -> None:
    """As if a snapshot's xmax were above every id that was given out."""
    patch.setattr(postgres.Table, "new_xid", lambda table: str(table._postgres.newest_finished))


def claims_after_the_id(patch: pytest.MonkeyPatch) -> None:
    def establish(store: store.Store, prefix: str) -> Generator[read_protocol.Step, Any, bool]:
        xid = yield read_protocol.NewTransactionId()
        yield read_protocol.Pause(0.3)
        mark = secrets.token_hex(8)
        yield read_protocol.Ask([store.claim_command(prefix, mark)])
        (established,) = yield read_protocol.Ask([store.establish_command(prefix, mark, xid)])
        return bool(established)

    patch.setattr(read_protocol, "establish_base", establish)


def _rewrite(patch: pytest.MonkeyPatch, script: lua.Script, old: str, new: str) -> None:
    assert old in script.text.decode()
    text = script.text.decode().replace(old, new).encode()
    patch.setattr(script, "text", text)
    patch.setattr(script, "sha", hashlib.sha1(text).hexdigest())


def never_raises_the_base(patch: pytest.MonkeyPatch) -> None:
    _rewrite(patch, lua.TOUCH, "if base then", "if false then")


def never_raises_the_floor(patch: pytest.MonkeyPatch) -> None:
    _rewrite(patch, lua.TOUCH, "floor, ids = greater(floor, oldest), rest", "ids = rest")


def names_no_run_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(redis.Redis, "run_id", "always")


def keeps_the_generation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(world.World, "next_generation", lambda self: 1)


def commits_untouched(patch: pytest.MonkeyPatch) -> None:
    touch = store.Store.touch

    def touch_or_not(self: store.Store, generation: int, tags: list[str], xid: str, words: bytes) -> None:
        with contextlib.suppress(CacheAway):
            touch(self, generation, tags, xid, words)

    patch.setattr(store.Store, "touch", touch_or_not)


def does_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writer, "SETTLE_S", 0.0)


def only_the_first_waits(patch: pytest.MonkeyPatch) -> None:
    touch = writer.Writer.touch

    def touch_without(
        self: writer.Writer, tags: list[str], xid: str, row: switch.Row | None, words: bytes = b""
    ) -> None:
        touch(self, tags, xid, row and row._replace(settled=not row.on), words)

    patch.setattr(writer.Writer, "touch", touch_without)


def believes_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(switch, "BELIEF_S", 1e9)


def believes_from_the_end(patch: pytest.MonkeyPatch) -> None:
    def read_it(self: switch.Belief, row: Callable[[], switch.Row | None]) -> None:
        found = row()
        self._reading = (found, self._clock())

    patch.setattr(switch.Belief, "read", read_it)


def survives_a_crash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(postgres.Postgres, "drops_switch_in_crash", False)


def touches_after_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(play.Rules, "touch_before_commit", False)


def reads_the_switch_before_its_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(play.Rules, "id_before_switch", False)


def does_not_compare(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(validator.ValidatorSet, "holds", lambda self, prefix, found, journal: None not in found.values())


def compares_no_prefix(patch: pytest.MonkeyPatch) -> None:
    """As if a name in Redis were the same under every generation: what it reads is compared, and nothing else."""
    holds = validator.ValidatorSet.holds
    patch.setattr(
        validator.ValidatorSet, "holds", lambda self, prefix, found, journal: holds(self, self.prefix, found, journal)
    )


def asks_before_the_request(patch: pytest.MonkeyPatch) -> None:
    """A request joins a batch whose question was sent already."""
    send, ask, answer = redis_batch.Checks._send, redis_batch.Checks.ask_then, redis_batch._answer
    sent: dict[redis_batch.Checks, redis_batch._Batch] = {}
    # By identity: held here, they are not made anew under the number of one that is gone.
    answered: dict[int, redis_batch._Batch] = {}

    def remembering_send(self: redis_batch.Checks) -> None:
        assert self._batch
        sent[self] = self._batch
        send(self)

    def remembering_answer(batch: redis_batch._Batch, results: Any) -> None:
        answered[id(batch)] = batch
        answer(batch, results)

    def joining_ask(self: redis_batch.Checks, validators: Any, limit: Any, plan: Any, then: Any) -> None:
        batch = sent.get(self)
        is_open = batch is not None and id(batch) not in answered
        if validators is None or batch is None or not is_open or not batch.names.keys() >= set(validators.names):
            ask(self, validators, limit, plan, then)
        else:
            batch.askers.append(redis_batch._Asker(validators, limit, 0, None, then))

    patch.setattr(redis_batch, "_answer", remembering_answer)
    patch.setattr(redis_batch.Checks, "_send", remembering_send)
    patch.setattr(redis_batch.Checks, "ask_then", joining_ask)


def reads_on_after_a_time_out(patch: pytest.MonkeyPatch) -> None:
    """A call that ran out of time is given up, and its connection used on: the next call is given its replies. Nor is
    it closed when those are no replies to what was asked, or come when nothing was."""

    def send(self: aio.LoopConnection, data: bytes, count: int, timeout_s: float) -> Any:
        answer = self.loop.create_future()
        if self._transport is None:
            answer.set_exception(CacheAway("the connection is closed"))
            return answer
        call = count, answer
        self._calls.append(call)
        self._transport.write(data)

        def give_up() -> None:
            self._calls.remove(call)
            answer.set_exception(CacheAway("late"))

        timer = self.loop.call_later(timeout_s, give_up)
        answer.add_done_callback(lambda _: timer.cancel())
        return answer

    patch.setattr(aio.LoopConnection, "send", send)
    patch.setattr(redis_batch.Checks, "close", lambda self: None)
    patch.setattr(wire.Replies, "has_more", False)


def shares_what_began_before(patch: pytest.MonkeyPatch) -> None:
    join = read_protocol.ReadProtocol._join

    def join_what_is_in_flight(self: read_protocol.ReadProtocol, key: str) -> Any:
        ahead = self._in_flight.get(key)
        return (ahead, None, False) if ahead else join(self, key)

    patch.setattr(read_protocol.ReadProtocol, "_join", join_what_is_in_flight)


# Rules of the journal.


def keeps_what_the_journal_does_not_cover(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(journal.Concern, "is_covered", lambda self, journal, snapshot: True)


def covers_what_is_shown_alone(patch: pytest.MonkeyPatch) -> None:
    def is_covered(self: journal.Concern, known: journal.Journal, snapshot: str) -> bool:
        return known.covered(self._words, self.since, snapshot)

    patch.setattr(journal.Concern, "is_covered", is_covered)


def ignores_the_news(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(journal.Journal, "concerns", lambda self, words, since: False)


def knows_what_it_does_not_hold(patch: pytest.MonkeyPatch) -> None:
    concerns = journal.Journal.concerns

    def from_what_is_held(self: journal.Journal, words: frozenset[bytes], since: int) -> bool:
        return concerns(self, words, max(since, self._first - 1))

    patch.setattr(journal.Journal, "concerns", from_what_is_held)


def joins_without_a_floor(patch: pytest.MonkeyPatch) -> None:
    begin = journal.Journal.__init__
    patch.setattr(journal.Journal, "__init__", lambda self, prefix, mark, at, floor: begin(self, prefix, mark, at, 0))


def forgets_without_a_floor(patch: pytest.MonkeyPatch) -> None:
    forget = journal.Journal._forget

    def forget_all(self: journal.Journal) -> None:
        floor = self._floor
        forget(self)
        self._floor = floor

    patch.setattr(journal.Journal, "_forget", forget_all)


def takes_another_journal_for_the_same(patch: pytest.MonkeyPatch) -> None:
    """Its marks are not compared, and what is missing is not noticed."""

    def follow(self: journal.Journal, asked_from: int, records: Any) -> None:
        for record in records:
            if record.number > self.at:
                self._first += record.number - self.at - 1 if not self._ends else 0
                self._add(record)

    patch.setattr(journal.Journal, "follow", follow)


def makes_a_journal_by_touching(patch: pytest.MonkeyPatch) -> None:
    """As if one that was lost went on where the next touch begins it."""
    _rewrite(patch, lua.TOUCH, "  if last then", "  last = last or {'1-7'}\n  if last then")
    patch.setattr("secrets.randbits", lambda bits: 7)


def joins_whatever_the_base_is(patch: pytest.MonkeyPatch) -> None:
    _rewrite(
        patch,
        lua.JOIN,
        "if not base or base:sub(1, 1) == '?' then return {false, base} end",
        "if not base or base:sub(1, 1) == '?' then base = '0' end",
    )


# Rules of replicas.


def keeps_what_no_mark_proves(patch: pytest.MonkeyPatch) -> None:
    """As if a replica that shows a mark had seen all there is."""
    patch.setattr(replicas, "covers", lambda version, snapshot: True)
    patch.setattr(read_protocol, "covers", lambda version, snapshot: True)


def takes_the_newest_mark_for_the_one_shown(patch: pytest.MonkeyPatch) -> None:
    def newest(self: marks.Marks, shown: marks.Shown, generation: int) -> str | None:
        known = [each for each in self._known.values() if each.generation == generation]
        return max(known, key=lambda each: each.read_at).snapshot if known and shown.is_standby else None

    patch.setattr(marks.Marks, "snapshot_of", newest)


def reads_from_who_takes_writes(patch: pytest.MonkeyPatch) -> None:
    snapshot_of = marks.Marks.snapshot_of

    def of_all(self: marks.Marks, shown: marks.Shown, generation: int) -> str | None:
        return snapshot_of(self, shown._replace(is_standby=True), generation)

    patch.setattr(marks.Marks, "snapshot_of", of_all)


def gives_what_the_primary_does_not_show_yet(patch: pytest.MonkeyPatch) -> None:
    """As if nobody had to ask again whether a replica that has seen enough has not seen more."""
    take = loop_reader.LoopReader._take

    async def unchecked(self: loop_reader.LoopReader, step: read_protocol.Step, wanted: loop_reader.Wanted) -> Any:
        return True if isinstance(step, read_protocol.Check) else await take(self, step, wanted)

    patch.setattr(loop_reader.LoopReader, "_take", unchecked)
