"""Writing stored payment methods. Each function is part of its caller's transaction.

Methods of the sandbox are valid in every store where it charges. Three kinds of methods are valid in one store only:
those of a store's own gateway, those that a store has imported, and those stored with a token that is restricted to a
store. A user has at most one default that is valid everywhere, and at most one for each store; choosing another
replaces it. Charges without the payer being present use the default (a store's own before the general one), unless
another method was agreed on.
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
# A token, or the id of a stored method, in a request.
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
    """A method to store, given as a token of the gateway. A user's first method becomes their default."""

    token: Token
    is_default: bool = False


class PaymentMethodChange(Struct, forbid_unknown_fields=True):
    """Makes a method the default, instead of another."""

    is_default: Literal[True]


MethodHook = Callable[[PaymentMethod], None]
_when_default: list[MethodHook] = []


def when_default(hook: MethodHook) -> MethodHook:
    """Have `hook(method)` called when a method has become its user's default, in the same transaction()."""
    _when_default.append(hook)
    return hook


def store_method(user_id: UUID, token: str, *, is_default: bool = False, only_in: UUID | None = None) -> PaymentMethod:
    """Store the method that a token of the sandbox stands for: for one store (`only_in`) or for all. It becomes the
    default there if requested, or if there is none. Raises: ValidationFailed if it cannot be stored."""
    lock_user(user_id)
    method_id = new_id()
    stored = gateway_of(SANDBOX, NOBODY, None).describe(str(method_id), token)
    if stored is None:
        raise ValidationFailed.of("#/token", "cannot be stored", "not_supported")
    return _add(user_id, method_id, SANDBOX, only_in, stored, is_default=is_default)


def keep_method(user_id: UUID, store_id: UUID, stored: StoredMethod, *, is_default: bool) -> PaymentMethod:
    """Store a method of a store's own gateway, unless it is stored already. It becomes the default there if requested,
    or if there is none."""
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
        _run_default_hooks(method)
    return method


def can_be_imported(token: str) -> bool:
    """Whether a method can be stored by its token alone, without its payer."""
    return gateway_of(SANDBOX, NOBODY, None).describe("", token) is not None


def keep_imported(store_id: UUID, tokens: Sequence[tuple[UUID, str]]) -> dict[UUID, UUID]:
    """Store the methods that a store imports with its members, as pairs of user id and token; the tokens must be
    importable. None of them becomes a default. Returns: the methods' ids by user id."""
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
    """The method, locked for this transaction, if reads would show it (dues/payments/reads.py): with `only_store`, only
    if it is valid in that store or everywhere. Raises: NotFound."""
    # The user's row is locked first, as in make_default(): a single lock order prevents deadlocks.
    lock_user(user_id)
    values = {"user_id": user_id, "id": method_id, "only_store": only_store}
    is_shown = fetch_row(_SHOWN, values) is not None
    method = db.session.get(PaymentMethod, (user_id, method_id), with_for_update=True, populate_existing=True)
    if method is None or not is_shown:
        raise NotFound("there is no such payment method")
    return method


def make_default(method: PaymentMethod) -> None:
    """Make a method the default, unless it is already. The user's row must be locked."""
    if not method.is_default:
        _become_default(method)
        _touch(method)
        _run_default_hooks(method)


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


def _run_default_hooks(method: PaymentMethod) -> None:
    for hook in _when_default:
        hook(method)


def delete_method(method: PaymentMethod) -> None:
    """Delete a method, which is then no longer charged. No other method becomes the default in its place."""
    method.is_default, method.deleted_at = False, now()
    _touch(method)


def _find_default(user_id: UUID, store_id: UUID | None, gateway: str) -> PaymentMethod | None:
    """The gateway's method that is charged unless another was agreed on: in a store, its own default before the general
    one; with `store_id` None, the general one."""
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
    """A user's default method of the gateway that charges in a store; None if that takes no payments."""
    return _find_default(user_id, store_id, chosen.gateway) if chosen.accepts else None


def explicit_method_id(method: PaymentMethod | None, store_id: UUID) -> UUID | None:
    """The value to record for a method that was agreed on for charges in a store: its id, or None if it is the default
    there, so that a later default is charged instead."""
    if method is None or (
        method.is_default and default_in(method.user_id, chosen_gateway(store_id), store_id) is method
    ):
        return None
    return method.id


def named_method(user_id: UUID, store_id: UUID, name: str, chosen: Chosen) -> PaymentMethod | None:
    """The stored method of a user that a request names; None if the request names a token instead. `chosen` is the
    gateway that charges in the store.

    Raises: ValidationFailed if the user has no such method, or if the store cannot charge it.
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
    """The method that a request names for charges without the payer being present. A token is stored as a method first,
    only for the store that the caller's token is restricted to (`only_in`), if any.

    Raises: ValidationFailed, as `named_method()` does.
    """
    found = named_method(user_id, store_id, name, chosen_gateway(store_id))
    return found or store_method(user_id, name, only_in=only_in)


def _touch(method: PaymentMethod) -> None:
    touch(f"user:{method.user_id}")
