"""Reports of subscribers, of invoices and of the ledger."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute(
        "alter table reports drop constraint reports_kind_check, add constraint reports_kind_check"
        " check (kind in ('payments', 'revenue', 'subscribers', 'invoices', 'ledger')) not valid"
    )
    op.execute("alter table reports validate constraint reports_kind_check")


def downgrade() -> None:
    """Reports of these kinds may be there: what allows them stays."""
