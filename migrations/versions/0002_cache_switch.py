"""The cache's switch: see dues/reads/freshness/switch.py.

Unlogged on purpose: after a crash, a failover or a restore the row is gone, which reads as off.
"""

import secrets

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        "create unlogged table cache_switch("
        ' one boolean primary key default true check (one), generation bigint not null, "on" boolean not null,'
        " settled boolean not null)"
    )
    # Nothing was ever cached under a generation that was drawn this moment.
    op.execute(f'insert into cache_switch(generation, "on", settled) values ({secrets.randbits(62)}, true, false)')


def downgrade() -> None:
    op.execute("drop table cache_switch")
