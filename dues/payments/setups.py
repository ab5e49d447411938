"""Storing a payment method at a store's own gateway, which the payer's client does together with the gateway.

    pending -> requires_action -> succeeded | failed

A job begins a setup at the gateway. `next_action` is what the client needs to let the payer enter their card, which
never passes through Dues. When the client says so, or the gateway has news, a job asks for the result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select

from dues.clock import now
from dues.errors import Conflict, InvalidTransition, NotFound
from dues.ids import new_id
from dues.jobs import Ending, Retry, Run, enqueue, kinds, when_ended
from dues.payments import accounts
from dues.payments.gateway import GatewayTimeout, StoredMethod
from dues.payments.gateways import STRIPE, chosen_gateway
from dues.payments.methods import keep_method
from dues.payments.models import GatewayCustomer, PaymentMethod, PaymentSetup
from dues.payments.processing import guarded_gateway
from dues.payments.stripe_client import Refused
from dues.payments.stripe_gateway import Stripe
from dues.postgres import db, fetch_row, transaction
from dues.reads.tags import touch

_KEEP_CUSTOMER = """
    insert into gateway_customers(store_id, account_id, user_id, reference, created_at)
    values (%(store_id)s, %(account_id)s, %(user_id)s, %(reference)s, now())
    on conflict (store_id, account_id, user_id) do update set reference = gateway_customers.reference
    returning reference
"""


class NewPaymentSetup(Struct, forbid_unknown_fields=True):
    """A payment method to store at a store's own gateway. A payer's first method there becomes their default."""

    is_default: bool = False


def create_setup(store_id: UUID, user_id: UUID, new: NewPaymentSetup) -> PaymentSetup:
    """Create a pending setup, and the job that begins it at the gateway. Part of the caller's transaction().

    Raises: Conflict if the sandbox charges in the store, since its methods are stored by their tokens.
    """
    chosen = chosen_gateway(store_id)
    if chosen.gateway != STRIPE or chosen.account_id is None:
        raise Conflict("this store has no gateway of its own: store a token of the sandbox's", code="sandbox_gateway")
    setup = PaymentSetup(
        store_id=store_id, id=new_id(), user_id=user_id, account_id=chosen.account_id, is_default=new.is_default
    )
    setup.job_id = _enqueue(setup)
    db.session.add(setup)
    _touch(setup)
    return setup


def confirm_setup(setup: PaymentSetup) -> UUID:
    """The payer of a locked setup has acted: enqueue a job that asks the gateway for the result. Returns: the job's id.

    Raises: InvalidTransition if no action is required.
    """
    if setup.status != "requires_action":
        raise InvalidTransition(f"a setup that is {setup.status} requires no action")
    setup.job_id = _enqueue(setup)
    _touch(setup)
    return setup.job_id


def _enqueue(setup: PaymentSetup) -> UUID:
    args = {"store_id": str(setup.store_id), "setup_id": str(setup.id)}
    return enqueue(kinds.PAYMENT_SETUP, args, owner_id=setup.user_id, store_id=setup.store_id)


def get_setup(store_id: UUID, setup_id: UUID, user_id: UUID | None = None) -> PaymentSetup:
    """The setup, locked for this transaction. With `user_id`, only a setup of that user is found. Raises: NotFound."""
    setup = db.session.get(PaymentSetup, (store_id, setup_id), with_for_update=True, populate_existing=True)
    if setup is None or (user_id is not None and setup.user_id != user_id):
        raise NotFound("there is no such setup")
    return setup


def process_setup(run: Run, store_id: UUID, setup_id: UUID) -> None:
    """Begin a setup at the gateway, or find out its result. Raises: Retry if the gateway does not answer."""
    try:
        with transaction():
            setup = get_setup(store_id, setup_id)
    except NotFound:
        run.complete(None)
        return
    if setup.status in ("succeeded", "failed"):
        run.complete(_result(setup))
        return
    try:
        if setup.status == "pending":
            _begin(run, setup)
        else:
            _finish(run, setup)
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout


@contextmanager
def _stripe(store_id: UUID, account_id: UUID) -> Iterator[Stripe]:
    """Raises: Retry, as `guarded_gateway()` does."""
    with guarded_gateway(STRIPE, store_id, account_id) as gateway:
        assert isinstance(gateway, Stripe)
        yield gateway


def _begin(run: Run, setup: PaymentSetup) -> None:
    key = f"customer:{setup.account_id}:{setup.user_id}"
    action: dict[str, str] | None = None
    try:
        with _stripe(setup.store_id, setup.account_id) as stripe:
            customer = _customer(setup) or _keep_customer(setup, stripe.customer(setup.user_id, key))
            reference, action = stripe.set_up(str(setup.id), customer)
    except Refused as refused:
        reference, code = None, refused.code
    with run.completion(_result(setup)):
        found = get_setup(setup.store_id, setup.id)
        if found.status != "pending":
            return
        if action is None:
            found.status, found.failure_code = "failed", code
        else:
            href = f"/v1/stores/{found.store_id}/payment-setups/{found.id}/confirmations"
            found.status, found.gateway_ref = "requires_action", reference
            found.next_action = {"type": "stripe", "method": "POST", "href": href} | action
        _touch(found)


def _finish(run: Run, setup: PaymentSetup) -> None:
    assert setup.gateway_ref
    try:
        with _stripe(setup.store_id, setup.account_id) as stripe:
            stored = stripe.stored(setup.gateway_ref)
    except Refused as refused:
        stored = refused.code
    with run.completion(_result(setup)):
        # Storing a method locks its user, which must come before the setup's lock.
        current = accounts.current(setup.store_id)
        is_current = current is not None and current.id == setup.account_id
        method = None
        if isinstance(stored, StoredMethod) and is_current:
            method = keep_method(setup.user_id, setup.store_id, stored, is_default=setup.is_default)
        found = get_setup(setup.store_id, setup.id)
        if found.status != "requires_action" or stored is None:
            return
        found.next_action = None
        if method is not None:
            found.status, found.payment_method_id = "succeeded", method.id
        else:
            found.status = "failed"
            found.failure_code = stored if isinstance(stored, str) else "another_gateway"
        _touch(found)


def _customer(setup: PaymentSetup) -> str | None:
    return db.session.scalar(
        select(GatewayCustomer.reference).where(
            GatewayCustomer.store_id == setup.store_id,
            GatewayCustomer.account_id == setup.account_id,
            GatewayCustomer.user_id == setup.user_id,
        )
    )


def _keep_customer(setup: PaymentSetup, reference: str) -> str:
    values = {
        "store_id": setup.store_id,
        "account_id": setup.account_id,
        "user_id": setup.user_id,
        "reference": reference,
    }
    with transaction():
        row = fetch_row(_KEEP_CUSTOMER, values)
    assert row
    return str(row[0])


def detach_later(method: PaymentMethod) -> None:
    """Have a method that its payer has deleted also deleted at the store's gateway, by a job."""
    account = accounts.current(method.store_id) if method.store_id and method.gateway == STRIPE else None
    if account is not None:
        args = {"store_id": str(method.store_id), "account_id": str(account.id), "reference": method.gateway_ref}
        enqueue(kinds.PAYMENT_METHOD_DETACH, args, store_id=method.store_id)


def detach(store_id: UUID, account_id: UUID, reference: str) -> None:
    """Delete a method at the store's gateway. Raises: Retry if the gateway does not answer."""
    try:
        with _stripe(store_id, account_id) as stripe:
            stripe.detach(reference)
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout


def _result(setup: PaymentSetup) -> dict[str, Any]:
    return {"href": f"/v1/stores/{setup.store_id}/payment-setups/{setup.id}", "type": "application/json"}


@when_ended(kinds.PAYMENT_SETUP)
def setup_given_up(ending: Ending) -> None:
    """A setup that could not be begun has failed. One that waits for its payer continues to wait, since news may still
    come."""
    setup = get_setup(UUID(ending.args["store_id"]), UUID(ending.args["setup_id"]))
    if setup.status == "pending":
        setup.status, setup.failure_code = "failed", "gateway_timeout"
        _touch(setup)


def _touch(setup: PaymentSetup) -> None:
    setup.updated_at = now()
    touch(f"user:{setup.user_id}")
