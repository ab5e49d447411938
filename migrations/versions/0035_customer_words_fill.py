"""The words of the customers that there are already.

By itself, since it may take minutes and holds no lock that a write waits for: what changes meanwhile is noted already.
"""

from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    op.execute("""
        insert into customer_words(store_id, word, user_id)
        select c.store_id, w.word, c.user_id
        from customers c join users u on u.id = c.user_id
        cross join dues_customer_words(coalesce(c.name, u.name), coalesce(c.email, u.email)) w
        on conflict do nothing
    """)


def downgrade() -> None:
    pass
