"""The write side: a unit of work touches its tags, last thing before its commit.

One statement gives the transaction's id and the switch as it is *after* that id was given out; one call appends the
id to the tags, and a record to the journal. There is nothing left to do after the commit: if it never comes, PostgreSQL
calls the id aborted.
"""

import time
from collections.abc import Callable, Sequence

from dues.postgres import fetch_row
from dues.reads.freshness.store import Store
from dues.reads.freshness.switch import SETTLE_S, Row, SwitchTable
from dues.redis.wire import CacheAway

# No id: nothing was written, so nobody's answer changes.
_ID_AND_SWITCH = """
    select current_setting('transaction_isolation'), pg_current_xact_id_if_assigned()::text,
           s.generation, s."on", s.settled
    from (select) one left join cache_switch s on true
"""


class Writer:
    """Touches for one process."""

    def __init__(self, store: Store, switch: SwitchTable, sleep: Callable[[float], None] = time.sleep) -> None:
        self._store, self._switch, self._sleep = store, switch, sleep

    def touch_before_commit(self, tags: Sequence[str], words: bytes = b"") -> None:
        """Touch `tags` for the present transaction(), all of whose rows are written, and name `words` in the journal.

        Returns when no reader that begins after the commit can be given an older answer. Raises: psycopg2.Error.
        """
        row = fetch_row(_ID_AND_SWITCH, {}, hot=True)
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
