"""Accounts of people whom a store brings along. Part of the caller's transaction.

Whoever has an account keeps it as it is, and nothing of it is told. For the others one is made, which has no password:
its owner is whoever reads its mail, and gets in by asking for a new password.
"""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import ujson

from dues.accounts.passwords import NOBODY
from dues.errors import Unsupported
from dues.ids import new_id
from dues.jobs import PermanentFailure
from dues.postgres import fetch_row, run_later
from dues.postgres.constraints import lock_key
from dues.reads.tags import touch
from dues.settings import settings

# An SQL condition on a user `u` and a store, whose id `{store_id}` names: the store has imported them, as it can with
# anybody whose address it knows, and they had verified that address before. Nothing shows that they know the store,
# until they subscribe or pay there, or say what their membership is charged to: nobody is to be sent its words. A user
# who verifies the address later has come because of the store. (A test store's clock shows whatever its owner likes.)
ONLY_BROUGHT_ALONG = """
    exists (select 1 from customers c join stores b on b.id = c.store_id
        where c.store_id = {store_id} and c.user_id = u.id and c.name is not null
            and (b.test or u.email_verified_at < c.created_at))
"""

_FIND = """
    select coalesce(json_object_agg(email_normal, id), '{}')::text from users
    where email_normal in (select jsonb_array_elements_text(%(mailboxes)s::jsonb)) and deleted_at is null
"""
# In one order, so that nobody waits for one who waits for them.
_TAKE_TURNS = """
    select count(pg_advisory_xact_lock(key)) from (
        select value::bigint as key from jsonb_array_elements_text(%(keys)s::jsonb) order by 1) keys
"""
_INSERT = """
    insert into users(id, email, email_normal, name, password_hash)
    select r.id, r.email, r.email_normal, r.name, %(password_hash)s
    from jsonb_to_recordset(%(rows)s::jsonb) as r(id uuid, email text, email_normal text, name text)
    order by r.email_normal on conflict do nothing
"""


class Person(NamedTuple):
    """As a store knows them: the address in the store's own spelling."""

    email: str
    name: str


def find_accounts(mailboxes: list[str]) -> dict[str, UUID]:
    """The users by their addresses in normal form (dues/mail/address.py); those without an account are left out."""
    (found,) = fetch_row(_FIND, {"mailboxes": ujson.dumps(mailboxes)}) or ("{}",)
    return {mailbox: UUID(user_id) for mailbox, user_id in ujson.loads(found).items()}


def accounts_for(people: Mapping[str, Person]) -> dict[str, UUID]:
    """The users by their addresses in normal form: those that there are, and new ones. An address whose account was
    deleted is left out."""
    found = find_accounts(list(people))
    rows = [
        {"id": str(new_id()), "email": person.email, "email_normal": mailbox, "name": person.name}
        for mailbox, person in people.items()
        if mailbox not in found
    ]
    if not rows:
        return found
    if settings().cell:
        raise PermanentFailure(Unsupported("a cell makes no accounts: they are its directory's"))
    keys = [str(lock_key("users.email_normal", row["email_normal"])) for row in rows]
    run_later(_TAKE_TURNS, {"keys": ujson.dumps(keys)})
    run_later(_INSERT, {"rows": ujson.dumps(rows, ensure_ascii=False), "password_hash": NOBODY})
    touch(*(f"user:{row['id']}" for row in rows))
    return found | find_accounts([row["email_normal"] for row in rows])
