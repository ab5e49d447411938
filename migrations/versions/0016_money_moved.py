"""When money moved: `payments.paid_at`, `refunds.settled_at`. Reports keep the time zone that decides their months.

Both are set by dues/payments/state.py. What a process of the release before writes meanwhile gets them from triggers,
and so does what is written with SQL alone: no money is in no month.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

COLUMNS = """
alter table payments add column paid_at timestamptz;
alter table refunds add column settled_at timestamptz;
alter table reports
    add column timezone text not null default 'UTC',
    add column bom boolean not null default false;
"""

# When a payment succeeded, and when a refund was counted, stands in the payment's events.
BACKFILL = """
update payments p set paid_at = coalesce(
    (select min(e.created_at) from payment_events e
        where e.store_id = p.store_id and e.payment_id = p.id and e.to_status = 'succeeded'),
    p.created_at)
where p.status in ('succeeded', 'partially_refunded', 'refunded');

update refunds r set settled_at = coalesce(
    (select min(e.created_at) from payment_events e
        where e.store_id = r.store_id and e.payment_id = r.payment_id and e.reason = 'refund ' || r.id),
    r.updated_at)
where r.status <> 'pending';
"""

# A payment comes with paid_at where it is inserted as a whole, as imports do, and without where it is moved.
TRIGGERS = """
create function payments_paid_at() returns trigger language plpgsql as $$
begin
    new.paid_at := case when tg_op = 'INSERT' then new.created_at else new.updated_at end;
    return new;
end $$;
create trigger payments_paid_at before insert or update of status on payments for each row
    when (new.paid_at is null and new.status in ('succeeded', 'partially_refunded', 'refunded'))
    execute function payments_paid_at();

create function refunds_settled_at() returns trigger language plpgsql as $$
begin
    new.settled_at := case when tg_op = 'INSERT' then new.created_at else new.updated_at end;
    return new;
end $$;
create trigger refunds_settled_at before insert or update of status on refunds for each row
    when (new.settled_at is null and new.status <> 'pending')
    execute function refunds_settled_at();
"""

INDEXES = """
create index payments_store_id_paid_at_id_idx on payments(store_id, coalesce(paid_at, '-infinity'), id);
create index refunds_store_id_settled_at_id_idx on refunds(store_id, coalesce(settled_at, '-infinity'), id);
"""


def upgrade() -> None:
    for part in (COLUMNS, BACKFILL, TRIGGERS, INDEXES):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop trigger payments_paid_at on payments; drop trigger refunds_settled_at on refunds")
    op.execute("drop function payments_paid_at(); drop function refunds_settled_at()")
    op.execute("alter table payments drop column paid_at; alter table refunds drop column settled_at")
    op.execute("alter table reports drop column timezone, drop column bom")
