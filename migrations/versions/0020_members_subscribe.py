"""Members are those whose subscription gives access, for as long as its row says so: no list of members beside it."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("drop view memberships")
    op.execute("drop table store_members")
    op.execute("create view memberships as select store_id, user_id, package_id from subscriptions where has_access")


def downgrade() -> None:
    op.execute("drop view memberships")
    op.execute("""
        create table store_members(
            store_id uuid not null references stores,
            user_id uuid not null references users,
            package_id uuid not null,
            access_until timestamptz not null,
            primary key (store_id, user_id, package_id),
            foreign key (store_id, package_id) references packages
        )""")
    op.execute("create index store_members_user_id_idx on store_members(user_id)")
    op.execute(
        "create view memberships as"
        " select store_id, user_id, package_id, access_until from store_members where access_until > now()"
    )
