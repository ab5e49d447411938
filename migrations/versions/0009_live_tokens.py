"""Indexes for tokens by what is asked of them: how many of a user are in force, and which have expired."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        "create index api_tokens_user_id_expires_at_idx on api_tokens(user_id, expires_at) where revoked_at is null"
    )
    op.execute("create index api_tokens_expires_at_idx on api_tokens(expires_at)")


def downgrade() -> None:
    op.execute("drop index api_tokens_expires_at_idx, api_tokens_user_id_expires_at_idx")
