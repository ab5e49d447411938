"""The currencies that a store takes besides its own: at first those in which it sells packages already."""

from alembic import op

revision = "0010"
down_revision = "0009"

SOLD = """
with sold as (
    select p.store_id, array_agg(distinct p.currency order by p.currency) as currencies
    from packages p join stores s on s.id = p.store_id
    where p.archived_at is null and p.currency <> s.currency group by p.store_id)
update stores s set currencies = sold.currencies from sold where sold.store_id = s.id
"""


def upgrade() -> None:
    op.execute("alter table stores add column currencies char(3)[] not null default '{}'")
    op.execute(SOLD)


def downgrade() -> None:
    op.execute("alter table stores drop column currencies")
