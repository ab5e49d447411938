"""One account for a mailbox: `users.email_normal` is the form that all spellings of an address share, and is unique.

Where several accounts have one mailbox already, under spellings that used to be told apart (`a@bücher.example` and
`a@xn--bcher-kva.example`), none of them is touched: the one whose address is in the normal form as it stands, else the
oldest, gets the normal form, and each other keeps its own spelling in lower case, by which its owner logs in as before.
So does an account whose address can be no mailbox on the Internet. The ids of both are logged.

A process of the release before, which knows no such column, may go on meanwhile: what it inserts gets the address in
lower case. If it changes the address of an account, that account is found by the one before until it is changed again.
"""

import logging

from alembic import op
from sqlalchemy import text

from dues.errors import InvalidValue
from dues.mail.address import normal_address

revision = "0006"
down_revision = "0005"

log = logging.getLogger("dues.migrations")

_BATCH = 5000
_NEXT = text("select id, email from users where id > :after order by id limit :batch")
_FILL = text("""
    update users u set email_normal = coalesce(v.normal, lower(u.email))
    from unnest(cast(:ids as uuid[]), cast(:normals as text[])) as v(id, normal) where u.id = v.id
""")
_TELL_APART = text("""
    with ranked as (
        select id, row_number() over (
            partition by email_normal order by lower(email) = email_normal desc, created_at, id) as place
        from users)
    update users u set email_normal = lower(u.email) from ranked r where r.id = u.id and r.place > 1 returning u.id
""")

_TRIGGER = """
create function users_email_normal() returns trigger language plpgsql as $$
begin
    new.email_normal := coalesce(new.email_normal, lower(new.email));
    return new;
end $$;
create trigger users_email_normal before insert on users for each row execute function users_email_normal();
"""


def upgrade() -> None:
    op.execute("alter table users add column email_normal text")
    op.execute(_TRIGGER)
    if impossible := _fill():
        log.warning("accounts whose address can be no mailbox: %s", ", ".join(impossible))
    if shared := [str(row.id) for row in op.get_bind().execute(_TELL_APART)]:
        log.warning("accounts that share a mailbox with another, and keep their own spelling: %s", ", ".join(shared))
    op.execute("drop index users_email_key")
    op.execute("create unique index users_email_key on users(email_normal)")
    op.execute("alter table users alter column email_normal set not null")


def _fill() -> list[str]:
    """Returns: the ids of accounts whose address has no normal form."""
    bind, after, impossible = op.get_bind(), "00000000-0000-0000-0000-000000000000", []
    while rows := bind.execute(_NEXT, {"after": after, "batch": _BATCH}).all():
        normals: list[str | None] = []
        for row in rows:
            try:
                normals.append(normal_address(row.email))
            except InvalidValue:
                normals.append(None)
                impossible.append(str(row.id))
        bind.execute(_FILL, {"ids": [str(row.id) for row in rows], "normals": normals})
        after = str(rows[-1].id)
    return impossible


def downgrade() -> None:
    op.execute("drop trigger users_email_normal on users")
    op.execute("drop function users_email_normal()")
    op.execute("alter table users drop column email_normal")
    op.execute("create unique index users_email_key on users(lower(email))")
