"""Documents that were issued, how their sending went, and what stores print on them about themselves."""

from alembic import op

revision = "0012"
down_revision = "0011"

STORES = """
alter table stores
    add column legal_name text,
    add column address jsonb,
    add column country char(2),
    add column tax_id text,
    add column contact_email text,
    add column website text,
    add column invoice_prefix text,
    add column invoice_note text,
    add column notify_new_payment boolean not null default false;
"""

# The last number of each series: half of each page stays free, so that counting on is an update in place.
# `content` is set once, after the row is committed with all that it is made from.
DOCUMENTS = """
create table document_series(
    store_id uuid not null references stores,
    kind text not null,
    last_number bigint not null,
    primary key (store_id, kind)
) with (fillfactor = 50);

create table documents(
    store_id uuid not null references stores,
    id uuid not null,
    kind text not null,
    subject_id uuid not null,
    number text not null,
    user_id uuid not null references users,
    payment_id uuid,
    data jsonb not null,
    content bytea,
    sha256 text,
    bytes bigint,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (store_id, id),
    foreign key (store_id, payment_id) references payments,
    constraint documents_subject_key unique (store_id, kind, subject_id),
    constraint documents_number_key unique (store_id, number),
    check ((content is null) = (sha256 is null) and (content is null) = (bytes is null))
);
create index documents_store_id_created_at_id_idx on documents(store_id, created_at, id);
create index documents_store_id_user_id_created_at_id_idx on documents(store_id, user_id, created_at, id);
create index documents_store_id_payment_id_idx on documents(store_id, payment_id) where payment_id is not null;

create function keep_document() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old.content is null and row(new.store_id, new.id, new.kind, new.subject_id, new.number,
            new.user_id, new.payment_id, new.data, new.created_at)
        is not distinct from row(old.store_id, old.id, old.kind, old.subject_id, old.number,
            old.user_id, old.payment_id, old.data, old.created_at) then
        return new;
    end if;
    raise exception 'a document that was issued is kept as it is' using errcode = 'integrity_constraint_violation';
end $$;
create trigger documents_are_kept before update or delete on documents
    for each row execute function keep_document();
"""

# One for each time that a document is sent: by the job that sends it.
DELIVERIES = """
create table document_deliveries(
    store_id uuid not null,
    document_id uuid not null,
    job_id uuid not null,
    status text not null default 'pending' check (status in ('pending', 'sent', 'rejected', 'unknown')),
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (store_id, document_id, job_id),
    foreign key (store_id, document_id) references documents
);
create index document_deliveries_created_at_idx on document_deliveries(store_id, document_id, created_at);
"""


def upgrade() -> None:
    for part in (STORES, DOCUMENTS, DELIVERIES):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop table document_deliveries, documents, document_series; drop function keep_document")
    columns = "legal_name address country tax_id contact_email website invoice_prefix invoice_note notify_new_payment"
    op.execute("alter table stores " + ", ".join(f"drop column {column}" for column in columns.split()))
