"""The mark by which a replica shows what it has seen."""

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute("""
        create table replica_mark(
            one boolean primary key default true check (one),
            generation bigint not null, mark bigint not null, previous bigint, snapshot text not null,
            made_at timestamptz not null
        ) with (fillfactor = 50)
    """)


def downgrade() -> None:
    op.execute("drop table replica_mark")
