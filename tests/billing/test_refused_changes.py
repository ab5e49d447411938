"""Changes of package that are refused, and what is said of them."""

from typing import Any

import pytest

from dues.ids import new_id
from tests.billing.conftest import Club, subscribed


def test_P30_who_leaves_or_owes_cannot_change(club: Club) -> None:
    member, path = subscribed(club, 3000)
    package = str(club.package(6000).id)
    member.change(path, cancel_at_period_end=True)
    assert member.try_to(path, package_id=package).status_code == 409
    member.end(path)
    assert member.try_to(path, package_id=package).status_code == 409
    late, other = subscribed(club, 3000)
    late.card("sandbox_declined")
    club.advance("2024-03-01")
    assert late.get(other)["status"] == "past_due"
    assert late.try_to(other, package_id=package).status_code == 409


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        ({"package_id": str(new_id())}, "#/package_id"),
        ({"package_id": "x"}, "#/package_id"),
        ({"package_id": str(new_id()), "paused": True}, "#/paused"),
        ({"cancel_at_period_end": True, "resumes_at": "2030-01-01T00:00:00Z"}, "#/resumes_at"),
        ({"when": "now"}, "#"),
        ({"paused": "yes"}, "#/paused"),
        ({"payment_method": "visa"}, "#/payment_method"),
        ({"payment_method": str(new_id())}, "#/payment_method"),
        ({"status": "active"}, "#/status"),
    ],
)
def test_what_is_wrong_with_a_change_is_said(club: Club, body: dict[str, Any], pointer: str) -> None:
    member, path = subscribed(club, 3000)
    answer = member.try_to(path, **body)
    assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, pointer)


def test_a_package_of_another_currency_is_none_to_change_to(make_club: Any) -> None:
    club = make_club(currencies=["USD"])
    member, path = subscribed(club, 3000)
    answer = member.try_to(path, package_id=str(club.package(5000, currency="USD").id))
    assert (answer.status_code, (answer.json or {})["errors"][0]["code"]) == (422, "currency")
    answer = member.try_to(path, package_id=str(club.package(5000, currency="CHF").id))
    assert answer.status_code == 422


def test_without_a_card_nothing_is_changed_that_costs(club: Club) -> None:
    member = club.member(None)
    path = member.subscribe(club.package(0))
    answer = member.try_to(path, package_id=str(club.package(3000).id))
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "no_payment_method")


@pytest.mark.parametrize("query", ["preview=1", "preview=", "preview=true&preview=true", "colour=red"])
def test_a_preview_is_true_or_false(club: Club, query: str) -> None:
    member, path = subscribed(club, 3000)
    body = {"package_id": str(club.package(6000).id)}
    answer = club.client.patch(f"{path}?{query}", json=body, headers=member.auth)
    assert answer.status_code == 400
    assert club.client.patch(f"{path}?preview=false", json={"paused": True}, headers=member.auth).status_code == 200
