"""Writing a store's staff. Each function is part of its caller's transaction.

A store always has an owner. A change of staff locks the store first, so that of two owners who leave at once the
second is refused.
"""

from collections.abc import Iterable
from typing import Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select

from dues.accounts.models import User
from dues.accounts.users import shows_users
from dues.errors import Conflict, NotFound
from dues.ids import new_id
from dues.postgres import db
from dues.reads.tags import touch
from dues.stores.models import Staff, Store
from dues.stores.service import lock_store

Role = Literal["support", "manager", "owner"]


class StaffRole(Struct, forbid_unknown_fields=True):
    """support reads payments, subscriptions and customers; manager also handles packages, refunds, reports, posts and
    webhooks; owner also the staff and the store."""

    role: Role


@shows_users
def _where_they_work(user_id: UUID) -> Iterable[str]:
    return [f"store:{store_id}" for store_id in db.session.scalars(select(Staff.store_id).filter_by(user_id=user_id))]


def get_staff(store_id: UUID, user_id: UUID) -> Staff:
    """One who works in the store, which is locked for this transaction. Raises: NotFound."""
    lock_store(store_id)
    staff = db.session.get(Staff, (store_id, user_id))
    if staff is None:
        raise NotFound("there is no such member of the staff")
    return staff


def find_role(store_id: UUID, user_id: UUID) -> Staff | None:
    """What a user is in the store, which is locked for this transaction. Raises: NotFound for no user."""
    lock_store(store_id)
    user = db.session.get(User, user_id)
    if user is None or user.deleted_at is not None:
        raise NotFound("there is no such user")
    return db.session.get(Staff, (store_id, user_id))


def set_role(store_id: UUID, user_id: UUID, role: Role) -> None:
    """Make a user one of the staff, or give one of the staff another role. Raises: Conflict for the last owner."""
    store = lock_store(store_id)
    # `for update`: waits for transactions that are about to commit what the role allowed (dues/stores/access.py).
    staff = db.session.get(Staff, (store_id, user_id), with_for_update=True)
    if staff is None:
        db.session.add(Staff(store_id=store_id, user_id=user_id, id=new_id(), role=role))
    elif staff.role != role:
        if staff.role == "owner":
            _hand_over(store, user_id)
        staff.role = role
    touch(f"store:{store_id}", f"user:{user_id}:sees")


def remove_staff(staff: Staff) -> None:
    """Raises: Conflict for the last owner."""
    if staff.role == "owner":
        _hand_over(lock_store(staff.store_id), staff.user_id)
    db.session.delete(staff)
    touch(f"store:{staff.store_id}", f"user:{staff.user_id}:sees")


def _hand_over(store: Store, leaving: UUID) -> None:
    """See that somebody else owns the store; `owner_id` is always one of the owners.

    Raises: Conflict where nobody else does.
    """
    heir = db.session.scalar(
        select(Staff.user_id)
        .where(Staff.store_id == store.id, Staff.role == "owner", Staff.user_id != leaving)
        .order_by(Staff.created_at, Staff.id)
        .limit(1)
    )
    if heir is None:
        raise Conflict("a store needs an owner: make somebody else one first", code="last_owner")
    if store.owner_id == leaving:
        store.owner_id = heir
        touch("stores", f"user:{leaving}", f"user:{heir}")
