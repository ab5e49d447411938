"""Writing stored payment methods. Each function is part of its caller's transaction.

The sandbox's methods are good in every store that it charges in; those of a store's own gateway, those that a store has
imported, and those that were stored with a token which is bound to a store, there alone. At most one method of a user
is the default everywhere, and one in each store: making one so ends it for the other. What is charged while its payer
is away is the default, a store's own before the one for everywhere, unless something else was agreed on.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal
from uuid import UUID

import ujson
from msgspec import Meta, Struct
from sqlalchemy import or_, select, update

from dues.accounts.models import lock_user
from dues.clock import now
from dues.errors import NotFound, ValidationFailed
from dues.ids import new_id, parse_id
from dues.payments import sandbox
from dues.payments.gateway import StoredMethod
from dues.payments.gateways import NOBODY, SANDBOX, STRIPE, Chosen, chosen_gateway, gateway_of
from dues.payments.models import PaymentMethod
from dues.payments.reads import payment_methods
from dues.postgres import db, fetch_row, run_later
from dues.reads import Computed
from dues.reads.tags import touch

_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"

Token = Annotated[str, Meta(pattern=rf"^{sandbox.METHOD_PATTERN}$(?!\n)", description="a token of the payment gateway")]
# A token or the id of a stored method, as a request names it.
Method = Annotated[
    str,
    Meta(
        pattern=rf"^(?:{_UUID}|{sandbox.METHOD_PATTERN})$(?!\n)",
        description="the id of a stored payment method, or a token of the payment gateway",
    ),
]


_KEEP_IMPORTED = """
    insert into payment_methods(user_id, id, store_id, gateway, gateway_customer, gateway_ref, brand, last4, exp_month,
        exp_year)
    select r.user_id, r.id, %(store_id)s, r.gateway, r.gateway_customer, r.gateway_ref, r.brand, r.last4, r.exp_month,
        r.exp_year
    from jsonb_to_recordset(%(rows)s::jsonb) as r(user_id uuid, id uuid, gateway text, gateway_customer text,
        gateway_ref text, brand text, last4 text, exp_month smallint, exp_year smallint)
"""


_SHOWN = f"""
    select from payment_methods m
    where m.user_id = %(user_id)s and m.id = %(id)s and {Computed(payment_methods.where, {}).render("m")}
"""


class NewPaymentMethod(Struct, forbid_unknown_fields=True):
    """A method to store, named by the gateway's token for it. A user's first method becomes their default."""

    token: Token
    is_default: bool = False


class PaymentMethodChange(Struct, forbid_unknown_fields=True):
    """Make a method the default in place of another."""

    is_default: Literal[True]


MethodHook = Callable[[PaymentMethod], None]
_when_default: list[MethodHook] = []


def when_default(hook: MethodHook) -> MethodHook:
    """Have `hook(method)` called, in the same transaction(), when a method has become its user's default."""
    _when_default.append(hook)
    return hook


def store_method(user_id: UUID, token: str, *, is_default: bool = False, only_in: UUID | None = None) -> PaymentMethod:
    """Keep what a token of the sandbox stands for, for one store or for all. It becomes the default there where asked
    to, or where there is none."""
    lock_user(user_id)
    method_id = new_id()
    stored = gateway_of(SANDBOX, NOBODY, None).describe(str(method_id), token)
    if stored is None:
        raise ValidationFailed.of("#/token", "cannot be stored", "not_supported")
    return _add(user_id, method_id, SANDBOX, only_in, stored, is_default=is_default)


def keep_method(user_id: UUID, store_id: UUID, stored: StoredMethod, *, is_default: bool) -> PaymentMethod:
    """Keep what a store's own gateway has stored, once. It becomes the default there where asked to, or where there is
    none."""
    lock_user(user_id)
    found = db.session.scalar(
        select(PaymentMethod).where(
            PaymentMethod.user_id == user_id,
            PaymentMethod.store_id == store_id,
            PaymentMethod.gateway_ref == stored.reference,
        )
    )
    return found or _add(user_id, new_id(), STRIPE, store_id, stored, is_default=is_default)


def _add(
    user_id: UUID, method_id: UUID, gateway: str, store_id: UUID | None, stored: StoredMethod, *, is_default: bool
) -> PaymentMethod:
    method = PaymentMethod(
        user_id=user_id,
        id=method_id,
        store_id=store_id,
        gateway=gateway,
        gateway_customer=stored.customer,
        gateway_ref=stored.reference,
        brand=stored.brand,
        last4=stored.last4,
        exp_month=stored.exp_month,
        exp_year=stored.exp_year,
    )
    becomes_default = is_default or _find_default(user_id, store_id, gateway) is None
    if becomes_default:
        _become_default(method)
    db.session.add(method)
    _touch(method)
    if becomes_default:
        _tell(method)
    return method


def can_be_imported(token: str) -> bool:
    """Whether a token says enough of a method to be kept without its payer."""
    return gateway_of(SANDBOX, NOBODY, None).describe("", token) is not None


def keep_imported(store_id: UUID, tokens: Sequence[tuple[UUID, str]]) -> dict[UUID, UUID]:
    """Keep what a store says that its members are charged with there: tokens that can be imported, by the user. None
    becomes a default. Returns: the methods' ids by the user."""
    kept: dict[UUID, UUID] = {}
    rows = []
    for user_id, token in tokens:
        method_id = kept[user_id] = new_id()
        stored = gateway_of(SANDBOX, NOBODY, None).describe(str(method_id), token)
        assert stored
        rows.append(
            {
                "user_id": str(user_id),
                "id": str(method_id),
                "gateway": SANDBOX,
                "gateway_customer": stored.customer,
                "gateway_ref": stored.reference,
                "brand": stored.brand,
                "last4": stored.last4,
                "exp_month": stored.exp_month,
                "exp_year": stored.exp_year,
            }
        )
    if rows:
        run_later(_KEEP_IMPORTED, {"store_id": store_id, "rows": ujson.dumps(rows)})
        touch(*(f"user:{user_id}" for user_id in kept))
    return kept


def get_method(user_id: UUID, method_id: UUID, only_store: UUID | None) -> PaymentMethod:
    """The method, locked for this transaction, if it is one of those that reads show (dues/payments/reads.py): with
    `only_store`, of that store or for everywhere. Raises: NotFound."""
    # The user's row is locked first, as in make_default(): one order of locks avoids deadlocks.
    lock_user(user_id)
    values = {"user_id": user_id, "id": method_id, "only_store": only_store}
    is_shown = fetch_row(_SHOWN, values) is not None
    method = db.session.get(PaymentMethod, (user_id, method_id), with_for_update=True, populate_existing=True)
    if method is None or not is_shown:
        raise NotFound("there is no such payment method")
    return method


def make_default(method: PaymentMethod) -> None:
    """Make it the default; nothing changes if it is already. The user's row is locked."""
    if not method.is_default:
        _become_default(method)
        _touch(method)
        _tell(method)


def _become_default(method: PaymentMethod) -> None:
    db.session.execute(
        update(PaymentMethod)
        .where(
            PaymentMethod.user_id == method.user_id,
            PaymentMethod.store_id.is_not_distinct_from(method.store_id),
            PaymentMethod.is_default,
        )
        .values(is_default=False, version=PaymentMethod.version + 1, updated_at=now())
        .execution_options(synchronize_session=False)
    )
    method.is_default = True


def _tell(method: PaymentMethod) -> None:
    for hook in _when_default:
        hook(method)


def delete_method(method: PaymentMethod) -> None:
    """Remove a method, which is then not charged any more. No other becomes the default in its place."""
    method.is_default, method.deleted_at = False, now()
    _touch(method)


def _find_default(user_id: UUID, store_id: UUID | None, gateway: str) -> PaymentMethod | None:
    """The method of a gateway that is charged where nothing else was agreed on: in a store, its own before the one for
    everywhere, or (None) everywhere."""
    return db.session.scalar(
        select(PaymentMethod)
        .where(
            PaymentMethod.user_id == user_id,
            or_(PaymentMethod.store_id == store_id, PaymentMethod.store_id.is_(None)),
            PaymentMethod.gateway == gateway,
            PaymentMethod.is_default,
            PaymentMethod.deleted_at.is_(None),
        )
        .order_by(PaymentMethod.store_id.is_(None))
        .limit(1)
    )


def default_in(user_id: UUID, chosen: Chosen, store_id: UUID) -> PaymentMethod | None:
    """A user's default of what charges in a store."""
    return _find_default(user_id, store_id, chosen.gateway) if chosen.accepts else None


def chosen_apart(method: PaymentMethod | None, store_id: UUID) -> UUID | None:
    """What is written down of a method that was agreed on for charges in a store: its id, or nothing where it is the
    default there, so that another default is charged once there is one."""
    if method is None or (
        method.is_default and default_in(method.user_id, chosen_gateway(store_id), store_id) is method
    ):
        return None
    return method.id


def named_method(user_id: UUID, store_id: UUID, name: str, chosen: Chosen) -> PaymentMethod | None:
    """The stored method of a user that a request names, or None where it names a token instead. `chosen` is what
    charges in the store.

    Raises: ValidationFailed where there is no such method of theirs, or the store is not charged by its gateway.
    """
    method_id, method = parse_id(name), None
    if method_id is not None:
        method = db.session.get(PaymentMethod, (user_id, method_id))
        if method is None or method.deleted_at is not None:
            raise ValidationFailed.of("#/payment_method", "is not a payment method of yours", "not_found")
    gateway, only_in = (method.gateway, method.store_id) if method else (SANDBOX, None)
    if gateway != chosen.gateway or only_in not in (None, store_id):
        raise ValidationFailed.of("#/payment_method", "is none that this store can charge", "wrong_gateway")
    if not chosen.accepts:
        raise ValidationFailed.of("#/payment_method", "is of the sandbox, which charges nobody here", "sandbox_refused")
    return method


def method_for(store_id: UUID, user_id: UUID, name: str, only_in: UUID | None) -> PaymentMethod:
    """The method that a request names for charges while its payer is away: one that is named by its token is stored,
    for the store alone that the caller's token is bound to (`only_in`), if it is.

    Raises: ValidationFailed, as `named_method()` does.
    """
    found = named_method(user_id, store_id, name, chosen_gateway(store_id))
    return found or store_method(user_id, name, only_in=only_in)


def _touch(method: PaymentMethod) -> None:
    touch(f"user:{method.user_id}")
