"""The rows of each kind of report, as SQL over one store and a range of time.

Money stands under the time at which it moved: a payment under its `paid_at`; a refund, which is a row of its own once
it is settled, under its `settled_at`; and what comes back of a refund, which is one more row, under its `returned_at`.
A payment that is not paid stands under the time at which it was asked for, and counts as nothing. So the money of a
range that is over never changes.

Money comes twice: as an integer of minor units under the API's names (`amount`), and as people read it, with the
digits of its currency, in a column with `_decimal` to its name. Times are UTC; months are those of the report's zone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from dues.billing.metrics import periods
from dues.money import MINOR_DIGITS

# What a cell holds. `text` is whatever a user wrote; a `word` comes from a list of ours.
CellType = Literal["id", "word", "text", "time", "month", "integer", "decimal"]


@dataclass(frozen=True)
class Column:
    name: str
    sql: str
    type: CellType

    @property
    def title(self) -> str:
        """As it stands above the column of a table, whose cells do not tell the zone of their times."""
        return f"{self.name}_utc" if self.type == "time" else self.name


@dataclass(frozen=True)
class Rows:
    """The rows of one kind of report.

    `source` is the FROM and WHERE, with the parameters `store_id`, `range_from`, `range_to` and `timezone`. Where
    `streams` is set, indexes give the rows in order, so that the first comes at once and the server sorts nothing on
    disk. `beside` is a query of one value, JSON, of the same parameters, which a drawn document shows beside the rows;
    none: there is nothing.
    """

    kind: str
    columns: tuple[Column, ...]
    source: str
    order: str
    streams: bool
    beside: str = ""

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


def money(name: str, amount: str, currency: str) -> tuple[Column, Column]:
    """An amount twice: `amount` and `currency` are SQL."""
    return Column(name, amount, "integer"), Column(f"{name}_decimal", _decimal(amount, currency), "decimal")


# Each part in the order of an index, and all of the same types, so that the whole is merged from them and nothing has
# to be sorted.
_MOVES = """(
    (select 'payment'::text as type, id, id as payment_id, coalesce(paid_at, '-infinity') as booked_at, created_at,
        paid_at, null::timestamptz as settled_at, status, amount, amount as net, currency, user_id, package_id,
        subscription_id, description, failure_code, gateway, gateway_ref, updated_at
    from payments
    where store_id = %(store_id)s and coalesce(paid_at, '-infinity') >= %(range_from)s
        and coalesce(paid_at, '-infinity') < %(range_to)s
    order by booked_at, id)
    union all
    (select 'payment'::text, id, id, created_at, created_at, paid_at, null::timestamptz, status, amount, 0::bigint,
        currency, user_id, package_id, subscription_id, description, failure_code, gateway, gateway_ref, updated_at
    from payments
    where store_id = %(store_id)s and created_at >= %(range_from)s and created_at < %(range_to)s and paid_at is null
    order by created_at, id)
    union all
    (select 'refund'::text, r.id, r.payment_id, coalesce(r.settled_at, '-infinity') as booked_at, r.created_at,
        null::timestamptz, r.settled_at, r.status, r.amount,
        case when r.status = 'succeeded' or r.returned_at is not null then -r.amount else 0 end,
        r.currency, p.user_id, p.package_id, p.subscription_id, r.reason, r.failure_code, p.gateway, r.gateway_ref,
        r.updated_at
    from refunds r join payments p on p.store_id = r.store_id and p.id = r.payment_id
    where r.store_id = %(store_id)s and coalesce(r.settled_at, '-infinity') >= %(range_from)s
        and coalesce(r.settled_at, '-infinity') < %(range_to)s
    order by booked_at, r.id)
    union all
    (select 'returned_refund'::text, r.id, r.payment_id, r.returned_at as booked_at, r.created_at,
        null::timestamptz, r.settled_at, r.status, r.amount, r.amount, r.currency, p.user_id, p.package_id,
        p.subscription_id, r.reason, r.failure_code, p.gateway, r.gateway_ref, r.updated_at
    from refunds r join payments p on p.store_id = r.store_id and p.id = r.payment_id
    where r.store_id = %(store_id)s and r.returned_at >= %(range_from)s and r.returned_at < %(range_to)s
    order by r.returned_at, r.id)
)"""

PAYMENTS = Rows(
    kind="payments",
    columns=(
        Column("id", "m.id", "id"),
        Column("type", "m.type", "word"),
        Column("payment_id", "m.payment_id", "id"),
        Column("booked_at", "m.booked_at", "time"),
        Column("created_at", "m.created_at", "time"),
        Column("paid_at", "m.paid_at", "time"),
        Column("settled_at", "m.settled_at", "time"),
        Column("status", "m.status", "word"),
        *money("amount", "m.amount", "m.currency"),
        *money("net", "m.net", "m.currency"),
        Column("currency", "m.currency", "word"),
        Column("user_id", "m.user_id", "id"),
        Column("user_name", "coalesce(c.name, u.name)", "text"),
        Column("user_email", "coalesce(c.email, u.email)", "text"),
        Column("package_id", "m.package_id", "id"),
        Column("package_name", "k.name", "text"),
        Column("subscription_id", "m.subscription_id", "id"),
        Column("description", "m.description", "text"),
        Column("failure_code", "m.failure_code", "text"),
        Column("gateway", "m.gateway", "text"),
        Column("gateway_ref", "m.gateway_ref", "text"),
        Column("updated_at", "m.updated_at", "time"),
    ),
    source=f"""
        from {_MOVES} m
        left join users u on u.id = m.user_id
        left join customers c on c.store_id = %(store_id)s and c.user_id = m.user_id
        left join packages k on k.store_id = %(store_id)s and k.id = m.package_id""",
    order="m.booked_at, m.id",
    streams=True,
)

# By months of the report's zone, of which none is shown that has not begun yet.
_MONTHS = "select " + periods(
    "%(store_id)s",
    "%(timezone)s::text",
    "'month'",
    "least(%(range_to)s::timestamptz, coalesce("
    "(select moment from store_clocks where store_id = %(store_id)s), now()))",
)

REVENUE = Rows(
    kind="revenue",
    columns=(
        Column("month", "r.month", "month"),
        Column("timezone", "%(timezone)s::text", "word"),
        Column("package_id", "r.package_id", "id"),
        Column("package_name", "k.name", "text"),
        Column("currency", "r.currency", "word"),
        Column("payments", "r.payments", "integer"),
        *money("gross", "r.gross", "r.currency"),
        Column("refunds", "r.refunds", "integer"),
        *money("refunded", "r.refunded", "r.currency"),
        *money("net", "(r.gross - r.refunded)", "r.currency"),
    ),
    source="""
        from (
            select date_trunc('month', moved_at at time zone %(timezone)s) as month, package_id, currency,
                count(paid) as payments, coalesce(sum(paid), 0) as gross,
                coalesce(sum(sign(refunded)), 0)::bigint as refunds, coalesce(sum(refunded), 0) as refunded
            from (
                select paid_at as moved_at, package_id, currency, amount as paid, null::bigint as refunded
                from payments
                where store_id = %(store_id)s and coalesce(paid_at, '-infinity') >= %(range_from)s
                    and coalesce(paid_at, '-infinity') < %(range_to)s
                union all
                select r.settled_at, p.package_id, r.currency, null, r.amount
                from refunds r join payments p on p.store_id = r.store_id and p.id = r.payment_id
                where r.store_id = %(store_id)s and coalesce(r.settled_at, '-infinity') >= %(range_from)s
                    and coalesce(r.settled_at, '-infinity') < %(range_to)s
                    and (r.status = 'succeeded' or r.returned_at is not null)
                union all
                select r.returned_at, p.package_id, r.currency, null, -r.amount
                from refunds r join payments p on p.store_id = r.store_id and p.id = r.payment_id
                where r.store_id = %(store_id)s and r.returned_at >= %(range_from)s and r.returned_at < %(range_to)s
            ) m
            group by 1, 2, 3
        ) r
        left join packages k on k.store_id = %(store_id)s and k.id = r.package_id""",
    order="r.month, k.name, r.package_id, r.currency",
    streams=False,
    beside=_MONTHS,
)
