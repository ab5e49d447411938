"""The gateways, by the name that a payment carries, and the choice of the one that charges in a store.

The sandbox charges in a store until its owner connects an account of its own (accounts.py). Payments stay with the
account that they were charged through, whichever the store uses later.
"""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text

from dues.errors import Unavailable
from dues.payments.gateway import Gateway, GatewayBusy
from dues.payments.sandbox import Sandbox
from dues.payments.stripe_gateway import Stripe
from dues.postgres import db, fetch_row
from dues.settings import settings
from dues.stores.access import Access
from dues.vault import unseal

GatewayType = Literal["sandbox", "stripe"]
SANDBOX: GatewayType = "sandbox"
STRIPE: GatewayType = "stripe"

# Stands for the store of the sandbox, which belongs to no store.
NOBODY = UUID(int=0)

_sandbox = Sandbox()

_CHOSEN = """
    select s.test, g.type, g.id from stores s
    left join gateway_accounts g on g.store_id = s.id and g.replaced_at is null
    where s.id = %(store_id)s
"""
_ACCOUNT = """
    select secret_key, publishable_key from gateway_accounts where store_id = %(store_id)s and id = %(id)s
"""
_STRIPES = text("select store_id, id from gateway_accounts where type = 'stripe' order by store_id, id")
# Whether the payment method `m` can be charged in the store `s`, whose own gateway account is `g`, if it has one.
CAN_CHARGE = """
    (m.gateway = coalesce(g.type, 'sandbox') and (m.store_id is null or m.store_id = s.id)
        and (m.gateway <> 'sandbox' or s.test or %(sandbox_is_open)s))
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The gateway that charges in a store. `accepts`: it takes payments; the sandbox does not where real money is
    expected."""

    gateway: GatewayType
    account_id: UUID | None
    accepts: bool


def chosen_gateway(store_id: UUID) -> Chosen:
    """The gateway that charges in a store at present."""
    is_test, gateway, account_id = fetch_row(_CHOSEN, {"store_id": store_id}, hot=True) or (False, None, None)
    return _chosen(is_test, gateway, account_id)


def gateway_from_access(access: Access) -> Chosen:
    """The same, as it was when the access rights of a request were determined."""
    return _chosen(access.is_test_store, access.gateway, access.gateway_account_id)


def _chosen(is_test: bool, own: Any, account_id: UUID | None) -> Chosen:
    gateway: GatewayType = own or SANDBOX
    return Chosen(gateway, account_id, gateway != SANDBOX or is_test or sandbox_is_open())


def sandbox_is_open() -> bool:
    """Whether the sandbox also charges in stores that are not test stores."""
    return settings().environment != "production"


def gateway_of(gateway: str, store_id: UUID, account_id: UUID | None) -> Gateway:
    """The gateway that charges, or has charged, through an account of a store. Raises: GatewayBusy if its key is
    unreadable."""
    return _sandbox if gateway == SANDBOX else stripe_of(store_id, account_id)


def stripe_of(store_id: UUID, account_id: UUID | None, *, timeout_s: float = 0.0) -> Stripe:
    """Stripe with an account of a store. Raises: GatewayBusy if there is no such account, or its key is unreadable."""
    row = fetch_row(_ACCOUNT, {"store_id": store_id, "id": account_id})
    if row is None or row[0] is None:
        raise GatewayBusy("the store has no such account at Stripe")
    sealed, publishable_key = row
    try:
        secret_key = unseal(sealed, place_of(store_id, account_id, "secret_key"))
    except Unavailable as unreadable:
        raise GatewayBusy(unreadable.detail) from None
    return open_stripe(store_id, secret_key, publishable_key, timeout_s)


def open_stripe(store_id: UUID, secret_key: str, publishable_key: str | None = None, timeout_s: float = 0.0) -> Stripe:
    """Stripe with a given key; without `timeout_s`, calls take as long as the settings allow."""
    found = settings()
    return Stripe(
        store_id,
        secret_key,
        base=found.stripe_api_url,
        timeout_s=timeout_s or found.gateway_timeout_s,
        publishable_key=publishable_key,
    )


def place_of(store_id: UUID, account_id: UUID | None, column: str) -> str:
    """The location of a stored secret, which its encryption is bound to (dues/vault.py)."""
    return f"gateway_accounts {store_id} {account_id} {column}"


def all_gateways() -> list[tuple[GatewayType, UUID, UUID | None]]:
    """Every gateway account that charges or has charged: the gateway's name, the store and the account."""
    with db.engine.connect() as connection:
        accounts = connection.execute(_STRIPES).all()
    return [(SANDBOX, NOBODY, None), *((STRIPE, row.store_id, row.id) for row in accounts)]
