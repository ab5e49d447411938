"""Jobs that wait for a circuit to close: see dues/breaker.py."""

from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    op.execute("alter table jobs add column waits_for text")
    op.execute("create index jobs_waiting_idx on jobs(waits_for, id) where status = 'queued' and waits_for is not null")


def downgrade() -> None:
    op.execute("drop index jobs_waiting_idx")
    op.execute("alter table jobs drop column waits_for")
