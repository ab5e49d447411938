"""What was paid and given back before there were books is in them, on an account of its own."""

from alembic import op

revision = "0022"
down_revision = "0021"

EARLIER = """
with earlier as (
    select p.store_id, gen_random_uuid() as id, 'payment:' || p.id as source, p.user_id,
        coalesce(p.paid_at, p.created_at) as at, 'gateway:' || p.gateway as account, p.amount, p.currency
    from payments p
    where p.status in ('succeeded', 'partially_refunded', 'refunded')
        and not exists (select from invoices i where i.store_id = p.store_id and i.payment_id = p.id)
        and not exists (
            select from ledger_transactions t where t.store_id = p.store_id and t.source = 'payment:' || p.id)
    union all
    select r.store_id, gen_random_uuid(), 'refund:' || r.id, p.user_id, coalesce(r.settled_at, r.created_at),
        'gateway:' || p.gateway, -r.amount, r.currency
    from refunds r join payments p on p.store_id = r.store_id and p.id = r.payment_id
    where r.status = 'succeeded' and not exists (
        select from ledger_transactions t where t.store_id = r.store_id and t.source = 'refund:' || r.id)),
opened as (
    insert into ledger_transactions(store_id, id, kind, source, user_id, created_at)
    select store_id, id, 'earlier', source, user_id, at from earlier)
insert into ledger_entries(store_id, transaction_id, position, account, amount, currency)
select store_id, id, 1, account, amount, currency from earlier
union all select store_id, id, 2, 'earlier', -amount, currency from earlier
"""


def upgrade() -> None:
    op.execute(EARLIER)


def downgrade() -> None:
    """The books are only ever added to."""
