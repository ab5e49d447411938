"""Whether an id that a client chooses was that of another row, which is gone: whosever it was."""

from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    # Of the types whose ids clients may choose (dues/chosen_ids.py): likes and follows come and go more often.
    op.execute("""
        create index sync_changes_gone_id_idx on sync_changes(id)
        where gone_at is not null and type in ('address', 'comment', 'package', 'post')
    """)


def downgrade() -> None:
    op.execute("drop index sync_changes_gone_id_idx")
