"""The write side: a unit of work touches its tags, last thing before its commit.

One statement gives the transaction's id and the switch as it is *after* that id was given out; one call appends the
id to the tags, and a record to the journal. There is nothing left to do after the commit: if it never comes, PostgreSQL
calls the id aborted.

A write that answers with what it has written reads the id and the switch along with that, in one statement less.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dues.postgres import fetch_row, is_spread, unit_of_work
from dues.postgres.connection import Row as DatabaseRow
from dues.reads.freshness.store import Store
from dues.reads.freshness.switch import SETTLE_S, Row, SwitchTable
from dues.redis.wire import CacheAway

# No id: nothing was written, so nobody's answer changes.
_ID_AND_SWITCH = """
    select current_setting('transaction_isolation'), pg_current_xact_id_if_assigned()::text,
           s.generation, s."on", s.settled
    from (select) one left join cache_switch s on true
"""
_ALONG = "select r.*, s.* from ({sql}) r, ({id_and_switch}) s"
_ID_AND_SWITCH_COLUMNS = 5


def fetch_row_to_answer(sql: str, values: Mapping[str, Any]) -> DatabaseRow | None:
    """The row of a statement in the present transaction(), which then knows its id and the switch, where it has
    written already."""
    work = unit_of_work()
    # Where the database is spread, the switch and the row may be on two servers, which one statement cannot ask.
    if work.id_and_switch or is_spread():
        return fetch_row(sql, values, hot=True)
    found = fetch_row(_ALONG.format(sql=sql, id_and_switch=_ID_AND_SWITCH), values, hot=True)
    if found is None:
        return None
    row, id_and_switch = found[:-_ID_AND_SWITCH_COLUMNS], found[-_ID_AND_SWITCH_COLUMNS:]
    if id_and_switch[1] is not None:
        work.id_and_switch = id_and_switch
    return row


class Writer:
    """Touches for one process."""

    def __init__(self, store: Store, switch: SwitchTable, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store, self._switch, self._sleep = store, switch, sleep

    def touch_before_commit(self, tags: Sequence[str], words: bytes = b"") -> None:
        """Touch `tags` for the present transaction(), all of whose rows are written, and name `words` in the journal.

        Returns when no reader that begins after the commit can be given an older answer. Raises: psycopg2.Error.
        """
        # The switch may have been read before the last rows were written: what counts is that the id was given out.
        row = unit_of_work().id_and_switch or fetch_row(_ID_AND_SWITCH, {}, hot=True)
        assert row
        isolation, xid, *switch = row
        if isolation != "read committed":
            raise RuntimeError(f"a unit of work that touches tags must see the switch as it is now, not {isolation}")
        if xid is not None:
            self.touch(tags, xid, Row(*switch) if switch[0] is not None else None, words)

    def touch(self, tags: Sequence[str], xid: str, switch: Row | None, words: bytes = b"") -> None:
        """`switch` was read after `xid` was given out: whatever generation is opened later, its base is above."""
        if switch and switch.on:
            try:
                self._store.touch(switch.generation, tags, xid, words)
            except CacheAway:
                self._switch.close(switch.generation)
            else:
                return
        elif switch and switch.settled:
            return
        self._sleep(SETTLE_S)
        self._switch.settle(switch.generation if switch else None)
