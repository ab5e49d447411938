"""Stripe as the gateway of one store's account: PaymentIntents of stored cards, refunds, disputes.

Each object that we create there has our ids in its metadata, `dues_store` and `dues_payment` (or `dues_refund`,
`dues_setup`), so that it can be found by listing: Stripe forgets idempotency keys after a day, and webhooks get lost.
Objects without these ids, or with those of another store, are not ours. A declined PaymentIntent is canceled before we
report the decline: otherwise somebody with its client secret could still pay it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from stripe.params import PaymentIntentCreateParams, RefundCreateParams, SetupIntentCreateParams

from dues.errors import InvalidValue
from dues.payments.gateway import (
    Charge,
    Dispute,
    DisputeStatus,
    GatewayBusy,
    GatewayTimeout,
    News,
    Operation,
    Record,
    StoredMethod,
)
from dues.payments.stripe_amounts import from_stripe, to_stripe
from dues.payments.stripe_client import Refused, client, document, translated_errors
from dues.payments.stripe_events import EVENT_TYPES, hint_of

log = logging.getLogger("dues.payments.stripe")

Document = Mapping[str, Any]

_PAGE = 100
# A dispute in which no money was moved is an inquiry (`warning_…`), and is ignored. One that is being appealed counts
# as lost until it is won.
_DISPUTES: dict[str, DisputeStatus] = {
    "needs_response": "open",
    "under_review": "open",
    "won": "won",
    "prevented": "won",
    "lost": "lost",
    "appeal_needs_response": "lost",
    "appeal_under_review": "lost",
}


class Stripe:
    """See dues/payments/gateway.py for its methods. `publishable_key` is passed on to the store's clients."""

    def __init__(
        self, store_id: UUID, secret_key: str, *, base: str, timeout_s: float, publishable_key: str | None = None
    ) -> None:
        self._store_id, self._publishable_key = str(store_id), publishable_key
        self._api = client(secret_key, base, timeout_s).v1

    def account(self) -> str:
        """Stripe's id of the account that the key belongs to. Raises: Refused."""
        with translated_errors():
            return str(document(self._api.accounts.retrieve_current())["id"])

    def describe(self, key: str, token: str) -> StoredMethod | None:
        return None

    # Customers and their cards

    def customer(self, user_id: UUID, key: str) -> str:
        """Create a customer, under an idempotency key. Stripe learns nothing about the user but our id. Returns:
        Stripe's id. Raises: Refused."""
        metadata = {"dues_store": self._store_id, "dues_user": str(user_id)}
        with translated_errors():
            made = self._api.customers.create({"metadata": metadata}, {"idempotency_key": key})
        return str(document(made)["id"])

    def set_up(self, key: str, customer: str) -> tuple[str, dict[str, str]]:
        """Begin the setup of a card. Returns: Stripe's id of the setup, and what the payer's client needs to complete
        it."""
        params: SetupIntentCreateParams = {
            "customer": customer,
            "usage": "off_session",
            "allowed_payment_method_types": ["card"],
            "metadata": {"dues_store": self._store_id, "dues_setup": key},
        }
        with translated_errors():
            found = document(self._api.setup_intents.create(params, {"idempotency_key": key}))
        return str(found["id"]), self._action(found)

    def stored(self, reference: str) -> StoredMethod | str | None:
        """The card that a setup has stored; a failure code if it never will; None while the payer has to act."""
        with translated_errors():
            found = document(self._api.setup_intents.retrieve(reference, {"expand": ["payment_method"]}))
        if not self._is_ours(found):
            return "not_found"
        if found["status"] == "canceled":
            return "canceled"
        method = found.get("payment_method")
        if found["status"] != "succeeded" or not method:
            return None
        card = method.get("card")
        if card is None:
            return "not_a_card"
        return StoredMethod(
            str(found["customer"]), method["id"], card["brand"], card["last4"], card["exp_month"], card["exp_year"]
        )

    def detach(self, reference: str) -> None:
        """Delete a card, so that it can no longer be charged."""
        try:
            with translated_errors():
                self._api.payment_methods.detach(reference)
        except Refused as refused:
            log.info("a card was not detached at Stripe: %s", refused.code)

    # Charges

    def charge(self, charge: Charge) -> Operation:
        try:
            amount = to_stripe(charge.amount, charge.currency)
        except InvalidValue:
            return Operation("declined", "", "amount_not_supported")
        params: PaymentIntentCreateParams = {
            **self._intent(charge, amount),
            "payment_method": charge.method,
            "confirm": True,
            "off_session": charge.off_session,
        }
        try:
            with translated_errors():
                made = self._api.payment_intents.create(params, {"idempotency_key": charge.key})
        except Refused as refused:
            if refused.intent is None:
                return Operation("declined", "", refused.code)
            return self._state(charge, refused.intent, refused.code)
        return self._state(charge, document(made))

    def _intent(self, charge: Charge, amount: int, **marks: str) -> PaymentIntentCreateParams:
        params: PaymentIntentCreateParams = {
            "amount": amount,
            "currency": charge.currency.lower(),
            # There is no page to return to, so Stripe must not confirm in a way that redirects the payer's browser.
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"dues_store": self._store_id, "dues_payment": charge.key, **marks},
        }
        if charge.customer:
            params["customer"] = charge.customer
        return params

    def confirm(self, charge: Charge, *, succeeds: bool) -> Operation:
        if not succeeds:
            return self.close(charge) or Operation("declined", "", "authentication_failed")
        found = self.find(charge)
        if found is None:
            raise GatewayTimeout("Stripe does not know the charge that its payer has acted on")
        return found

    def find(self, charge: Charge) -> Operation | None:
        intent = self._look_up(charge)
        return None if intent is None or _is_fence(intent) else self._state(charge, intent)

    def close(self, charge: Charge) -> Operation | None:
        intent = self._look_up(charge)
        if intent is None:
            return self._fence(charge)
        if _is_fence(intent):
            self._cancel(intent)
            return None
        found = self._state(charge, intent)
        if found.outcome != "requires_action":
            return found
        return self._state(charge, self._cancel(intent), "authentication_failed")

    def _fence(self, charge: Charge) -> Operation | None:
        """Use up the key of a charge that Stripe has not received, with an intent that is never confirmed. If a request
        for the charge is still on its way, Stripe will refuse it, because its content under the same key is
        different."""
        try:
            amount = to_stripe(charge.amount, charge.currency)
        except InvalidValue:
            return None
        params = self._intent(charge, amount, dues_fence="yes")
        try:
            with translated_errors():
                made = self._api.payment_intents.create(params, {"idempotency_key": charge.key})
        except Refused:
            # Stripe would have found the same fault with the charge itself.
            return None
        self._cancel(document(made))
        return None

    def _look_up(self, charge: Charge) -> Document | None:
        """The intent of a charge: by Stripe's id or, if we do not know that, by listing all intents of the customer,
        newest first. The list is not limited by time, because the clocks of Stripe and Dues may differ."""
        if charge.reference:
            try:
                with translated_errors():
                    return document(self._api.payment_intents.retrieve(charge.reference))
            except Refused as refused:
                raise GatewayTimeout(f"Stripe does not know {charge.reference}: {refused.code}") from None
        params = {"customer": charge.customer} if charge.customer else {}
        for intent in self._all(self._api.payment_intents, params):
            if self._is_ours(intent) and intent["metadata"].get("dues_payment") == charge.key:
                return intent
        return None

    def _state(self, charge: Charge, intent: Document, code: str | None = None) -> Operation:
        """The result of a charge according to its intent. Raises: GatewayTimeout while Stripe has no result, or if the
        intent differs from what we asked for, which a person has to resolve."""
        self._require_same(charge, intent)
        match intent["status"]:
            case "succeeded":
                return Operation("succeeded", intent["id"])
            case "requires_action":
                return Operation("requires_action", intent["id"], action=self._action(intent))
            case "canceled":
                return Operation("declined", intent["id"], code or _failure(intent) or "authentication_failed")
            case "requires_payment_method" | "requires_confirmation":
                why = code or _failure(intent) or "declined"
                return self._state(charge, self._cancel(intent), why)
        raise GatewayTimeout(f"Stripe has not decided yet about {intent['id']}, which is {intent['status']}")

    def _require_same(self, charge: Charge, intent: Document) -> None:
        asked = (to_stripe(charge.amount, charge.currency), charge.currency.lower())
        is_paid = intent["status"] == "succeeded"
        found = (intent["amount_received"] if is_paid else intent["amount"], intent["currency"])
        if found != asked or not self._is_ours(intent) or intent["metadata"].get("dues_payment") != charge.key:
            log.error("payment %s is not what Stripe has as %s", charge.key, intent["id"])
            raise GatewayTimeout(f"Stripe has another payment as {intent['id']}")

    def _cancel(self, intent: Document) -> Document:
        """The intent after it was canceled; or as it is, if it was paid before that."""
        if intent["status"] == "canceled":
            return intent
        try:
            with translated_errors():
                return document(self._api.payment_intents.cancel(intent["id"]))
        except Refused:
            with translated_errors():
                found = document(self._api.payment_intents.retrieve(intent["id"]))
        if found["status"] not in ("canceled", "succeeded"):
            raise GatewayTimeout(f"Stripe has neither charged nor canceled {intent['id']}")
        return found

    def _action(self, intent: Document) -> dict[str, str]:
        action = {"type": "stripe", "client_secret": str(intent["client_secret"])}
        return action | ({"publishable_key": self._publishable_key} if self._publishable_key else {})

    # Refunds

    def refund(self, key: str, charge: Charge, amount: int) -> Operation:
        intent = self._look_up(charge)
        if intent is None:
            return Operation("declined", "", "charge_not_found")
        self._require_same(charge, intent)
        try:
            scaled = to_stripe(amount, charge.currency)
        except InvalidValue:
            return Operation("declined", "", "amount_not_supported")
        if known := self._refund_of(intent, key):
            return _refunded(known, scaled)
        params: RefundCreateParams = {
            "payment_intent": intent["id"],
            "amount": scaled,
            "metadata": {"dues_store": self._store_id, "dues_refund": key},
        }
        try:
            with translated_errors():
                return _refunded(document(self._api.refunds.create(params, {"idempotency_key": key})), scaled)
        except Refused as refused:
            return Operation("declined", "", refused.code)

    def find_refund(self, key: str, charge: Charge) -> Operation | None:
        intent = self._look_up(charge)
        found = self._refund_of(intent, key) if intent else None
        return _refunded(found, found["amount"]) if found else None

    def _refund_of(self, intent: Document, key: str) -> Document | None:
        refunds = self._all(self._api.refunds, {"payment_intent": intent["id"]})
        return next((one for one in refunds if (one.get("metadata") or {}).get("dues_refund") == key), None)

    # Disputes, news and records

    def dispute(self, reference: str) -> Dispute | None:
        try:
            with translated_errors():
                found = document(self._api.disputes.retrieve(reference))
                intent = document(self._api.payment_intents.retrieve(found["payment_intent"]))
        except Refused as refused:
            log.warning("Stripe does not know the dispute %s: %s", reference, refused.code)
            return None
        return self._dispute(found, intent)

    def _dispute(self, found: Document, intent: Document) -> Dispute | None:
        status = _DISPUTES.get(found["status"])
        if status is None or not self._is_ours(intent) or "dues_payment" not in intent["metadata"]:
            return None
        currency = found["currency"].upper()
        return Dispute(
            reference=found["id"],
            charge_key=intent["metadata"]["dues_payment"],
            amount=from_stripe(found["amount"], currency),
            currency=currency,
            reason=found["reason"],
            status=status,
        )

    def news(self, since: datetime) -> News:
        params = {"created": {"gte": int(since.timestamp())}, "types": list(EVENT_TYPES)}
        events = list(self._all(self._api.events, params))
        hints = [hint_of(event, self._store_id) for event in reversed(events)]
        newest = max((event["created"] for event in events), default=None)
        until = datetime.fromtimestamp(newest, UTC) if newest is not None else None
        return News([hint for hint in hints if hint], until)

    def records(self) -> Iterable[Record]:
        ours: set[str] = set()
        for intent in self._all(self._api.payment_intents, {}):
            if self._is_ours(intent) and intent["status"] == "succeeded":
                ours.add(intent["id"])
                yield _record(intent["metadata"].get("dues_payment"), "charge", intent, intent["amount_received"])
        for refund in self._all(self._api.refunds, {}):
            if refund.get("payment_intent") in ours and refund["status"] in ("succeeded", "pending"):
                yield _record((refund.get("metadata") or {}).get("dues_refund"), "refund", refund, refund["amount"])
        for dispute in self._all(self._api.disputes, {}):
            if dispute.get("payment_intent") in ours and _DISPUTES.get(dispute["status"]) in ("open", "lost"):
                yield _record(dispute["id"], "dispute", dispute, dispute["amount"])

    def _all(self, service: Any, params: Mapping[str, Any]) -> Iterator[Document]:
        """All objects of a list, newest first, read page by page."""
        after: dict[str, str] = {}
        while True:
            with translated_errors():
                page = document(service.list({**params, **after, "limit": _PAGE}))
            yield from page["data"]
            if not page["has_more"] or not page["data"]:
                return
            after = {"starting_after": page["data"][-1]["id"]}

    def _is_ours(self, found: Document) -> bool:
        return bool((found.get("metadata") or {}).get("dues_store") == self._store_id)


def _is_fence(intent: Document) -> bool:
    return "dues_fence" in intent["metadata"]


def _failure(intent: Document) -> str | None:
    error = intent.get("last_payment_error") or {}
    code: str | None = error.get("decline_code") or error.get("code")
    return "authentication_failed" if code == "payment_intent_authentication_failure" else code


def _refunded(refund: Document, amount: int) -> Operation:
    """The result of a refund. Raises: GatewayBusy while it is pending; GatewayTimeout if its amount differs."""
    if refund["amount"] != amount:
        raise GatewayTimeout(f"Stripe has another refund as {refund['id']}")
    match refund["status"]:
        case "succeeded":
            return Operation("succeeded", refund["id"])
        case "failed" | "canceled":
            return Operation("declined", refund["id"], refund.get("failure_reason") or refund["status"])
    raise GatewayBusy("Stripe has not made the refund yet")


def _record(key: str | None, kind: Any, found: Document, amount: int) -> Record:
    """The record of an object; if it was made at Stripe without us, its key is Stripe's id."""
    currency = found["currency"].upper()
    return Record(key or found["id"], kind, from_stripe(amount, currency), currency)
