"""Reports for those who keep a store's accounts: its subscribers, its invoices and credit notes, and its ledger."""

from dues.reports.rows import Column, Rows, money

# Subscriptions that ran at any time within the range.
SUBSCRIBERS = Rows(
    kind="subscribers",
    columns=(
        Column("id", "s.id", "id"),
        Column("user_id", "s.user_id", "id"),
        Column("user_name", "coalesce(c.name, u.name)", "text"),
        Column("user_email", "coalesce(c.email, u.email)", "text"),
        Column("package_id", "s.package_id", "id"),
        Column("package_name", "k.name", "text"),
        Column("status", "s.status", "word"),
        *money("amount", "s.amount", "s.currency"),
        Column("currency", "s.currency", "word"),
        Column("interval", "s.interval", "word"),
        Column("interval_count", "s.interval_count", "integer"),
        Column("created_at", "s.created_at", "time"),
        Column("trial_end", "s.trial_end", "time"),
        Column("current_period_start", "s.current_period_start", "time"),
        Column("current_period_end", "s.current_period_end", "time"),
        Column("cancel_at_period_end", "case when s.cancel_at_period_end then 'yes' else 'no' end", "word"),
        Column("cancel_reason", "s.cancel_reason", "text"),
        Column("ended_at", "s.ended_at", "time"),
        Column("next_charge_at", "s.next_charge_at", "time"),
    ),
    source="""
        from subscriptions s
        left join users u on u.id = s.user_id
        left join customers c on c.store_id = s.store_id and c.user_id = s.user_id
        left join packages k on k.store_id = s.store_id and k.id = s.package_id
        where s.store_id = %(store_id)s and s.created_at < %(range_to)s
            and coalesce(s.ended_at, 'infinity') >= %(range_from)s""",
    order="s.created_at, s.id",
    streams=True,
)

# The amounts of credit notes are negative, so that sums are right.
INVOICES = Rows(
    kind="invoices",
    columns=(
        Column("type", "n.type", "word"),
        Column("id", "n.id", "id"),
        Column("number", "n.number", "text"),
        Column("issued_at", "n.issued_at", "time"),
        Column("status", "n.status", "word"),
        Column("for_invoice", "n.for_invoice", "text"),
        Column("user_id", "n.user_id", "id"),
        Column("buyer_name", "n.buyer ->> 'name'", "text"),
        Column("buyer_email", "n.buyer ->> 'email'", "text"),
        *money("subtotal", "n.subtotal", "n.currency"),
        *money("tax", "n.tax", "n.currency"),
        *money("total", "n.total", "n.currency"),
        *money("from_balance", "n.from_balance", "n.currency"),
        *money("amount_due", "n.amount_due", "n.currency"),
        Column("currency", "n.currency", "word"),
        Column("period_start", "n.period_start", "time"),
        Column("period_end", "n.period_end", "time"),
        Column("subscription_id", "n.subscription_id", "id"),
        Column("payment_id", "n.payment_id", "id"),
    ),
    source="""
        from (
            select 'invoice'::text as type, id, number, issued_at, status, null::text as for_invoice, user_id, buyer,
                subtotal, tax, total, balance_applied as from_balance, amount_due, currency, period_start, period_end,
                subscription_id, payment_id
            from invoices
            where store_id = %(store_id)s and number is not null and issued_at >= %(range_from)s
                and issued_at < %(range_to)s
            union all
            select 'credit_note', c.id, c.number, c.issued_at, c.status, i.number, c.user_id, i.buyer, -c.subtotal,
                -c.tax, -c.total, case when c.refund_id is null then -c.total else 0 end,
                case when c.refund_id is null then 0 else -c.total end, c.currency, null, null, i.subscription_id,
                i.payment_id
            from credit_notes c join invoices i on i.store_id = c.store_id and i.id = c.invoice_id
            where c.store_id = %(store_id)s and c.number is not null and c.issued_at >= %(range_from)s
                and c.issued_at < %(range_to)s) n""",
    order="n.issued_at, n.number",
    streams=False,
)

# A debit is above zero, a credit below; each transaction adds up to nothing.
LEDGER = Rows(
    kind="ledger",
    columns=(
        Column("transaction_id", "t.id", "id"),
        Column("booked_at", "t.created_at", "time"),
        Column("kind", "t.kind", "word"),
        Column("source", "t.source", "word"),
        Column("user_id", "t.user_id", "id"),
        Column("account", "e.account", "word"),
        *money("amount", "e.amount", "e.currency"),
        Column("currency", "e.currency", "word"),
    ),
    source="""
        from ledger_transactions t
        join ledger_entries e on e.store_id = t.store_id and e.transaction_id = t.id
        where t.store_id = %(store_id)s and t.created_at >= %(range_from)s and t.created_at < %(range_to)s""",
    order="t.created_at, t.id, e.position",
    streams=False,
)
