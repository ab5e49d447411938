"""Renewals that fail, what is tried then, and balances: the cases N of the design."""

from typing import Any

import pytest

from tests.billing.conftest import Club, Member, shown
from tests.servers import Mailbox


def in_arrears(club: Club, card: str = "sandbox_declined", amount: int = 5000) -> tuple[Member, str]:
    """A member since 2024-01-31 whose renewal of 2024-02-29 is to be charged to `card`."""
    member = club.member()
    path = member.subscribe(club.package(amount))
    member.card(card)
    return member, path


def tries(member: Member) -> list[str]:
    """When the member's card was tried."""
    return [payment.created_at.strftime("%m-%d") for payment in member.payments()]


def test_N1_it_is_tried_again_after_1_3_5_and_7_days_and_then_canceled(club: Club) -> None:
    member, path = in_arrears(club)
    club.advance("2024-03-06T23:59:59")
    assert tries(member) == ["01-31", "02-29", "03-01", "03-03", "03-05"]
    assert member.get(path)["status"] == "past_due"
    club.advance("2024-03-07")
    one = member.get(path)
    assert tries(member)[-1] == "03-07"
    assert (one["status"], one["ended_at"], one["has_access"]) == ("canceled", shown("2024-03-07"), False)
    assert [invoice["status"] for invoice in member.invoices()] == ["paid", "void"]
    assert [invoice["number"] for invoice in member.invoices()] == ["INV-000001", None]
    club.advance("2024-12-31")
    assert len(tries(member)) == 6


def test_N1_a_store_may_let_it_stay(make_club: Any) -> None:
    club = make_club(dunning="stay")
    member, path = in_arrears(club)
    club.advance("2024-12-31")
    one = member.get(path)
    assert (one["status"], one["has_access"], one["next_charge_at"]) == ("past_due", False, None)
    assert len(tries(member)) == 6
    # Whoever pays in the end begins anew.
    member.card("sandbox_ok")
    club.work.drain()
    one = member.get(path)
    assert (one["status"], one["current_period_start"]) == ("active", shown("2024-12-31"))
    assert member.charged == [5000, 5000]


@pytest.mark.parametrize(
    ("works_from", "start"),
    [
        pytest.param("2024-03-02", "2024-02-29", id="N2"),
        pytest.param("2024-03-06", "2024-02-29", id="on the last day of grace"),
    ],
)
def test_a_retry_that_succeeds_leaves_the_period_as_it_was(club: Club, works_from: str, start: str) -> None:
    member, path = in_arrears(club)
    club.advance(works_from)
    # A card of this subscription alone is the next retry's, too.
    club.make.rows("update payment_methods set gateway_ref = replace(gateway_ref, 'declined', 'ok')")
    club.advance("2024-03-08")
    one = member.get(path)
    assert (one["status"], one["current_period_start"]) == ("active", shown(start))
    assert one["next_charge_at"] == shown("2024-03-31")
    assert member.charged == [5000, 5000]


def test_R19_paid_after_access_had_ended_the_period_begins_anew(make_club: Any) -> None:
    club = make_club(grace_days=2)
    member, path = in_arrears(club)
    club.advance("2024-03-02T12:00")
    assert member.get(path)["has_access"] is False
    club.make.rows("update payment_methods set gateway_ref = replace(gateway_ref, 'declined', 'ok')")
    club.advance("2024-03-04")
    one = member.get(path)
    assert (one["status"], one["anchor_at"], one["has_access"]) == ("active", shown("2024-03-03"), True)
    assert (one["current_period_start"], one["current_period_end"]) == (shown("2024-03-03"), shown("2024-04-03"))
    club.advance("2024-05-04")
    assert member.charged == [5000] * 4


@pytest.mark.parametrize(
    ("card", "tried", "next_try"),
    [("sandbox_insufficient", 3, "2024-03-03"), ("sandbox_stolen", 2, None), ("sandbox_action", 3, "2024-03-03")],
)
def test_N3_a_dead_card_is_not_tried_again(club: Club, card: str, tried: int, next_try: str | None) -> None:
    member, path = in_arrears(club, card)
    club.advance("2024-03-02")
    one = member.get(path)
    assert (len(tries(member)), one["status"], one["next_charge_at"]) == (tried, "past_due", shown(next_try))
    club.advance("2024-03-07")
    assert member.get(path)["status"] == "canceled"


@pytest.mark.parametrize("card", ["sandbox_declined", "sandbox_stolen"])
def test_N4_a_new_card_is_charged_at_once(club: Club, card: str) -> None:
    member, path = in_arrears(club, card)
    club.advance("2024-03-01T12:00")
    member.card("sandbox_ok")
    club.work.drain()
    one = member.get(path)
    assert (one["status"], one["current_period_end"], one["next_charge_at"]) == (
        "active",
        shown("2024-03-31"),
        shown("2024-03-31"),
    )
    club.advance("2024-03-30")
    assert member.charged == [5000, 5000]
    assert club.events().count("payment_method.updated") == 2


def test_N4_a_card_for_this_subscription_alone_is_charged_at_once_too(club: Club) -> None:
    member, path = in_arrears(club)
    club.advance("2024-03-01T12:00")
    card = member.card("sandbox_ok", is_default=False)
    assert member.get(path)["status"] == "past_due"
    one = member.change(path, payment_method=card)
    assert (one["status"], one["payment_method_id"], member.charged) == ("active", card, [5000, 5000])


def test_N4_a_new_card_that_becomes_the_default_is_charged_once(club: Club) -> None:
    """Its token is stored, and where there is no default it is one from then on, which is charged by itself."""
    member, path = in_arrears(club)
    club.advance("2024-03-01T12:00")
    for method in member.get("/v1/me/payment-methods")["data"]:
        answer = club.client.delete(f"/v1/me/payment-methods/{method['id']}", headers=member.auth)
        assert answer.status_code == 204
    tried = len(tries(member))
    one = member.change(path, payment_method="sandbox_ok")
    assert (one["status"], one["payment_method_id"]) == ("active", None)
    assert (member.charged, len(tries(member))) == ([5000, 5000], tried + 1)


def test_N5_a_payer_may_try_five_times(club: Club) -> None:
    member, path = in_arrears(club)
    club.advance("2024-02-29T12:00")
    card = member.get("/v1/me/payment-methods?sort=-created_at")["data"][0]["id"]
    for _ in range(5):
        assert member.change(path, payment_method=card)["status"] == "past_due"
    answer = member.try_to(path, payment_method=card)
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "too_many_tries")
    assert len(tries(member)) == 7
    # What is due is tried all the same.
    club.advance("2024-03-01")
    assert len(tries(member)) == 8


def test_N5_while_a_try_is_under_way_there_is_no_other(club: Club) -> None:
    member, path = in_arrears(club)
    club.advance("2024-02-29T12:00")
    card = member.card("sandbox_ok", is_default=False)
    assert member.try_to(path, payment_method=card).status_code == 200
    answer = member.try_to(path, payment_method=card)
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "payment_in_flight")
    club.work.drain()
    assert member.charged == [5000, 5000]


def test_N7_what_is_paid_stays_paid(club: Club, mailbox: Mailbox) -> None:
    member, path = in_arrears(club, "sandbox_lost_answer")
    club.advance("2024-03-01")
    one = member.get(path)
    assert (one["status"], member.charged) == ("active", [5000, 5000])
    assert not [mail for mail in mailbox.mails() if "failed" in str(mail["Subject"])]


def test_N8_a_charge_that_nobody_answers_for_is_found_out_and_then_dunned(club: Club) -> None:
    member, path = in_arrears(club, "sandbox_timeout")
    club.advance("2024-02-29T00:00:01")
    one = member.get(path)
    assert (one["status"], one["next_charge_at"]) == ("past_due", shown("2024-03-01"))
    assert [payment.failure_code for payment in member.payments()][-1] == "gateway_timeout"


def test_N10_a_first_charge_that_is_declined_blocks_nobody(club: Club) -> None:
    member = club.member("sandbox_declined")
    package = club.package()
    path = member.subscribe(package)
    one = member.get(path)
    assert (one["status"], one["has_access"]) == ("incomplete", False)
    assert [invoice["number"] for invoice in member.invoices()] == [None]
    member.card("sandbox_ok")
    second = member.subscribe(package)
    assert member.get(second)["status"] == "active"
    assert member.get(path)["status"] == "expired"
    assert member.charged == [5000]
    assert [invoice["number"] for invoice in member.invoices()] == [None, "INV-000001"]


def test_a_first_charge_can_be_tried_again_with_another_card(club: Club) -> None:
    member = club.member("sandbox_declined")
    path = member.subscribe(club.package())
    club.set("2024-01-31T03:00")
    one = member.change(path, payment_method="sandbox_ok")
    assert (one["status"], one["current_period_start"]) == ("active", shown("2024-01-31T03:00"))


@pytest.mark.parametrize("acts", [False, True])
def test_N11_a_first_charge_that_is_never_finished_lapses(club: Club, acts: bool) -> None:
    member = club.member("sandbox_action")
    path = member.subscribe(club.package())
    assert member.get(path)["status"] == "incomplete"
    payment = member.payments()[0]
    if acts:
        club.set("2024-01-31T05:00")
        member.post(f"{club.path}/payments/{payment.id}/confirmations", {"outcome": "succeed"})
        club.work.drain()
        one = member.get(path)
        assert (one["status"], one["anchor_at"]) == ("active", shown("2024-01-31T05:00"))
        return
    club.advance("2024-01-31T22:59:59")
    assert member.get(path)["status"] == "incomplete"
    club.advance("2024-01-31T23:00")
    assert member.get(path)["status"] == "expired"
    answer = member.post(f"{club.path}/payments/{payment.id}/confirmations", {"outcome": "succeed"})
    assert (answer.status_code, member.charged) == (409, [])


def test_N11_money_that_comes_after_that_goes_back(club: Club) -> None:
    """The payer acted at the last moment, which the gateway tells when it is asked for the last word."""
    member = club.member("sandbox_action")
    path = member.subscribe(club.package())
    club.make.rows("update sandbox_gateway.operations set outcome = 'succeeded'")
    club.advance("2024-02-01")
    club.work.drain()
    assert member.get(path)["status"] == "expired"
    assert [payment.status for payment in member.payments()] == ["refunded"]


@pytest.mark.parametrize(
    ("days", "reads"),
    [
        (7, {"2024-03-06T23:59": True, "2024-03-07T00:00": False}),
        (3, {"2024-03-02T23:59": True, "2024-03-03T00:00": False}),
        (0, {"2024-02-29T00:00": False}),
        (21, {"2024-03-07T00:00": True}),
    ],
)
def test_N12_access_lasts_for_the_days_of_grace(make_club: Any, days: int, reads: dict[str, bool]) -> None:
    club = make_club(grace_days=days, dunning="stay")
    member, path = in_arrears(club)
    for moment, has_access in reads.items():
        club.advance(moment)
        assert member.get(path)["has_access"] is has_access, moment


def test_N14_too_little_to_be_charged_is_owed_with_the_next(make_club: Any) -> None:
    club = make_club("2024-01-31", currency="USD")
    member = club.member()
    path = member.subscribe(club.package(10))
    assert (member.get(path)["status"], member.charged, member.balance) == ("active", [], -10)
    member.change(path, package_id=str(club.package(5000).id), when="period_end")
    club.advance("2024-02-29")
    assert (member.charged, member.balance) == ([5010], 0)


@pytest.mark.parametrize(("balance", "charged", "left"), [(10000, [], 5000), (3000, [2000], 0)])
def test_N15_a_balance_is_used_first(club: Club, balance: int, charged: list[int], left: int) -> None:
    member = club.member()
    member.subscribe(club.package())
    member.given(balance)
    club.advance("2024-02-29")
    assert (member.charged[1:], member.balance) == (charged, left)
    assert member.invoices()[-1]["balance_applied"] == 5000 - sum(charged)


def test_N16_what_is_free_is_never_charged(club: Club, mailbox: Mailbox) -> None:
    member = club.member(None)
    path = member.subscribe(club.package(0))
    club.advance("2024-04-01")
    one = member.get(path)
    assert (one["status"], one["current_period_end"], member.payments()) == ("active", shown("2024-04-30"), [])
    assert [(invoice["total"], invoice["status"]) for invoice in member.invoices()] == [(0, "paid")] * 3
    assert mailbox.mails() == []


def test_N18_a_new_default_card_is_what_the_next_renewal_uses(club: Club) -> None:
    member = club.member()
    own = member.card("sandbox_ok", is_default=False)
    path = member.subscribe(club.package())
    other = member.card("sandbox_ok")
    club.advance("2024-02-29")
    assert str(member.payments()[-1].payment_method_id) == other
    member.change(path, payment_method=own)
    club.advance("2024-03-31")
    assert str(member.payments()[-1].payment_method_id) == own
    # To none of its own again, which is the default.
    answer = member.try_to(path, payment_method=None)
    assert (answer.json or {})["payment_method_id"] is None
    club.advance("2024-04-30")
    assert str(member.payments()[-1].payment_method_id) == other


def test_a_card_that_was_deleted_is_not_charged(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package())
    for method in member.get("/v1/me/payment-methods")["data"]:
        club.client.delete(method["links"]["self"], headers=member.auth)
    club.advance("2024-03-01")
    one = member.get(path)
    assert (one["status"], member.charged) == ("past_due", [5000])
    member.card("sandbox_ok")
    club.work.drain()
    assert (member.get(path)["status"], member.charged) == ("active", [5000, 5000])


def test_a_balance_that_has_come_meanwhile_is_used_by_the_next_try(club: Club) -> None:
    member, path = in_arrears(club)
    club.advance("2024-02-29T12:00")
    member.given(5000)
    club.advance("2024-03-01")
    assert (member.get(path)["status"], member.charged, member.balance) == ("active", [5000], 0)
