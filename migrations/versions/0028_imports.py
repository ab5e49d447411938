"""Imports: files of customers, packages and subscriptions, the rows of them that were refused, and by which names of
their own stores know what they brought along. What a store says of a customer it has imported stands with the customer,
and what an imported subscription may be charged to with the subscription."""

from alembic import op

revision = "0028"
down_revision = "0027"

IMPORTS = """
create table imports(
    store_id uuid not null references stores,
    id uuid not null,
    requested_by uuid not null references users,
    kind text not null check (kind in ('customers', 'packages', 'subscriptions')),
    format text not null check (format in ('csv', 'ndjson')),
    status text not null default 'pending' check (status in ('pending', 'running', 'succeeded', 'failed', 'canceled')),
    bytes bigint not null,
    upload_key text,
    position bigint not null default 0,
    line bigint not null default 0,
    rows bigint not null default 0,
    created bigint not null default 0,
    updated bigint not null default 0,
    unchanged bigint not null default 0,
    refused bigint not null default 0,
    file_key text,
    file_bytes bigint,
    sha256 text,
    job_id uuid,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id)
);
create index imports_store_id_created_at_id_idx on imports(store_id, created_at, id);
create index imports_unfinished_idx on imports(store_id) where status in ('pending', 'running');

create table import_refusals(
    store_id uuid not null,
    import_id uuid not null,
    line bigint not null,
    external_id text not null,
    code text not null,
    pointer text not null,
    detail text not null,
    primary key (store_id, import_id, line),
    foreign key (store_id, import_id) references imports
);

create table external_ids(
    store_id uuid not null references stores,
    kind text not null,
    external_id text not null,
    row_id uuid not null,
    digest bytea not null,
    primary key (store_id, kind, external_id)
);
"""


def upgrade() -> None:
    op.execute(IMPORTS)
    op.execute("alter table customers add column name text, add column email text")
    op.execute("alter table subscriptions add column uses_default_method boolean not null default true")


def downgrade() -> None:
    op.execute("alter table subscriptions drop column uses_default_method")
    op.execute("alter table customers drop column name, drop column email")
    op.execute("drop table external_ids, import_refusals, imports")
