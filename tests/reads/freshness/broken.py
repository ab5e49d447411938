"""The protocol's rules, each broken on its own: what the explorer must find out."""

import contextlib
import hashlib
from collections.abc import Callable

import pytest

from dues.reads.freshness import reader, store, switch, writer
from dues.reads.freshness.snapshot import covers
from dues.redis.wire import CacheAway
from tests.reads.freshness import postgres, redis, world

Break = Callable[[pytest.MonkeyPatch], None]


def keeps_whatever_it_computed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reader, "covers", lambda version, snapshot: True)


def ignores_listed_ids(patch: pytest.MonkeyPatch) -> None:
    def without_ids(version: str, snapshot: str) -> bool:
        return covers(" ".join(tag.rpartition(";")[0] + ";" for tag in version.split(" ")), snapshot)

    patch.setattr(reader, "covers", without_ids)


def ignores_the_floor(patch: pytest.MonkeyPatch) -> None:
    def without_floor(version: str, snapshot: str) -> bool:
        return covers(" ".join("0;" + tag.partition(";")[2] for tag in version.split(" ")), snapshot)

    patch.setattr(reader, "covers", without_floor)


def starts_from_what_is_finished(patch: pytest.MonkeyPatch) -> None:
    """As if a snapshot's xmax were above every id that was given out."""
    patch.setattr(postgres.Table, "new_xid", lambda table: str(table._postgres.newest_finished))


def claims_after_the_id(patch: pytest.MonkeyPatch) -> None:
    found_base = store.Store.found_base

    def found(self: store.Store, generation: int, new_xid: Callable[[], str]) -> bool:
        xid = new_xid()
        for _ in range(20):
            self.takes_writes()
        return found_base(self, generation, lambda: xid)

    patch.setattr(store.Store, "found_base", found)


def _rewrite(patch: pytest.MonkeyPatch, script: store.Script, old: str, new: str) -> None:
    assert old in script.text.decode()
    text = script.text.decode().replace(old, new).encode()
    patch.setattr(script, "text", text)
    patch.setattr(script, "sha", hashlib.sha1(text).hexdigest())


def never_raises_the_base(patch: pytest.MonkeyPatch) -> None:
    _rewrite(patch, store._TOUCH, "if base then", "if false then")


def never_raises_the_floor(patch: pytest.MonkeyPatch) -> None:
    _rewrite(patch, store._TOUCH, "floor, ids = greater(floor, oldest), rest", "ids = rest")


def names_no_run_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(redis.Redis, "run_id", "always")


def keeps_the_generation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(world.World, "next_generation", lambda self: 1)


def commits_untouched(patch: pytest.MonkeyPatch) -> None:
    touch = store.Store.touch

    def touch_or_not(self: store.Store, generation: int, tags: list[str], xid: str) -> None:
        with contextlib.suppress(CacheAway):
            touch(self, generation, tags, xid)

    patch.setattr(store.Store, "touch", touch_or_not)


def does_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(writer, "SETTLE_S", 0.0)


def only_the_first_waits(patch: pytest.MonkeyPatch) -> None:
    touch = writer.Writer.touch

    def touch_without(self: writer.Writer, tags: list[str], xid: str, row: switch.Row | None) -> None:
        touch(self, tags, xid, row and row._replace(settled=not row.on))

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
    patch.setattr(world.Rules, "touch_before_commit", False)


def reads_the_switch_before_its_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(world.Rules, "id_before_switch", False)


def does_not_compare(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store.Proof, "holds", lambda self, values: True)
