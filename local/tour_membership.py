"""The part of the tour (tour.py) about a membership, in a test store whose clock is moved month by month."""

import secrets
from datetime import datetime, timedelta

from local.tour_client import Client, Document, follow, money, require, say, step

# Each of them goes past the end of a month.
_A_MONTH = timedelta(days=32)


def show_membership(owner: Client, member: Client) -> None:
    """Subscribed to, renewed, declined, and paid with another card; and its invoice as a document."""
    step("A test store has a clock of its own, which its owner moves. Somebody subscribes there:")
    store = owner.post("/v1/stores", {"name": f"Tour {secrets.token_hex(3)}", "currency": "EUR", "test": True}, 201)
    path = f"/v1/stores/{store['id']}"
    monthly = {"name": "Gold", "amount": 2500, "currency": "EUR", "interval": "month"}
    package = owner.post(f"{path}/packages", monthly, 201)
    # A card that is good for two charges.
    member.post("/v1/me/payment-methods", {"token": "sandbox_fail_after:2", "is_default": True}, 201)
    wanted = {"package_id": package["id"]}
    subscription = member.post(f"{path}/subscriptions", wanted, 202, secrets.token_hex(8))["links"]["self"]
    follow(member, member.headers["Location"])
    _show(member, subscription, "active")

    step("A month passes on the test store's clock: it is renewed.")
    _pass_a_month(owner, path)
    _show(member, subscription, "active")

    step("Another month, and the card is declined: the next tries are planned.")
    _pass_a_month(owner, path)
    _show(member, subscription, "past_due")

    step("Its member adds another card, which is charged at once:")
    member.post("/v1/me/payment-methods", {"token": "sandbox_ok", "is_default": True}, 201)
    follow(member, member.get(subscription)["links"]["job"])
    _show(member, subscription, "active")

    step("What was paid has an invoice, numbered without a gap, as a document for the accountant:")
    invoices = member.get(f"{path}/invoices?include=credit_notes&sort=created_at")["data"]
    numbers = [invoice["number"] for invoice in invoices]
    require(numbers == [f"INV-{number:06d}" for number in (1, 2, 3)], f"the invoices are {numbers}")
    payment = member.get(invoices[-1]["links"]["payment"])
    follow(member, payment["links"]["confirmation"])
    file = member.fetch(invoices[-1]["links"]["file"])
    require(file.startswith(b"%PDF-"), "the invoice is no PDF")
    say(f"{member.headers['Content-Disposition']}, {len(file):,} bytes, of {money(payment)}")


def _pass_a_month(owner: Client, path: str) -> None:
    shown = datetime.fromisoformat(owner.get(f"{path}/clock")["now"])
    owner.put(f"{path}/clock", {"now": (shown + _A_MONTH).isoformat()}, 202)
    follow(owner, owner.headers["Location"])


def _show(member: Client, subscription: str, status: str) -> None:
    one: Document = member.get(subscription)
    require(one["status"] == status, f"the subscription is {one['status']} instead of {status}")
    until = f"paid until {one['current_period_end'][:10]}" if status == "active" else "not paid"
    say(f"{one['status']}, {until}; the next charge is due on {one['next_charge_at'][:10]}")
