"""Every secret of a webhook endpoint that was replaced less than a day ago signs, however many there are."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("alter table webhook_endpoints add column older_secrets jsonb not null default '[]'")
    # Circuits were named for hosts, which several stores may share; now each endpoint has its own.
    op.execute("delete from circuit_breakers where name like 'webhook:%'")


def downgrade() -> None:
    op.execute("alter table webhook_endpoints drop column older_secrets")
