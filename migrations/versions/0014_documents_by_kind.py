"""A store's refunds are found without walking through its receipts."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("create index documents_store_id_kind_created_at_id_idx on documents(store_id, kind, created_at, id)")


def downgrade() -> None:
    op.execute("drop index documents_store_id_kind_created_at_id_idx")
