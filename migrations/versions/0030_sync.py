"""What clients that were offline are told: the newest change of each row, noted by triggers, and the operations that
were done.

Triggers, and not the writes themselves, note the changes: no write can forget to. A row of `sync_changes` says in which
transaction a row last changed. Readers compare that with snapshots (docs/decisions/0024-sync-by-snapshots.md).
"""

from typing import NamedTuple

from alembic import op

revision = "0030"
down_revision = "0029"

TABLES = """
-- `stream_id` is a user or a store. `gone_at`: the row was deleted then.
create table sync_changes(
    stream_id uuid not null,
    type text not null,
    id uuid not null,
    within_id uuid not null,
    xid xid8 not null,
    version bigint not null,
    op_id uuid,
    gone_at timestamptz,
    primary key (stream_id, type, id)
);
create index sync_changes_stream_id_type_xid_id_idx on sync_changes(stream_id, type, xid, id);
create index sync_changes_gone_at_idx on sync_changes(gone_at) where gone_at is not null;

create table sync_operations(
    user_id uuid not null references users,
    id uuid not null,
    request_hash bytea not null,
    status smallint not null,
    resource_id uuid,
    version bigint,
    location text,
    created_at timestamptz not null default now(),
    primary key (user_id, id)
);
create index sync_operations_created_at_idx on sync_operations(created_at);

-- A client may choose the id of a package.
create unique index packages_id_key on packages(id);
"""


class Noted(NamedTuple):
    """A table whose rows are synced: what a client calls them, whose streams they are in, and the columns that name one
    of them in such a stream, and the row that it is below."""

    table: str
    type: str
    streams: tuple[str, ...]
    id: str
    within: str
    version: str = "version"


NOTED = (
    Noted("users", "me", ("id",), "id", "id"),
    Noted("addresses", "address", ("user_id",), "id", "user_id"),
    Noted("packages", "package", ("store_id",), "id", "store_id"),
    Noted("payments", "payment", ("user_id", "store_id"), "id", "store_id"),
    Noted("subscriptions", "subscription", ("user_id", "store_id"), "id", "store_id"),
    Noted("posts", "post", ("author_id", "store_id"), "id", "id"),
    Noted("comments", "comment", ("author_id",), "id", "post_id"),
    Noted("likes", "like", ("user_id",), "post_id", "post_id", ""),
    Noted("follows", "follow", ("follower_id",), "followed_id", "followed_id", ""),
)

# Of rows without a version the changes are counted here. A row that is gone is one version further.
NOTE = """
create function sync_note_{type}() returns trigger language plpgsql as $$
declare
    r {table} := case when tg_op = 'DELETE' then old else new end;
    op uuid := nullif(current_setting('dues.sync_op', true), '')::uuid;
begin
    insert into sync_changes as c (stream_id, type, id, within_id, xid, version, op_id, gone_at)
    select s.id, '{type}', r.{id}, r.{within}, pg_current_xact_id(), {version}, op,
        case when tg_op = 'DELETE' then now() end
    from unnest(array[{streams}]) as s(id) where s.id is not null
    on conflict (stream_id, type, id) do update set xid = excluded.xid, version = {version_again},
        op_id = excluded.op_id, gone_at = excluded.gone_at;
    return null;
end $$;
create trigger {table}_sync_note after insert or update or delete on {table}
    for each row execute function sync_note_{type}();
"""


def upgrade() -> None:
    op.execute(TABLES)
    for noted in NOTED:
        streams = ", ".join(f"r.{column}" for column in noted.streams)
        version = f"r.{noted.version}" if noted.version else "1"
        counted = f"{version} + (tg_op = 'DELETE')::int" if noted.version else version
        again = "excluded.version" if noted.version else "c.version + 1"
        named = {**noted._asdict(), "streams": streams}
        op.execute(NOTE.format(**named | {"version": counted, "version_again": again}))


def downgrade() -> None:
    for noted in NOTED:
        op.execute(f"drop trigger {noted.table}_sync_note on {noted.table}")
        op.execute(f"drop function sync_note_{noted.type}")
    op.execute("drop index packages_id_key")
    op.execute("drop table sync_operations, sync_changes")
