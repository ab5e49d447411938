"""To whom a change is told that they may not see, and versions of likes and follows that go on where they were.

`shown_to`: of a post in its store's stream, the packages whose members it was ever shown to, or the store itself for
all members. Others are not told that it is gone: they would learn of each draft. Null: whoever reads the stream is
told.

Likes and follows have no version of their own: it is counted among their changes, of which nothing is kept once what
was deleted is forgotten. A row that came back after that began anew at 1, and clients that had a later version of it
did not take it. Versions are at least the time at which they were written, in milliseconds.
"""

from alembic import op

revision = "0032"
down_revision = "0031"

# Table, type, stream, id and the row that it is below.
COUNTED = (
    ("likes", "like", "user_id", "post_id"),
    ("follows", "follow", "follower_id", "followed_id"),
)
NOTE_COUNTED = """
create or replace function sync_note_{type}() returns trigger language plpgsql as $$
declare
    r {table} := case when tg_op = 'DELETE' then old else new end;
    op uuid := nullif(current_setting('dues.sync_op', true), '')::uuid;
begin
    insert into sync_changes as c (stream_id, type, id, within_id, xid, version, op_id, gone_at)
    values (r.{stream}, '{type}', r.{id}, r.{id}, pg_current_xact_id(), {version}, op,
        case when tg_op = 'DELETE' then now() end)
    on conflict (stream_id, type, id) do update set xid = excluded.xid, version = {again}, op_id = excluded.op_id,
        gone_at = excluded.gone_at;
    return null;
end $$;
"""
NOTE_POST = """
create or replace function sync_note_post() returns trigger language plpgsql as $$
declare
    r posts := case when tg_op = 'DELETE' then old else new end;
    op uuid := nullif(current_setting('dues.sync_op', true), '')::uuid;
begin
    insert into sync_changes as c (stream_id, type, id, within_id, xid, version, op_id, gone_at{column})
    select s.id, 'post', r.id, r.id, pg_current_xact_id(), r.version + (tg_op = 'DELETE')::int, op,
        case when tg_op = 'DELETE' then now() end{value}
    from unnest(array[r.author_id, r.store_id]) as s(id) where s.id is not null
    on conflict (stream_id, type, id) do update set xid = excluded.xid, version = excluded.version,
        op_id = excluded.op_id, gone_at = excluded.gone_at{again};
    return null;
end $$;
"""
COLUMN = ", shown_to"
VALUE = """,
        case when s.id = r.store_id then
            case when r.status <> 'published' or r.privacy not in ('public', 'members') then '{}'
                when cardinality(r.package_ids) = 0 then array[r.store_id] else r.package_ids end end"""
AGAIN = """,
        shown_to = case when c.shown_to is null or excluded.shown_to <@ c.shown_to then c.shown_to
            else c.shown_to || excluded.shown_to end"""


def upgrade() -> None:
    op.execute("alter table sync_changes add column shown_to uuid[]")
    op.execute(NOTE_POST.format(column=COLUMN, value=VALUE, again=AGAIN))
    _count("(extract(epoch from clock_timestamp()) * 1000)::bigint", "greatest(c.version + 1, excluded.version)")


def downgrade() -> None:
    _count("1", "c.version + 1")
    op.execute(NOTE_POST.format(column="", value="", again=""))
    op.execute("alter table sync_changes drop column shown_to")


def _count(version: str, again: str) -> None:
    for table, kind, stream, row_id in COUNTED:
        op.execute(NOTE_COUNTED.format(table=table, type=kind, stream=stream, id=row_id, version=version, again=again))
