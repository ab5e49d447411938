"""The audit compares payments, refunds, invoices, credits, the ledger and the gateways' own records with one another,
and describes each difference in a sentence. `flask audit` prints them."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

from dues.payments.gateway import GatewayBusy, GatewayTimeout, Record
from dues.payments.gateways import all_gateways, gateway_of
from dues.postgres import connect
from dues.settings import settings

# Every check reads whole tables. Without table statistics, after an import for example, the planner considers nested
# loops cheap; over whole tables they run for hours.
_SETTINGS = """
    select set_config('statement_timeout', '0', true), set_config('enable_seqscan', 'on', true),
        set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true)
"""
# Statuses of a payment that was charged, whether or not it was refunded later.
_CHARGED = "('succeeded', 'partially_refunded', 'refunded')"

# Each query returns one sentence per difference.
_CHECKS = (
    # Every charge and every refund is booked once, in the account of its gateway.
    f"""
    select format('payment %s of %s %s was charged, and the books have %s at its gateway', p.id, p.amount, p.currency,
        coalesce(b.booked, 0))
    from payments p
    left join lateral (
        select sum(e.amount) as booked from ledger_transactions t
        join ledger_entries e on e.store_id = t.store_id and e.transaction_id = t.id
        where t.store_id = p.store_id and e.account = 'gateway:' || p.gateway and e.currency = p.currency
            and t.source in ('payment:' || p.id, 'invoice:' || (
                select i.id from invoices i where i.store_id = p.store_id and i.payment_id = p.id))) b on true
    where p.status in {_CHARGED} and coalesce(b.booked, 0) <> p.amount
    """,
    """
    select format('refund %s of %s %s was made, and the books have %s at its gateway', r.id, r.amount, r.currency,
        coalesce(-b.booked, 0))
    from refunds r join payments p on p.store_id = r.store_id and p.id = r.payment_id
    left join lateral (
        select sum(e.amount) as booked from ledger_transactions t
        join ledger_entries e on e.store_id = t.store_id and e.transaction_id = t.id
        where t.store_id = r.store_id and t.source = 'refund:' || r.id and e.account = 'gateway:' || p.gateway
        ) b on true
    where r.status = 'succeeded' and coalesce(-b.booked, 0) <> r.amount
    """,
    f"""
    select format('store %s has %s %s at %s by its payments, and %s by the books', coalesce(a.store_id, b.store_id),
        coalesce(a.amount, 0), coalesce(a.currency, b.currency), coalesce(a.gateway, b.gateway), coalesce(b.amount, 0))
    from (
        select store_id, gateway, currency, sum(amount) as amount from (
            select store_id, gateway, currency, amount - refunded_amount as amount from payments
            where status in {_CHARGED}
            union all
            select d.store_id, p.gateway, d.currency, -d.amount from disputes d
            join payments p on p.store_id = d.store_id and p.id = d.payment_id
            where d.status in ('open', 'lost')) x
        group by 1, 2, 3) a
    full join (
        select store_id, substr(account, 9) as gateway, currency, sum(amount) as amount from ledger_entries
        where account like 'gateway:%' group by 1, 2, 3) b using (store_id, gateway, currency)
    where coalesce(a.amount, 0) <> coalesce(b.amount, 0)
    """,
    # The money that banks hold or have kept equals the amounts of the disputes.
    """
    select format('store %s has %s %s as %s by its disputes, and %s by the books', coalesce(a.store_id, b.store_id),
        coalesce(a.amount, 0), coalesce(a.currency, b.currency), coalesce(a.account, b.account), coalesce(b.amount, 0))
    from (
        select store_id, currency, case status when 'open' then 'disputed' else 'losses' end as account,
            sum(amount) as amount
        from disputes where status in ('open', 'lost') group by 1, 2, 3) a
    full join (
        select store_id, currency, account, sum(amount) as amount from ledger_entries
        where account in ('disputed', 'losses') group by 1, 2, 3) b using (store_id, currency, account)
    where coalesce(a.amount, 0) <> coalesce(b.amount, 0)
    """,
    """
    select format('payment %s shows a dispute that is %s, and it is %s', coalesce(p.id, d.payment_id),
        coalesce(p.dispute ->> 'status', 'not there'), coalesce(d.status, 'not there'))
    from payments p
    full join (
        select distinct on (store_id, payment_id) store_id, payment_id, status from disputes
        order by store_id, payment_id, updated_at desc) d on d.store_id = p.store_id and d.payment_id = p.id
    where p.dispute ->> 'status' is distinct from d.status
    """,
    """
    select format('payment %s says that %s of it were given back, and its refunds %s', p.id, p.refunded_amount,
        coalesce(sum(r.amount), 0))
    from payments p left join refunds r
        on r.store_id = p.store_id and r.payment_id = p.id and r.status = 'succeeded'
    group by p.store_id, p.id, p.refunded_amount having p.refunded_amount <> coalesce(sum(r.amount), 0)
    """,
    """
    select format('ledger transaction %s (%s) is off by %s %s', t.id, t.source, sum(e.amount), e.currency)
    from ledger_transactions t join ledger_entries e on e.store_id = t.store_id and e.transaction_id = t.id
    group by t.id, t.source, e.currency having sum(e.amount) <> 0
    """,
    # Members' balances equal what the store owes them according to the ledger.
    """
    select format('member %s of store %s has a balance of %s %s, and %s by the books', coalesce(a.user_id, b.user_id),
        coalesce(a.store_id, b.store_id), coalesce(a.amount, 0), coalesce(a.currency, b.currency),
        coalesce(b.amount, 0))
    from (select store_id, user_id, currency, sum(amount) as amount from credits group by 1, 2, 3) a
    full join (
        select t.store_id, t.user_id, e.currency, -sum(e.amount) as amount from ledger_entries e
        join ledger_transactions t on t.store_id = e.store_id and t.id = e.transaction_id
        where e.account = 'balance' group by 1, 2, 3) b using (store_id, user_id, currency)
    where coalesce(a.amount, 0) <> coalesce(b.amount, 0)
    """,
    # Revenue equals the final invoices minus the credit notes.
    """
    select format('store %s has earned %s %s by its invoices, and %s by the books', coalesce(a.store_id, b.store_id),
        coalesce(a.amount, 0), coalesce(a.currency, b.currency), coalesce(b.amount, 0))
    from (
        select store_id, currency, sum(amount) as amount from (
            select store_id, currency, subtotal as amount from invoices where issued_at is not null
            union all select store_id, currency, -subtotal from credit_notes where status = 'issued') x
        group by 1, 2) a
    full join (
        select store_id, currency, -sum(amount) as amount from ledger_entries where account = 'revenue'
        group by 1, 2) b using (store_id, currency)
    where coalesce(a.amount, 0) <> coalesce(b.amount, 0)
    """,
    """
    select format('store %s owes %s %s that nobody owed it, and has refunded or is refunding %s', o.store_id, o.amount,
        o.currency, coalesce(b.amount, 0))
    from (
        select store_id, currency, -sum(amount) as amount from ledger_entries where account = 'unapplied'
        group by 1, 2) o
    left join (
        select r.store_id, r.currency, sum(r.amount) as amount from refunds r
        join ledger_transactions t on t.store_id = r.store_id and t.source = 'payment:' || r.payment_id
        where r.status = 'pending' group by 1, 2) b on b.store_id = o.store_id and b.currency = o.currency
    where o.amount <> coalesce(b.amount, 0)
    """,
    # The numbers of invoices and credit notes have no gaps.
    """
    select format('store %s has %s final %s, and the last number is %s', n.store_id, n.count, n.series, n.last)
    from (
        select store_id, series, count(*) as count, count(distinct sequence) as numbers, max(sequence) as last from (
            select store_id, 'invoices' as series, sequence from invoices where sequence is not null
            union all select store_id, 'credit_notes', sequence from credit_notes where sequence is not null) x
        group by 1, 2) n
    left join number_counters c on c.store_id = n.store_id and c.series = n.series
    where n.count <> n.last or n.numbers <> n.count or n.last <> coalesce(c.last, 0)
    """,
    """
    select format('invoice %s is %s and has %s', id, status, coalesce('the number ' || number, 'no number'))
    from invoices where (issued_at is not null) <> (number is not null)
    union all
    select format('credit note %s is %s and has %s', id, status, coalesce('the number ' || number, 'no number'))
    from credit_notes where (status = 'issued') <> (number is not null)
    """,
    # An invoice equals what was paid for it. Prices include their tax.
    """
    select format('the lines of invoice %s add up to %s, and its total is %s', i.id, coalesce(sum(l.amount), 0),
        i.total)
    from invoices i left join invoice_lines l on l.store_id = i.store_id and l.invoice_id = i.id
    group by i.store_id, i.id, i.total having coalesce(sum(l.amount), 0) <> i.total
    """,
    f"""
    select format('invoice %s is paid, and %s of %s %s were charged for it', i.id, coalesce(p.amount, 0), i.amount_due,
        i.currency)
    from invoices i
    left join payments p on p.store_id = i.store_id and p.id = i.payment_id and p.status in {_CHARGED}
    where i.issued_at is not null and coalesce(p.amount, 0) <> i.amount_due
    """,
    """
    select format('invoice %s took %s from the balance, and the balance knows of %s', i.id, i.balance_applied,
        coalesce(-sum(c.amount), 0))
    from invoices i left join credits c
        on c.store_id = i.store_id and c.invoice_id = i.id and c.kind = 'invoice'
    where i.issued_at is not null
    group by i.store_id, i.id, i.balance_applied having i.balance_applied <> coalesce(-sum(c.amount), 0)
    """,
    """
    select format('invoice %s says that %s of it were credited, and its credit notes %s', i.id, i.credited,
        coalesce(sum(n.total), 0))
    from invoices i left join credit_notes n
        on n.store_id = i.store_id and n.invoice_id = i.id and n.status = 'issued'
    group by i.store_id, i.id, i.credited, i.total
    having i.credited <> coalesce(sum(n.total), 0) or i.credited > greatest(i.total, 0)
    """,
    # Nothing is charged twice, and nothing that is due is forgotten.
    f"""
    select format('invoice %s was charged for %s times', p.invoice_id, count(*)) from payments p
    join invoices i on i.store_id = p.store_id and i.id = p.invoice_id
    where p.status in {_CHARGED} and not exists (
        select from ledger_transactions t where t.store_id = p.store_id and t.source = 'payment:' || p.id)
    group by p.store_id, p.invoice_id having count(*) > 1
    """,
    """
    select format('invoice %s is being collected, and no subscription knows of it', i.id) from invoices i
    left join subscriptions s on s.store_id = i.store_id and s.id = i.subscription_id
    where i.status = 'draft' and (s.bill ->> 'invoice_id') is distinct from i.id::text
    union all
    select format('subscription %s owes invoice %s, which is %s', s.id, s.bill ->> 'invoice_id',
        coalesce(i.status, 'not there'))
    from subscriptions s
    left join invoices i on i.store_id = s.store_id and i.id = (s.bill ->> 'invoice_id')::uuid
    where s.bill is not null and i.status is distinct from 'draft'
    """,
    """
    select format('two periods of subscription %s overlap at %s', subscription_id, next_starts_at)
    from (
        select p.subscription_id, p.ends_at,
            lead(p.starts_at) over (partition by p.store_id, p.subscription_id order by p.starts_at) as next_starts_at
        from subscription_periods p
        join invoices i on i.store_id = p.store_id and i.id = p.invoice_id and i.kind = 'renewal') renewed
    where next_starts_at < ends_at
    """,
)
_GATEWAY_PAYMENTS = """
    with mine as (
        select store_id, id, amount, currency, status from payments
        where gateway = %(gateway)s and (%(gateway)s = 'sandbox' or (
            store_id = %(store_id)s::uuid and gateway_account_id = %(account_id)s::uuid)))
"""
_OF_GATEWAY = f"""{_GATEWAY_PAYMENTS}
    select id::text, amount, currency from mine where status in {_CHARGED}
    union all
    select r.id::text, -r.amount, r.currency from refunds r
    join mine p on p.store_id = r.store_id and p.id = r.payment_id where r.status = 'succeeded'
    union all
    select d.gateway_ref, -d.amount, d.currency from disputes d
    join mine p on p.store_id = d.store_id and p.id = d.payment_id where d.status in ('open', 'lost')
"""
_UNDER_WAY = f"""{_GATEWAY_PAYMENTS}
    select id::text from mine where status in ('pending', 'processing', 'requires_action', 'unknown')
    union all
    select r.id::text from refunds r join mine p on p.store_id = r.store_id and p.id = r.payment_id
    where r.status = 'pending'
"""


def audit() -> list[str]:
    """All differences, one sentence each; an empty list if the books are clean. Asks every gateway for its records."""
    with _reading() as cursor:
        found = audit_books(cursor)
    return [*found, *(difference for entry in all_gateways() for difference in _compare(*entry))]


def audit_books(cursor: Any) -> list[str]:
    """The differences between the tables, as the cursor's transaction sees them. No gateway is asked."""
    return [row[0] for check in _CHECKS for row in _rows(cursor, check)]


@contextmanager
def _reading() -> Iterator[Any]:
    """A cursor on a snapshot of the database, without a time limit, for statements that read whole tables."""
    with closing(connect(settings(), "dues audit")) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(_SETTINGS)
            yield cursor


def _rows(cursor: Any, sql: str, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
    cursor.execute(sql, values)
    found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _compare(name: str, store_id: UUID, account_id: UUID | None) -> Iterator[str]:
    """The differences between what a gateway has recorded under our keys and what our tables say.

    Payments continue while this runs. Whatever we had recorded before the gateway was asked, the gateway must have.
    What the gateway has beyond that must be in our tables afterwards, unless a job is still working on it: it may have
    made the request and not stored the answer yet.
    """
    values = {"gateway": name, "store_id": store_id, "account_id": account_id}
    ours, _ = _ours(values)
    try:
        records = list(gateway_of(name, store_id, account_id).records())
    except (GatewayBusy, GatewayTimeout) as problem:
        yield f"{name} cannot be asked: {problem.detail}"
        return
    doubtful = []
    for record in records:
        if ours.pop(record.key, None) != _entry(record):
            doubtful.append(record)
    now, under_way = _ours(values) if doubtful or ours else ({}, set())
    for record in doubtful:
        amount, currency = _entry(record)
        known = now.get(record.key)
        if known is None and record.key not in under_way:
            what = f"{record.kind} {record.key} of {record.amount} {record.currency}"
            yield f"{name} has made the {what}, and we know of none"
        elif known and known != (amount, currency):
            yield f"{name} has {amount} {currency} under {record.key}, and we {known[0]} {known[1]}"
    for key, (amount, currency) in ours.items():
        # Not a difference if our record has changed meanwhile, for example because a dispute was won.
        if now.get(key) == (amount, currency):
            yield f"we have {amount} {currency} under {key}, of which {name} knows nothing"


def _entry(record: Record) -> tuple[int, str]:
    return (record.amount if record.kind == "charge" else -record.amount), record.currency


def _ours(values: Mapping[str, object]) -> tuple[dict[str, tuple[int, str]], set[str]]:
    """What our tables say about a gateway, read in one snapshot: the completed operations as amount and currency by
    key, and the keys of charges and refunds whose result is not known yet."""
    with _reading() as cursor:
        done = {key: (amount, currency) for key, amount, currency in _rows(cursor, _OF_GATEWAY, values)}
        return done, {key for (key,) in _rows(cursor, _UNDER_WAY, values)}
