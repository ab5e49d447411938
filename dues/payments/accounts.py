"""A store's account at a gateway of its own, which its owner chooses. Each function is part of its caller's
transaction, except `check_gateway()` and `rotate_secrets()`."""

import threading
from datetime import timedelta
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from dues.breaker import Circuit
from dues.clock import now
from dues.errors import Fault, Unavailable, ValidationFailed
from dues.ids import new_id
from dues.payments.gateway import GatewayBusy, GatewayTimeout
from dues.payments.gateways import SANDBOX, STRIPE, GatewayType, open_stripe, place_of
from dues.payments.methods import delete_method
from dues.payments.models import GatewayAccount, PaymentMethod
from dues.payments.stripe_client import Refused
from dues.postgres import STORE_MOVES, database_now, db, sqlstate_of, transaction
from dues.reads.tags import touch
from dues.settings import settings
from dues.stores.clock import is_test
from dues.stores.service import lock_store
from dues.vault import SecretUnreadable, check_key, is_current, seal, unseal

# How long an owner waits at most to learn whether a key is valid.
_CHECK_S = 5.0
_checks = threading.BoundedSemaphore(2)
# How long webhooks signed with the previous secret are still accepted.
_ROTATION = timedelta(hours=24)

# How far a gateway's clock may be from ours before its first news.
_OTHER_CLOCK = timedelta(days=1)

SecretKey = Annotated[
    str,
    Meta(
        pattern=r"^(sk|rk)_(test|live)_[A-Za-z0-9_]{8,240}$(?!\n)",
        description="a secret or restricted key of Stripe's: of test mode for a test store, else of live mode",
    ),
]
WebhookSecret = Annotated[
    str,
    Meta(
        pattern=r"^whsec_[A-Za-z0-9+/=_-]{8,240}$(?!\n)", description="the secret that Stripe signs its webhooks with"
    ),
]
PublishableKey = Annotated[
    str,
    Meta(
        pattern=r"^pk_(test|live)_[A-Za-z0-9_]{8,240}$(?!\n)",
        description="the key that Stripe's script in clients needs",
    ),
]


class GatewayChoice(Struct, forbid_unknown_fields=True):
    """The gateway that charges in a store. `stripe` needs the secret key, and the secret of a webhook that points to
    `/v1/gateways/stripe/{store_id}`; neither is ever shown again. After a change of the webhook's secret, the previous
    one stays valid for a day. `publishable_key` is passed on to payers' clients."""

    type: Literal["sandbox", "stripe"]
    secret_key: SecretKey | UnsetType = UNSET
    webhook_secret: WebhookSecret | UnsetType = UNSET
    publishable_key: PublishableKey | UnsetType = UNSET


def check_gateway(store_id: UUID, choice: GatewayChoice) -> str | None:
    """Check a choice, and ask Stripe which account the key belongs to. Must not be called within a transaction.
    Returns: Stripe's id of the account; None for the sandbox.

    Raises: ValidationFailed for a key or secret that is missing, of the wrong mode, or refused; Unavailable if Stripe
    does not answer.
    """
    _check(store_id, choice)
    if choice.type == SANDBOX:
        return None
    assert isinstance(choice.secret_key, str)
    circuit = Circuit("gateway:stripe", first_s=5.0, longest_s=60.0)
    if (wait_s := circuit.wait_s()) or not _checks.acquire(blocking=False):
        raise Unavailable("Stripe cannot be asked just now", headers={"Retry-After": str(int(wait_s) + 1)})
    try:
        found = open_stripe(
            store_id, choice.secret_key, timeout_s=min(_CHECK_S, settings().gateway_timeout_s)
        ).account()
    except (GatewayBusy, Refused):
        circuit.succeeded()
        raise ValidationFailed.of("#/secret_key", "is refused by Stripe", "refused") from None
    except GatewayTimeout:
        circuit.failed()
        raise Unavailable("Stripe does not answer", headers={"Retry-After": "5"}) from None
    finally:
        _checks.release()
    circuit.succeeded()
    return found


def _check(store_id: UUID, choice: GatewayChoice) -> None:
    given = {
        "secret_key": choice.secret_key,
        "webhook_secret": choice.webhook_secret,
        "publishable_key": choice.publishable_key,
    }
    if choice.type == SANDBOX:
        faults = [
            _fault(name, "conflict", "the sandbox has none") for name, value in given.items() if value is not UNSET
        ]
    else:
        needed = ("secret_key", "webhook_secret")
        faults = [_fault(name, "required", "is required for stripe") for name in needed if given[name] is UNSET]
        mode = "test" if is_test(store_id) else "live"
        for name in ("secret_key", "publishable_key"):
            value = given[name]
            if isinstance(value, str) and value.split("_")[1] != mode:
                faults.append(_fault(name, "mode", f"is not of {mode} mode, which this store is of"))
    if faults:
        raise ValidationFailed.of_faults(faults)


def _fault(name: str, code: str, detail: str) -> Fault:
    return Fault(code=code, detail=detail, pointer=f"#/{name}")


def choose_gateway(store_id: UUID, choice: GatewayChoice, reference: str | None) -> None:
    """Have a store charged through the chosen gateway from now on. The choice must have been checked; `reference` is
    the gateway's id of the account.

    An account that the store had before is used again. Cards stored at another account are no longer charged. Raises:
    Unavailable if secrets cannot be encrypted.
    """
    lock_store(store_id)
    before = current(store_id)
    account = _find(store_id, choice.type, reference)
    if account is None:
        account = GatewayAccount(
            store_id=store_id,
            id=new_id(),
            type=choice.type,
            reference=reference,
            # Compared with the gateway's own clock, which may be behind ours.
            told_until=database_now() - _OTHER_CLOCK,
        )
    if before is not None and before.id != account.id:
        before.replaced_at = now()
        _forget_methods(store_id)
        # At each moment only one row of a store may be the current one.
        db.session.flush()
    account.replaced_at = None
    if choice.type == STRIPE:
        _keep_secrets(account, choice)
    db.session.add(account)
    touch(f"store:{store_id}")


def current(store_id: UUID) -> GatewayAccount | None:
    """The store's current account; None if the sandbox charges."""
    return db.session.scalar(
        select(GatewayAccount).where(GatewayAccount.store_id == store_id, GatewayAccount.replaced_at.is_(None))
    )


def _find(store_id: UUID, gateway: GatewayType, reference: str | None) -> GatewayAccount | None:
    return db.session.scalar(
        select(GatewayAccount).where(
            GatewayAccount.store_id == store_id,
            GatewayAccount.type == gateway,
            GatewayAccount.reference.is_not_distinct_from(reference),
        )
    )


def _keep_secrets(account: GatewayAccount, choice: GatewayChoice) -> None:
    assert isinstance(choice.secret_key, str)
    assert isinstance(choice.webhook_secret, str)
    webhook_before = webhook_secrets(account)
    if webhook_before and webhook_before[0] != choice.webhook_secret:
        account.previous_webhook_secret = _seal(account, "previous_webhook_secret", webhook_before[0])
        account.previous_until = database_now() + _ROTATION
    account.secret_key = _seal(account, "secret_key", choice.secret_key)
    account.secret_key_last4 = choice.secret_key[-4:]
    account.webhook_secret = _seal(account, "webhook_secret", choice.webhook_secret)
    account.webhook_secret_last4 = choice.webhook_secret[-4:]
    account.publishable_key = None if choice.publishable_key is UNSET else choice.publishable_key


def _seal(account: GatewayAccount, column: str, secret: str) -> bytes:
    return seal(secret, place_of(account.store_id, account.id, column))


def webhook_secrets(account: GatewayAccount) -> list[str]:
    """The secrets that webhooks to an account may be signed with, the current one first. Raises: SecretUnreadable."""
    sealed = {"webhook_secret": account.webhook_secret}
    if account.previous_until and account.previous_until > database_now():
        sealed["previous_webhook_secret"] = account.previous_webhook_secret
    return [unseal(value, place_of(account.store_id, account.id, column)) for column, value in sealed.items() if value]


def _forget_methods(store_id: UUID) -> None:
    """Delete the methods stored at Stripe, because another account cannot charge them."""
    stored = (
        PaymentMethod.store_id == store_id,
        PaymentMethod.gateway == STRIPE,
        PaymentMethod.deleted_at.is_(None),
    )
    for method in db.session.scalars(select(PaymentMethod).where(*stored).with_for_update()):
        delete_method(method)


_ALL = text("select store_id, id from gateway_accounts where secret_key is not null order by store_id, id")
_SEALED = ("secret_key", "webhook_secret", "previous_webhook_secret")


class Rotation(NamedTuple):
    """done: the number of accounts changed. moving: of those whose store is being moved to another Dues, and that still
    need their present keys. unreadable: the stores of those that no key decrypts."""

    done: int
    moving: int
    unreadable: list[UUID]


def rotate_secrets() -> Rotation:
    """Encrypt all secrets with the first key again that are encrypted with another, one account per transaction,
    whatever becomes of the others. Raises: SecretUnreadable where there is no key to encrypt with."""
    check_key()
    with db.engine.connect() as connection:
        accounts = connection.execute(_ALL).all()
    done = moving = 0
    unreadable: list[UUID] = []
    for account in accounts:
        try:
            done += _rotate(*account)
        except SecretUnreadable:
            unreadable.append(account.store_id)
        except DBAPIError as error:
            if sqlstate_of(error) != STORE_MOVES:
                raise
            moving += 1
    return Rotation(done, moving, unreadable)


def _rotate(store_id: UUID, account_id: UUID) -> bool:
    with transaction():
        account = db.session.get_one(GatewayAccount, (store_id, account_id), with_for_update=True)
        old = [name for name in _SEALED if getattr(account, name) and not is_current(getattr(account, name))]
        for name in old:
            setattr(
                account,
                name,
                _seal(account, name, unseal(getattr(account, name), place_of(store_id, account_id, name))),
            )
        touch(f"store:{store_id}")
    return bool(old)
