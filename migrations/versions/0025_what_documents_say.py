"""What documents say besides: in what language and on what paper, the tax that prices include, the buyer's company and
tax id, and the store's logo."""

from alembic import op

revision = "0025"
down_revision = "0024"

UP = """
alter table stores
    add column language text not null default 'en',
    add column paper text,
    add column tax_rate bigint not null default 0,
    add column logo_sha256 text;
alter table addresses
    add column company text,
    add column tax_id text;
alter table invoices add column tax_rate bigint not null default 0;
create table store_logos(
    store_id uuid primary key references stores,
    content bytea not null
);
"""
DOWN = """
drop table store_logos;
alter table invoices drop column tax_rate;
alter table addresses drop column company, drop column tax_id;
alter table stores drop column language, drop column paper, drop column tax_rate, drop column logo_sha256;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
