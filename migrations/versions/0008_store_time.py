"""A store's time zone, what it does about renewals that fail, and the clocks of test stores."""

from alembic import op

revision = "0008"
down_revision = "0007"

STORES = """
alter table stores
    add column timezone text not null default 'UTC',
    add column test boolean not null default false,
    add column dunning text not null default 'cancel' check (dunning in ('cancel', 'stay')),
    add column grace_days smallint not null default 7 check (grace_days between 0 and 21);

create table store_clocks(
    store_id uuid primary key references stores,
    moment timestamptz not null,
    advancing_to timestamptz check (advancing_to >= moment),
    job_id uuid,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
"""


def upgrade() -> None:
    op.execute(STORES)


def downgrade() -> None:
    op.execute("drop table store_clocks")
    op.execute("alter table stores drop column timezone, drop column test, drop column dunning, drop column grace_days")
