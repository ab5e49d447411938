"""A store's revenue from memberships, and how its memberships come and go.

Each entry in the log of subscription changes holds the subscription's monthly revenue (MRR) before and after the
change, so every figure is a sum over the log: over everything up to a moment for figures that describe a state, or over
one period for figures that describe movement. Payments and refunds are counted when they were made. One statement reads
it all.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from dues.clock import parse_moment, rfc3339, sql_rfc3339, store_now
from dues.errors import Fault, InvalidParameter, InvalidValue
from dues.reads import Computed, Resource
from dues.reads.resource import Schema
from dues.stores.models import Store

INTERVALS = ("day", "week", "month")
VIEWS = ("periods", "cohorts")
_LENGTH = {"day": timedelta(days=1), "week": timedelta(weeks=1), "month": timedelta(days=28)}
MOST_PERIODS = 400
_A_YEAR = timedelta(days=365)

# The log entries that affect a figure. This is the condition of the log's index.
_MOVES = (
    "(c.from_status is distinct from c.to_status or c.mrr <> c.mrr_before or c.committed <> c.committed_before"
    " or c.kind = 'declined')"
)
# Figures of a state: what one change adds.
_STANDING = {
    "mrr": "c.mrr - c.mrr_before",
    "committed_mrr": "c.committed - c.committed_before",
    **{
        status: f"(c.to_status = '{status}')::int - (c.from_status is not distinct from '{status}')::int"
        for status in ("active", "trialing", "past_due")
    },
}
_IS_NEW = "c.mrr_before = 0 and c.mrr > 0 and c.from_status is distinct from 'paused' and c.kind <> 'counted'"
# Figures of a period: which changes are counted; each also gets a sum of their effect on the MRR.
_MOVING = {
    "new": _IS_NEW,
    "churned": "c.mrr_before > 0 and c.mrr = 0",
    "reactivated": "c.mrr_before = 0 and c.mrr > 0 and c.from_status = 'paused'",
    "upgraded": "c.mrr_before > 0 and c.mrr > c.mrr_before",
    "downgraded": "c.mrr > 0 and c.mrr < c.mrr_before",
}
_COUNTED = {
    "failed_payments": "c.kind in ('past_due', 'declined')",
    "recovered": "c.kind = 'recovered'",
}
_MONEY = ("gross", "refunds")


def _sums() -> str:
    standing = [f"sum({sql})::bigint as {name}" for name, sql in _STANDING.items()]
    moving = [
        f"count(*) filter (where {sql}) as {name},"
        f" coalesce(sum(c.mrr - c.mrr_before) filter (where {sql}), 0)::bigint as {name}_mrr"
        for name, sql in _MOVING.items()
    ]
    counted = [f"count(*) filter (where {sql}) as {name}" for name, sql in _COUNTED.items()]
    return ", ".join(standing + moving + counted)


def _bucket(moment: str) -> str:
    """SQL for the period that a moment falls into, in the store's local time; `-infinity` for everything before the
    first period."""
    return f"case when {moment} < r.since then '-infinity' else date_trunc(r.per, {moment} at time zone r.zone) end"


_FLOWS = [name for kind in _MOVING for name in (kind, f"{kind}_mrr")] + list(_COUNTED)


def _range(store: str, zone: str, per: str, until: str) -> str:
    """The periods of a range, as common table expressions. All four parameters are SQL."""
    return f"""
    r as (
        select {zone} as zone, {per}::text as per, date_trunc({per}, %(range_from)s::timestamptz at time zone {zone})
            at time zone {zone} as since, {until} as until
        from stores where id = {store}),
    periods as (
        select '-infinity'::timestamp as start
        union all
        select generate_series(r.since at time zone r.zone, r.until at time zone r.zone - interval '1 us',
            ('1 ' || r.per)::interval) from r)
"""


def periods(store: str, zone: str, per: str, until: str) -> str:
    """A query, in parentheses, for the figures of each period and currency as a JSON array, earliest period first.

    The parameters are SQL: the store, its time zone, the length of a period (`day`, `week`, `month`), and the end of
    the range. The range begins at `%(range_from)s`.
    """
    return f"""
(with {_range(store, zone, per, until)},
    moved as (
        select c.currency, {_bucket("c.created_at")} as start, {_sums()}
        from subscription_changes c, r
        where c.store_id = {store} and c.created_at < r.until and c.currency is not null and {_MOVES}
        group by 1, 2),
    money as (
        select m.currency, {_bucket("m.at")} as start, sum(m.paid)::bigint as gross, sum(m.back)::bigint as refunds
        from r, lateral (
            select currency, paid_at as at, amount as paid, 0 as back from payments
            where store_id = {store} and coalesce(paid_at, '-infinity') >= r.since
                and coalesce(paid_at, '-infinity') < r.until
            union all
            select currency, settled_at, 0, amount from refunds
            where store_id = {store} and coalesce(settled_at, '-infinity') >= r.since
                and coalesce(settled_at, '-infinity') < r.until
                and (status = 'succeeded' or returned_at is not null)
            union all
            select currency, returned_at, 0, -amount from refunds
            where store_id = {store} and returned_at >= r.since and returned_at < r.until) m
        group by 1, 2),
    figures as (
        select k.currency, p.start,
            {", ".join(f"sum(v.{name}) over sofar as {name}" for name in _STANDING)},
            {", ".join(f"v.{name}" for name in _FLOWS)}, {", ".join(f"m.{name}" for name in _MONEY)}
        from (select currency from moved union select currency from money) k
        cross join periods p
        left join moved v on v.currency = k.currency and v.start = p.start
        left join money m on m.currency = k.currency and m.start = p.start
        window sofar as (partition by k.currency order by p.start))
    select coalesce(json_agg(json_build_object('start', {sql_rfc3339("(f.start at time zone r.zone)")},
        'currency', f.currency,
        {", ".join(f"'{name}', coalesce(f.{name}, 0)" for name in (*_STANDING, *_FLOWS, *_MONEY))},
        'net', coalesce(f.gross, 0) - coalesce(f.refunds, 0)) order by f.start, f.currency), '[]')
    from figures f, r where f.start <> '-infinity')
"""


_REQUEST_RANGE = ("%(id)s::uuid", "timezone", "%(per)s", "%(range_to)s::timestamptz")
# A cohort: the subscriptions that began to bring revenue in one period. Its figures are how many of them still do at
# the end of each period, and their MRR.
_COHORTS = f"""
(with {_range(*_REQUEST_RANGE)},
    began as (
        select c.subscription_id, c.currency, {_bucket("min(c.created_at)")} as cohort
        from subscription_changes c, r
        where c.store_id = %(id)s::uuid and c.created_at < r.until and c.currency is not null and {_MOVES} and {_IS_NEW}
        group by c.subscription_id, c.currency, r.since, r.zone, r.per),
    moved as (
        select b.cohort, b.currency, {_bucket("c.created_at")} as start,
            sum((c.mrr > 0)::int - (c.mrr_before > 0)::int) as members, sum(c.mrr - c.mrr_before)::bigint as mrr
        from began b
        join subscription_changes c on c.store_id = %(id)s::uuid and c.subscription_id = b.subscription_id, r
        where c.created_at < r.until and b.cohort <> '-infinity' and c.mrr <> c.mrr_before
        group by 1, 2, 3),
    figures as (
        select k.cohort, k.currency, p.start, sum(v.members) over sofar as members, sum(v.mrr) over sofar as mrr
        from (select distinct cohort, currency from moved) k
        join periods p on p.start >= k.cohort
        left join moved v on v.cohort = k.cohort and v.currency = k.currency and v.start = p.start
        window sofar as (partition by k.cohort, k.currency order by p.start))
    select coalesce(json_agg(c.cohort order by c.start, c.currency), '[]')
    from (
        select f.cohort as start, f.currency, json_build_object(
            'start', {sql_rfc3339("(f.cohort at time zone min(r.zone))")}, 'currency', f.currency,
            'members', json_agg(f.members order by f.start), 'mrr', json_agg(f.mrr order by f.start)) as cohort
        from figures f, r group by f.cohort, f.currency) c)
"""

_INTEGER: Schema = {"type": "integer"}
_START: Schema = {"type": "string", "format": "date-time"}
_ROW: Schema = {
    "type": "object",
    "properties": {
        "start": _START,
        "currency": {"type": "string"},
        **dict.fromkeys((*_STANDING, *_FLOWS, *_MONEY, "net"), _INTEGER),
    },
}
_COHORT: Schema = {
    "type": "object",
    "description": "`members` and `mrr` at the end of its own period, of the next, and so on",
    "properties": {
        "start": _START,
        "currency": {"type": "string"},
        "members": {"type": "array", "items": _INTEGER},
        "mrr": {"type": "array", "items": _INTEGER},
    },
}


def _resource(name: str, sql: str) -> Resource:
    return Resource(
        name,
        Store,
        fields={
            "store_id": Store.id,
            "timezone": Store.timezone,
            "interval": Computed("%(per)s::text", {"type": "string", "enum": list(INTERVALS)}),
            "data": Computed(sql, {"type": "array", "items": {"anyOf": [_ROW, _COHORT]}}),
        },
        tags=lambda scope: (
            f"store:{scope['id']}",
            f"store:{scope['id']}:subscriptions",
            f"store:{scope['id']}:payments",
        ),
    )


metrics = _resource("StoreMetrics", periods(*_REQUEST_RANGE))
cohorts = _resource("StoreCohorts", _COHORTS)

PARAMETERS = [
    {
        "name": name,
        "in": "query",
        "description": f"RFC 3339; {what}",
        "schema": _START,
    }
    for name, what in (
        ("from", "the first period is the one that it falls into; by default a year before `to`"),
        ("to", "what happened then or later is left out; by default the end of the present day in UTC"),
    )
] + [
    {
        "name": name,
        "in": "query",
        "description": what,
        "schema": {
            "type": "string",
            "enum": list(choices),
            "default": choices[-1] if name == "interval" else choices[0],
        },
    }
    for name, what, choices in (
        ("interval", "how long a period is, in the store's time zone", INTERVALS),
        (
            "view",
            "figures of each period; or cohorts: of the members who began in a period, how many have stayed",
            VIEWS,
        ),
    )
]


def parse_request(
    store_id: UUID, parameters: Iterable[tuple[str, str]]
) -> tuple[Resource, dict[str, UUID | str | bool | None]]:
    """The resource that a request for metrics asks for, and its scope, from the query parameters. Raises:
    InvalidParameter."""
    faults: list[Fault] = []
    given: dict[str, str] = {}
    for name, value in parameters:
        if name in given:
            faults.append(Fault(code="repeated", detail="is given twice", parameter=name))
        given[name] = value
    until = _moment("to", given, faults) or _end_of_day(store_id)
    since = _moment("from", given, faults) or until - _A_YEAR
    per = _choice("interval", given, INTERVALS, "month", faults)
    view = _choice("view", given, VIEWS, "periods", faults)
    if not faults and since >= until:
        faults.append(Fault(code="range", detail="must be later than from", parameter="to"))
    elif not faults and until - since > MOST_PERIODS * _LENGTH[per]:
        faults.append(Fault(code="range", detail=f"more than {MOST_PERIODS} periods", parameter="to"))
    if faults:
        raise InvalidParameter.of_faults(faults)
    scope: dict[str, UUID | str | bool | None]
    scope = {"id": store_id, "per": per, "range_from": rfc3339(since), "range_to": rfc3339(until)}
    return (cohorts if view == "cohorts" else metrics), scope


def _end_of_day(store_id: UUID) -> datetime:
    """The end of the present day. It stays the same all day long, so that answers can be cached."""
    return store_now(store_id).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _moment(name: str, given: dict[str, str], faults: list[Fault]) -> datetime | None:
    if name not in given:
        return None
    try:
        return parse_moment(given[name])
    except InvalidValue as error:
        faults.append(Fault(code=error.code, detail=str(error), parameter=name))
        return None


def _choice(name: str, given: dict[str, str], choices: tuple[str, ...], default: str, faults: list[Fault]) -> str:
    value = given.get(name, default)
    if value not in choices:
        faults.append(Fault(code="invalid", detail=f"is not one of {', '.join(choices)}", parameter=name))
        return default
    return value
