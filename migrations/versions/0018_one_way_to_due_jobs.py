"""Due jobs are found by the ring of stores alone.

Where the table has no statistics yet, the planner took an index by time for it, and read and sorted all that was due.
"""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.execute("drop index jobs_queue_run_at_idx")
    # Those that one of them does the work of all of: see dues/jobs/batching.py.
    op.execute("create index jobs_batched_idx on jobs(kind, run_at) where status = 'queued' and kind = 'edge.purge'")


def downgrade() -> None:
    op.execute("drop index jobs_batched_idx")
    op.execute("create index jobs_queue_run_at_idx on jobs(queue, run_at) where status = 'queued'")
