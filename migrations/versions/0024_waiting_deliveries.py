"""Deliveries that wait for their endpoint are put off and asked for again together: see dues/webhooks/waiting.py."""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.execute(
        "create index webhook_deliveries_due_idx on webhook_deliveries(store_id, endpoint_id, next_attempt_at)"
        " where status = 'pending'"
    )
    op.execute(
        "create index webhook_deliveries_waiting_idx on webhook_deliveries(endpoint_id, id)"
        " where status = 'pending' and next_attempt_at is null"
    )
    op.execute("drop index webhook_deliveries_pending_idx")


def downgrade() -> None:
    op.execute(
        "create index webhook_deliveries_pending_idx on webhook_deliveries(store_id, endpoint_id)"
        " where status = 'pending'"
    )
    op.execute("drop index webhook_deliveries_due_idx, webhook_deliveries_waiting_idx")
