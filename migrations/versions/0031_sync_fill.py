"""What there was before changes were noted, for clients that begin to sync.

By itself, since it may take minutes and holds no lock that a write waits for: what changes meanwhile is noted already.
"""

from alembic import op

revision = "0031"
down_revision = "0030"

# Table, type, streams, id, the row that it is below, version; as the triggers have them.
NOTED = """
users          me            r.id                    r.id           r.id           r.version
addresses      address       r.user_id               r.id           r.user_id      r.version
packages       package       r.store_id              r.id           r.store_id     r.version
payments       payment       r.user_id,r.store_id    r.id           r.store_id     r.version
subscriptions  subscription  r.user_id,r.store_id    r.id           r.store_id     r.version
posts          post          r.author_id,r.store_id  r.id           r.id           r.version
comments       comment       r.author_id             r.id           r.post_id      r.version
likes          like          r.user_id               r.post_id      r.post_id      1
follows        follow        r.follower_id           r.followed_id  r.followed_id  1
"""
FILL = """
insert into sync_changes(stream_id, type, id, within_id, xid, version)
select s.id, '{type}', {id}, {within}, pg_current_xact_id(), {version}
from {table} r cross join lateral unnest(array[{streams}]) as s(id) where s.id is not null
on conflict do nothing;
"""


def upgrade() -> None:
    for line in NOTED.strip().splitlines():
        table, kind, streams, row_id, within, version = line.split()
        op.execute(FILL.format(table=table, type=kind, streams=streams, id=row_id, within=within, version=version))


def downgrade() -> None:
    pass
