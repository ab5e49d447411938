"""The part of the tour (tour.py) about a membership, in a test store whose clock is moved month by month."""

import secrets
from pathlib import Path

from local.tour_client import Client, Document, follow, money, require, say, step


def show_membership(owner: Client, member: Client, home: Path) -> None:
    """A subscription that begins, renews, is declined and retried, and is paid with another card; its invoice is stored
    as a document in `home`."""
    step("A test store has a clock of its own, which its owner moves. Somebody subscribes there:")
    store = owner.post("/v1/stores", {"name": f"Tour {secrets.token_hex(3)}", "currency": "EUR", "test": True}, 201)
    path = f"/v1/stores/{store['id']}"
    monthly = {"name": "Gold", "amount": 2500, "currency": "EUR", "interval": "month"}
    package = owner.post(f"{path}/packages", monthly, 201)
    # A card that works for two charges.
    member.post("/v1/me/payment-methods", {"token": "sandbox_fail_after:2", "is_default": True}, 201)
    order = {"package_id": package["id"]}
    subscription = member.post(f"{path}/subscriptions", order, 202, secrets.token_hex(8))["links"]["self"]
    follow(member, member.headers["Location"])
    _show(member, subscription, "active")

    step("A month passes on the test store's clock: it is renewed.")
    _move_clock(owner, path, member.get(subscription)["current_period_end"])
    _show(member, subscription, "active")

    step("Another month, and the card is declined: the next tries are planned.")
    _move_clock(owner, path, member.get(subscription)["current_period_end"])
    _show(member, subscription, "past_due")

    step("A day later it is tried again, and declined again.")
    _move_clock(owner, path, member.get(subscription)["next_charge_at"])
    _show(member, subscription, "past_due")

    step("Its member adds another card, which is charged at once: the membership goes on as if nothing had been.")
    member.post("/v1/me/payment-methods", {"token": "sandbox_ok", "is_default": True}, 201)
    follow(member, member.get(subscription)["links"]["job"])
    _show(member, subscription, "active")

    _show_invoice(member, path, home)
    _show_metrics(owner, path, member.get(subscription)["current_period_end"], monthly["amount"])


def _show_invoice(member: Client, path: str, home: Path) -> None:
    step("What was paid has an invoice, numbered without a gap, as a document for the accountant:")
    invoices = member.get(f"{path}/invoices?include=credit_notes&sort=created_at")["data"]
    numbers = [invoice["number"] for invoice in invoices]
    require(numbers == [f"INV-{number:06d}" for number in (1, 2, 3)], f"the invoices are {numbers}")
    payment = member.get(invoices[-1]["links"]["payment"])
    follow(member, payment["links"]["confirmation"])
    file = member.fetch(invoices[-1]["links"]["file"])
    require(file.startswith(b"%PDF-"), "the invoice is no PDF")
    say(f"{member.headers['Content-Disposition']}, {len(file):,} bytes, of {money(payment)}")
    kept = home / "tour-invoice.pdf"
    kept.write_bytes(file)
    say(f"it is kept as {kept}, to be looked at")


def _show_metrics(owner: Client, path: str, until: str, mrr: object) -> None:
    step("What the store earns by it in a month, and what it has lost and got back:")
    months = owner.get(f"{path}/metrics?to={until}")["data"]
    seen = {name: months[-1][name] for name in ("mrr", "active")}
    seen |= {name: sum(month[name] for month in months) for name in ("failed_payments", "recovered")}
    say(", ".join(f"{name} {value}" for name, value in seen.items()))
    wanted = {"mrr": mrr, "active": 1, "failed_payments": 2, "recovered": 1}
    require(seen == wanted, f"the metrics are {seen} instead of {wanted}")


def _move_clock(owner: Client, path: str, to: str) -> None:
    owner.put(f"{path}/clock", {"now": to}, 202)
    follow(owner, owner.headers["Location"])


def _show(member: Client, subscription: str, status: str) -> None:
    one: Document = member.get(subscription)
    require(one["status"] == status, f"the subscription is {one['status']} instead of {status}")
    until = f"paid until {one['current_period_end'][:10]}" if status == "active" else "not paid"
    say(f"{one['status']}, {until}; the next charge is due on {one['next_charge_at'][:10]}")
