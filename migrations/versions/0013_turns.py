"""Stores take turns: see dues/jobs/turns.py.

`due` is true unless somebody says otherwise, as processes of the release before do not: what they insert for later, or
give back for later, is then passed over until its time has come.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

_TENANT = "coalesce(store_id, owner_id, '00000000-0000-0000-0000-000000000000'::uuid)"

UP = f"""
alter table jobs add column due boolean not null default true;
update jobs set due = false where status = 'queued' and run_at > now();
drop index jobs_due_idx;
drop index jobs_queue_run_at_idx;
create index jobs_turn_idx on jobs(queue, ({_TENANT}), priority, run_at, id) where status = 'queued' and due;
create index jobs_later_idx on jobs(run_at) where status = 'queued' and not due;
create index jobs_queue_run_at_idx on jobs(queue, run_at) where status = 'queued';
create index jobs_unknown_idx on jobs(queue)
    where status = 'queued' and error ->> 'type' = '/problems/unknown_job_kind';
create table relay_looks(one boolean primary key default true check (one), looked_at timestamptz not null);
"""
DOWN = """
drop table relay_looks;
drop index jobs_unknown_idx, jobs_queue_run_at_idx, jobs_later_idx, jobs_turn_idx;
alter table jobs drop column due;
create index jobs_due_idx on jobs(queue, priority, run_at, id) where status = 'queued' and dispatched_at is null;
create index jobs_queue_run_at_idx on jobs(queue, run_at) include (dispatched_at) where status = 'queued';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
