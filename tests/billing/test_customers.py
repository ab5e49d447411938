"""Customers of a store: what staff and they themselves see of what they have paid, have, and what has happened."""

from typing import Any

import pytest

from dues.ids import new_id
from tests.billing.conftest import Club, Member, shown


def customer(club: Club, member: Member, auth: dict[str, str] | None = None) -> dict[str, Any]:
    answer = club.client.get(f"{club.path}/customers/{member.user.id}", headers=auth or club.owner_auth)
    assert answer.status_code == 200, answer.text
    return answer.json or {}


def test_what_is_known_of_a_customer(club: Club) -> None:
    member = club.member(name="Ada", email="ada@example.com")
    package = club.package(5000)
    member.subscribe(package)
    member.given(700)
    club.advance("2024-02-29")
    found = customer(club, member)
    assert (found["name"], found["email"]) == ("Ada", "ada@example.com")
    assert (found["balance"], found["total_paid"]) == ({"EUR": 0}, {"EUR": 10000})
    assert (found["first_payment_at"], found["last_payment_at"]) == (shown("2024-01-31"), shown("2024-02-29"))
    assert found["access"] == {"active": True, "until": shown("2024-03-31"), "package_id": str(package.id)}
    assert customer(club, member, member.auth) == found
    entries = club.get(found["links"]["balance"])["data"]
    assert [(entry["amount"], entry["kind"]) for entry in entries] == [(-700, "invoice"), (700, "credit_note")]
    for name in ("payments", "subscriptions", "invoices"):
        assert {row["user_id"] for row in club.get(found["links"][name])["data"]} == {str(member.user.id)}


def test_one_in_a_trial_has_access_and_has_paid_nothing(club: Club) -> None:
    member = club.member()
    member.subscribe(club.package(5000, trial_days=10))
    found = customer(club, member)
    assert (found["balance"], found["total_paid"], found["first_payment_at"]) == ({}, {}, None)
    assert found["access"]["until"] == shown("2024-02-10")


def test_another_name_is_seen_also_of_one_who_has_paid_nothing(club: Club) -> None:
    member = club.member(name="Ada")
    path = member.subscribe(club.package(5000, trial_days=10))
    embedded = f"{club.path}/subscriptions?include=user"
    assert (customer(club, member)["name"], club.get(embedded)["data"][0]["user"]["name"]) == ("Ada", "Ada")
    assert club.client.patch("/v1/me", json={"name": "Augusta"}, headers=member.auth).status_code == 200
    assert customer(club, member)["name"] == "Augusta"
    assert club.get(embedded)["data"][0]["user"]["name"] == "Augusta"
    assert member.get(path)["status"] == "trialing"


@pytest.mark.usefixtures("mailbox")
def test_what_has_happened_in_one_list(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package(5000))
    (invoice,) = member.invoices()
    headers = {**club.owner_auth, "Idempotency-Key": new_id().hex}
    club.client.post(invoice["links"]["credit_notes"], json={"amount": 100}, headers=headers)
    club.work.drain()
    club.set("2024-02-10")
    member.change(path, cancel_at_period_end=True)
    timeline = club.get(customer(club, member)["links"]["timeline"])["data"]
    told = {(entry["type"], entry["what"], entry["amount"]) for entry in timeline}
    assert told >= {
        ("payment", "partially_refunded", 5000),
        ("refund", "succeeded", -100),
        ("subscription", "activated", None),
        ("subscription", "cancel_scheduled", None),
        ("invoice", "paid", 5000),
        ("credit_note", "issued", -100),
        ("mail", "sent", None),
    }
    assert [entry["at"] for entry in timeline] == sorted((entry["at"] for entry in timeline), reverse=True)
    for href in {entry["href"] for entry in timeline}:
        assert club.client.get(href, headers=club.owner_auth).status_code == 200, href


def test_nobody_sees_another(club: Club) -> None:
    member, other = club.member(), club.member()
    member.subscribe(club.package())
    links = customer(club, member)["links"]
    for name in ("self", "balance", "timeline"):
        assert club.client.get(links[name], headers=other.auth).status_code == 404
    assert other.get(f"{club.path}/customers")["data"] == []
    assert len(member.get(f"{club.path}/customers")["data"]) == 1
    assert [row["user_id"] for row in club.get(f"{club.path}/customers")["data"]] == [str(member.user.id)]
