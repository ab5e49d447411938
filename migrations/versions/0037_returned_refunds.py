"""When a refund that was made came back: `refunds.returned_at`, so that reports have it in that month."""

from alembic import op

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    op.execute("""
alter table refunds add column returned_at timestamptz;

update refunds r set returned_at = e.created_at
from payment_events e
where r.status = 'failed' and e.store_id = r.store_id and e.payment_id = r.payment_id
    and e.reason = 'refund ' || r.id || ' was sent back';

create index refunds_store_id_returned_at_id_idx on refunds(store_id, returned_at, id) where returned_at is not null;
""")


def downgrade() -> None:
    op.execute("drop index refunds_store_id_returned_at_id_idx")
    op.execute("alter table refunds drop column returned_at")
