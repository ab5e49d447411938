"""A store that Stripe charges in, with the stand-in for it."""

from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.test import TestResponse

from dues.payments.hooks import offer_sweeps
from tests.payments.stripe_shapes import Document
from tests.payments.stripe_stand_in import Account, StripeStandIn, signed

if TYPE_CHECKING:
    from tests.payments.conftest import Shop, Work

WEBHOOK_SECRET = "whsec_standinSECRET0123456789"


class StripeShop:
    """A store, its account at the stand-in, and a customer with cards there."""

    def __init__(self, base: "Shop", stripe: StripeStandIn, work: "Work", app: Flask, mode: str = "live") -> None:
        self.shop, self.stripe, self.work, self.app, self.make = base, stripe, work, app, base.make
        self.secret_key = stripe.key(mode)
        self.account: Account = stripe.accounts[self.secret_key]
        answer = self.choose()
        assert answer.status_code == 200, answer.text
        self.customer = stripe.new(self.account, "customers", "cus", {})["id"]

    @property
    def path(self) -> str:
        return f"/v1/stores/{self.shop.store.id}"

    def choose(self, auth: dict[str, str] | None = None, **changes: Any) -> TestResponse:
        body = {"type": "stripe", "secret_key": self.secret_key, "webhook_secret": WEBHOOK_SECRET} | changes
        headers = auth or self.shop.owner_auth
        return self.shop.client.put(f"{self.path}/gateway", json=body, headers=headers)

    def card(self, how: str = "ok", **columns: Any) -> str:
        """A card that the customer has stored before. Returns: its id."""
        return str(
            self.make.payment_method(
                self.shop.customer,
                **{
                    "store_id": self.shop.store.id,
                    "gateway": "stripe",
                    "gateway_customer": self.customer,
                    "gateway_ref": self.stripe.card(self.account, self.customer, how),
                    **columns,
                },
            ).id
        )

    def pay(self, how: str = "ok") -> str:
        """Returns: the id of a payment of 15.00 EUR, on which the first job has been done."""
        payment_id = str(self.shop.pay(self.card(how))["id"])
        self.work.drain()
        return payment_id

    def payment(self, payment_id: str) -> Document:
        return self.shop.payment(payment_id)

    def intents(self, payment_id: str) -> list[Document]:
        found = self.account.all("payment_intents").values()
        return [one for one in found if one["metadata"].get("dues_payment") == payment_id]

    def charged(self, payment_id: str) -> list[int]:
        return [one["amount_received"] for one in self.intents(payment_id) if one["status"] == "succeeded"]

    def refunded(self) -> int:
        return sum(one["amount"] for one in self.account.all("refunds").values())

    def events(self, *types: str) -> list[Document]:
        """What Stripe has to tell, of these types if any are given."""
        return [one for one in self.account.all("events").values() if not types or one["type"] in types]

    def hook(self, event: Document, secret: str = WEBHOOK_SECRET, at: float | None = None, store: Any = None) -> Any:
        body, headers = signed(event, secret, at)
        return self.shop.client.post(f"/v1/gateways/stripe/{store or self.shop.store.id}", data=body, headers=headers)

    def hooks(self, *events: Document) -> None:
        """Hooks arrive, in this order, and are acted on."""
        for event in events or self.events():
            answer = self.hook(event)
            assert answer.status_code == 204, answer.text
        self.work.drain()

    def sweep(self) -> None:
        """No hook came: what has happened is listed."""
        sweep(self.app, self.work)


def sweep(app: Flask, work: "Work") -> None:
    """Have the news of every gateway be listed, and acted on."""
    with app.app_context():
        offer_sweeps()
    work.drain()
