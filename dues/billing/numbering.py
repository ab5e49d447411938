"""Numbers of invoices and credit notes: 1, 2, 3, … per store and series, without a gap.

The last number is in a row of `number_counters`. The row is locked from the moment a number is taken until the commit,
and a rollback returns the number. To keep the lock short, numbers are assigned last before the commit, just before the
events that show them (dues/events.py).
"""

from typing import Literal
from uuid import UUID
from weakref import WeakKeyDictionary

from dues.postgres import UnitOfWork, fetch_row, next_to_last_before_commit, unit_of_work

Table = Literal["invoices", "credit_notes"]

PREFIXES: dict[Table, str] = {"invoices": "INV-", "credit_notes": "CN-"}

_NUMBER = """
    with counter as (
        insert into number_counters as c (store_id, series, last) values (%(store_id)s, '{table}', %(count)s)
        on conflict (store_id, series) do update set last = c.last + %(count)s
        returning c.last),
    numbered as (
        update {table} t set sequence = n.sequence,
            number = coalesce(s.invoice_prefix || '-', '') || %(prefix)s
                || lpad(n.sequence::text, greatest(6, length(n.sequence::text)), '0')
        from (
            select r.id, counter.last - %(count)s + r.place as sequence
            from counter, unnest(%(ids)s::uuid[]) with ordinality r(id, place)) n, stores s
        where t.store_id = %(store_id)s and t.id = n.id and s.id = t.store_id
        returning 1)
    select count(*) from numbered
"""
_Rows = dict[tuple[UUID, Table], list[str]]
_unnumbered: "WeakKeyDictionary[UnitOfWork, _Rows]" = WeakKeyDictionary()


def number_at_commit(table: Table, store_id: UUID, row_id: UUID) -> None:
    """Have a row numbered when the present transaction() commits, after the rows that were passed before."""
    _unnumbered.setdefault(unit_of_work(), {}).setdefault((store_id, table), []).append(str(row_id))


@next_to_last_before_commit
def _number_all(work: UnitOfWork) -> None:
    # Sorted, so that two transactions never wait for each other.
    for (store_id, table), ids in sorted(_unnumbered.pop(work, {}).items()):
        values = {"store_id": store_id, "ids": f"{{{','.join(ids)}}}", "count": len(ids), "prefix": PREFIXES[table]}
        row = fetch_row(_NUMBER.format(table=table), values, hot=True)
        if row is None or row[0] != len(ids):
            raise LookupError(f"{table}: a row that was to be numbered is not there")
