"""What a subscription brings in a month before and after each of its changes: every metric is a sum over the log."""

from alembic import op

revision = "0021"
down_revision = "0020"

# Written with NULL by a process of the release before: such a change moves nothing.
COLUMNS = """
alter table subscription_changes
    add column currency char(3),
    add column mrr_before bigint not null default 0,
    add column mrr bigint not null default 0,
    add column committed_before bigint not null default 0,
    add column committed bigint not null default 0;
"""

# What there is already enters the sums now, by a change of its own.
COUNTED = """
insert into subscription_changes(store_id, subscription_id, id, kind, from_status, to_status, details, created_at,
    currency, mrr, committed)
select store_id, id, gen_random_uuid(), 'counted', status, status, '{}', updated_at, currency, mrr,
    case when cancel_at_period_end then 0 else mrr end
from (
    select *, round(amount * case interval when 'week' then 52.0 / 12 when 'month' then 1 else 1.0 / 12 end
        / interval_count) as mrr
    from subscriptions where status in ('active', 'past_due') and interval <> 'once') s
where mrr > 0;
"""

INDEX = """
create index subscription_changes_moves_idx on subscription_changes(store_id, created_at)
    include (kind, from_status, to_status, currency, mrr_before, mrr, committed_before, committed)
    where from_status is distinct from to_status or mrr <> mrr_before or committed <> committed_before
        or kind = 'declined';
"""


def upgrade() -> None:
    for part in (COLUMNS, COUNTED, INDEX):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop index subscription_changes_moves_idx")
    op.execute(
        "alter table subscription_changes drop column currency, drop column mrr_before, drop column mrr,"
        " drop column committed_before, drop column committed"
    )
