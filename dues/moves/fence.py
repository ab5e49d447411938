"""The fence around a store that is being moved: triggers, which are there only meanwhile, so that they cost nothing
while no store is.

It is in the database, and so holds whoever writes: web servers and workers of any release, and people at psql. A
trigger can be made once no open transaction has written to its table. So when the last is there, all that was ever
written for the store is committed, and nothing more can be: one snapshot has all of it. Nobody waits longer than two
seconds for it at a time (dues/postgres/patience.py).

Jobs are held first. Those that wait are put on a queue that no worker asks for, as are those that still come; those
that run are waited for, since a charge may be at its gateway. Then everything is refused, with SQLSTATE DU503, which is
answered 503 with Retry-After.
"""

import time
from uuid import UUID

from dues.moves.tables import TABLES
from dues.moving import HELD
from dues.postgres.changing import Session
from dues.postgres.patience import Tell

_LOOK_S = 0.1
_TELL_S = 10.0
_RUNNING = "select count(*) from jobs where store_id = %(store_id)s and status = 'running'"
_THERE = """
    select t.tgrelid::regclass::text from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where t.tgname = %(name)s and t.tgparentid = 0
"""


class StillRunning(Exception):
    """Jobs of the store have not ended in time."""


class Fence:
    """That of one store, made and lifted by a session that alone changes tables."""

    def __init__(self, session: Session, store_id: UUID) -> None:
        self._session, self._store_id = session, store_id
        self._in, self._out = f"moving_{store_id.hex}_in", f"moving_{store_id.hex}_out"

    def hold_jobs(self) -> None:
        """From here on no job of the store begins."""
        trigger = self._trigger(self._in, "insert or update", "jobs", "new.store_id", "store_moves_hold_job")
        of_store = f"store_id = '{self._store_id}' and status = 'queued' and not starts_with(queue, '{HELD}')"
        hold = f"update jobs set queue = '{HELD}' || queue where {of_store}"
        # First the many, while workers go on; then, with the trigger, the few that came meanwhile. Workers never see a
        # job on their own queue that the trigger keeps them from beginning: each would ask for it again and again, and
        # do nothing of the stores that come after this one.
        self._session.together([hold])
        self._session.together([trigger, hold])

    def wait_for_jobs(self, longest_s: float, tell: Tell) -> None:
        """Return when none runs. Raises: StillRunning."""
        started = told = time.monotonic()
        while running := self._session.value(_RUNNING, {"store_id": self._store_id}):
            if time.monotonic() - started > longest_s:
                raise StillRunning(f"{running} jobs of the store still run after {longest_s:g} s")
            if time.monotonic() - told > _TELL_S:
                tell(f"waiting for {running} jobs of the store to end")
                told = time.monotonic()
            time.sleep(_LOOK_S)

    def refuse_writes(self) -> None:
        """From the return on nothing of the store is written, and all that was written is committed."""
        for table in TABLES:
            if table.fence == "jobs":
                self._make("jobs", "store_id", "store_moves_refuse_job")
            elif table.fence == "post":
                when = "insert or update or delete"
                self._session.together([self._trigger(self._in, when, table.name, "", "store_moves_refuse_of_post")])
            elif table.fence:
                self._make(table.name, table.fence, "store_moves_refuse")

    def lift(self, *, free_jobs: bool) -> None:
        """Take the triggers away. `free_jobs`: workers get those that were held."""
        for name in (self._in, self._out):
            for (table,) in self._session.rows(_THERE, {"name": name}):
                if table != "jobs":
                    self._session.together([f"drop trigger if exists {name} on {table}"])
        self._session.together([f"drop trigger if exists {name} on jobs" for name in (self._in, self._out)])
        if free_jobs:
            held = f"store_id = '{self._store_id}' and starts_with(queue, '{HELD}')"
            self._session.together([f"update jobs set queue = regexp_replace(queue, '^{HELD}', '') where {held}"])

    def _make(self, table: str, column: str, function: str) -> None:
        self._session.together(
            [
                self._trigger(self._in, "insert or update", table, f"new.{column}", function),
                self._trigger(self._out, "delete", table, f"old.{column}", function),
            ]
        )

    def _trigger(self, name: str, events: str, table: str, column: str, function: str) -> str:
        when = f" when ({column} = '{self._store_id}')" if column else ""
        return (
            f"create or replace trigger {name} before {events} on {table} for each row{when}"
            f" execute function {function}('{self._store_id}')"
        )
