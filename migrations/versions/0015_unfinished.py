"""Finding what is not over: the deliveries to an endpoint that are pending, a store's reports that are not built."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute(
        "create index webhook_deliveries_pending_idx on webhook_deliveries(store_id, endpoint_id)"
        " where status = 'pending'"
    )
    op.execute("create index reports_unfinished_idx on reports(store_id) where status in ('pending', 'running')")


def downgrade() -> None:
    op.execute("drop index webhook_deliveries_pending_idx, reports_unfinished_idx")
