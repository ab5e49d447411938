"""The rows of each kind of report, as SQL over one store and a range of time.

Money comes twice: as an integer of minor units under the API's names (`amount`), and as people read it, with the
digits of its currency, in a column with `_decimal` to its name. Months and times are UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from dues.money import MINOR_DIGITS

# What a cell holds. `text` is whatever a user wrote; a `word` comes from a list of ours.
CellType = Literal["id", "word", "text", "time", "month", "integer", "decimal"]


@dataclass(frozen=True)
class Column:
    name: str
    sql: str
    type: CellType


@dataclass(frozen=True)
class Rows:
    """The rows of one kind of report.

    `source` is the FROM and WHERE, with the parameters `store_id`, `range_from` and `range_to`. Where `streams` is
    set, an index gives the rows in order, so that the first comes at once and the server sorts nothing on disk.
    """

    kind: str
    columns: tuple[Column, ...]
    source: str
    order: str
    streams: bool

    def select(self, cells: Mapping[CellType, str]) -> str:
        """The query of a report; `cells` says how a format wants each type written, `{0}` standing for the value."""
        columns = (f"{_cell(column, cells)} as {column.name}" for column in self.columns)
        return f"select {', '.join(columns)} {self.source} order by {self.order}"

    def select_arrays(self, cells: Mapping[CellType, str]) -> str:
        """The same, each row as one JSON array."""
        values = ", ".join(_cell(column, cells) for column in self.columns)
        return f"select json_build_array({values}) {self.source} order by {self.order}"

    def count(self) -> str:
        """How many rows there are. PostgreSQL leaves out the joins that cannot change the number."""
        return f"select count(*) from (select 1 {self.source}) counted"


def _cell(column: Column, cells: Mapping[CellType, str]) -> str:
    return cells.get(column.type, "{0}").format(column.sql)


def _decimal(amount: str, currency: str) -> str:
    """Exact, and with as many digits as the currency has: PostgreSQL adds up the scales of the two factors."""
    cases = []
    for digits in sorted(set(MINOR_DIGITS.values()) - {2}):
        codes = ",".join(sorted(code for code in MINOR_DIGITS if MINOR_DIGITS[code] == digits))
        cases.append(f"when {currency} = any('{{{codes}}}'::bpchar[]) then {Decimal(1).scaleb(-digits)}")
    return f"{amount} * case {' '.join(cases)} else 0.01 end"


def _money(name: str, amount: str, currency: str) -> tuple[Column, Column]:
    return Column(name, amount, "integer"), Column(f"{name}_decimal", _decimal(amount, currency), "decimal")


PAYMENTS = Rows(
    kind="payments",
    columns=(
        Column("id", "p.id", "id"),
        Column("created_at", "p.created_at", "time"),
        Column("status", "p.status", "word"),
        *_money("amount", "p.amount", "p.currency"),
        *_money("refunded_amount", "p.refunded_amount", "p.currency"),
        Column("currency", "p.currency", "word"),
        Column("user_id", "p.user_id", "id"),
        Column("user_name", "u.name", "text"),
        Column("user_email", "u.email", "text"),
        Column("package_id", "p.package_id", "id"),
        Column("package_name", "k.name", "text"),
        Column("subscription_id", "p.subscription_id", "id"),
        Column("description", "p.description", "text"),
        Column("failure_code", "p.failure_code", "text"),
        Column("gateway", "p.gateway", "text"),
        Column("gateway_ref", "p.gateway_ref", "text"),
        Column("updated_at", "p.updated_at", "time"),
    ),
    source="""
        from payments p
        left join users u on u.id = p.user_id
        left join packages k on k.store_id = p.store_id and k.id = p.package_id
        where p.store_id = %(store_id)s and p.created_at >= %(range_from)s and p.created_at < %(range_to)s""",
    order="p.created_at, p.id",
    streams=True,
)

# A refund counts in the month of its payment, so that a month's net is what is left of that month's sales.
REVENUE = Rows(
    kind="revenue",
    columns=(
        Column("month", "r.month", "month"),
        Column("package_id", "r.package_id", "id"),
        Column("package_name", "k.name", "text"),
        Column("currency", "r.currency", "word"),
        Column("payments", "r.payments", "integer"),
        *_money("gross", "r.gross", "r.currency"),
        *_money("refunded", "r.refunded", "r.currency"),
        *_money("net", "(r.gross - r.refunded)", "r.currency"),
    ),
    source="""
        from (
            select date_trunc('month', created_at, 'UTC') as month, package_id, currency, count(*) as payments,
                sum(amount) as gross, sum(refunded_amount) as refunded
            from payments
            where store_id = %(store_id)s and created_at >= %(range_from)s and created_at < %(range_to)s
                and status in ('succeeded', 'partially_refunded', 'refunded')
            group by 1, 2, 3
        ) r
        left join packages k on k.store_id = %(store_id)s and k.id = r.package_id""",
    order="r.month, k.name, r.package_id, r.currency",
    streams=False,
)

KINDS: dict[str, Rows] = {rows.kind: rows for rows in (PAYMENTS, REVENUE)}
