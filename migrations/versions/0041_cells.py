"""Cells: which of them has a store, and copies of the directory's accounts in them. See dues/cells."""

from alembic import op

revision = "0041"
down_revision = "0040"

NOBODY = "00000000-0000-0000-0000-000000000000"

# cell: its name; empty for the directory itself, which has all stores that have no row. made_at: null for as long as
# nobody knows whether the store has been made. asked_by: whoever asks for a store again with the same Idempotency-Key
# is sent to the same cell, with the same id.
PLACES = """
create table store_places(
    store_id uuid primary key,
    cell text not null,
    made_at timestamptz,
    asked_by bytea constraint store_places_asked_by_key unique,
    asked_at timestamptz not null default now()
);
create index store_places_unmade_idx on store_places(asked_at) where made_at is null;
create index store_places_asked_idx on store_places(asked_at) where asked_by is not null;
"""


def upgrade() -> None:
    op.execute(PLACES)
    # Where the store goes that moves within one name.
    op.execute("alter table store_moves add column cell text not null default ''")
    # An account's own id where the row is a cell's copy of it. Of these, two may have one address for as long as the
    # cell has not been told of a change.
    op.execute(f"alter table users add column copy_of uuid not null default '{NOBODY}'")
    op.execute("alter index users_email_key rename to users_email_key_before")
    op.execute("create unique index users_email_key on users(email_normal, copy_of)")
    op.execute("drop index users_email_key_before")
    # The directory's tokens may be bound to stores of cells. Without cells, locks see to it that the store is there
    # (dues/accounts/tokens.py, dues/moves/removal.py).
    op.execute("alter table api_tokens drop constraint api_tokens_store_id_fkey")


def downgrade() -> None:
    op.execute(
        "alter table api_tokens add constraint api_tokens_store_id_fkey foreign key (store_id) references stores"
    )
    op.execute("drop index users_email_key")
    op.execute("alter table users drop column copy_of")
    op.execute("create unique index users_email_key on users(email_normal)")
    op.execute("alter table store_moves drop column cell")
    op.execute("drop table store_places")
