"""A statement that refuses: rights are held until a commit with it (dues/stores/access.py)."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.execute("""
        create function refuse_unless(holds boolean, code text) returns boolean language plpgsql as $$
        begin
            if holds is not true then
                raise exception 'refused' using errcode = code;
            end if;
            return true;
        end $$
    """)


def downgrade() -> None:
    op.execute("drop function refuse_unless(boolean, text)")
