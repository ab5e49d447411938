"""Customers whom a store brings along. Part of the caller's transaction.

An account that there is stays as it is, and the store learns nothing of it: it is shown the name and the address that
it has sent, until the customer comes themselves.
"""

from collections.abc import Sequence
from uuid import UUID

from dues.accounts.brought_along import Person, accounts_for, find_accounts
from dues.billing.accounts import lock_imported
from dues.imports.context import Importer, Outcomes
from dues.imports.rows import CustomerRow, Refusal
from dues.mail.address import normal_address
from dues.postgres import fetch_row
from dues.reads.tags import touch

_NO_ACCOUNT = Refusal("not_usable", "/email: belongs to no account, and none can be made for it", "/email")
_OTHER = Refusal(
    "conflict",
    "/email: is not this customer's: their address is theirs to change, and another customer has another external_id",
    "/email",
)
_RENAME = """
    update customers set name = %(name)s, email = %(email)s, version = version + 1, updated_at = %(at)s
    where store_id = %(store_id)s and user_id = %(user_id)s and name is not null returning user_id
"""


def enroll(store: Importer, people: dict[str, Person]) -> dict[str, UUID]:
    """Make people, by their addresses in normal form, customers of the store. Returns: their users; those who can have
    no account are left out. Their money is locked."""
    users = accounts_for(people)
    if users:
        lock_imported(store.store_id, {user_id: people[mailbox] for mailbox, user_id in users.items()}, store.at)
    return users


def create_customers(store: Importer, rows: Sequence[CustomerRow]) -> Outcomes:
    """Several names may stand for one customer."""
    mailboxes = {row.external_id: normal_address(row.email) for row in rows}
    users = enroll(store, {mailboxes[row.external_id]: Person(row.email, row.name) for row in rows})
    return {name: users.get(mailbox, _NO_ACCOUNT) for name, mailbox in mailboxes.items()}


def update_customer(store: Importer, user_id: UUID, row: CustomerRow) -> Refusal | None:
    """What the store is shown of a customer who has not come themselves yet; of others nothing changes."""
    if user_id not in find_accounts([normal_address(row.email)]).values():
        return _OTHER
    values = {"store_id": store.store_id, "user_id": user_id, "name": row.name, "email": row.email, "at": store.at}
    fetch_row(_RENAME, values)
    touch(f"store:{store.store_id}:customers", f"user:{user_id}")
    return None
