"""To whom the posts were shown that there were before.

By itself, since it may take a while. What a published post was before nobody knows any more: all members are told of
it.
"""

from alembic import op

revision = "0033"
down_revision = "0032"

FILL = """
update sync_changes c set shown_to = case when p.status = 'published' then array[p.store_id] else '{}'::uuid[] end
from posts p where c.stream_id = p.store_id and c.type = 'post' and c.id = p.id and c.shown_to is null
"""


def upgrade() -> None:
    op.execute(FILL)


def downgrade() -> None:
    pass
