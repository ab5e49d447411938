"""Canceling, pausing, resuming and ending: the cases C of the design."""

from typing import Any

import pytest

from tests.billing.conftest import Club, Member, shown
from tests.servers import Mailbox


def subscribed(club: Club, amount: int = 5000, card: str = "sandbox_ok") -> tuple[Member, str]:
    member = club.member(card)
    return member, member.subscribe(club.package(amount, name="Gold"))


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, (answer.json or {}).get("code", "")


def subjects(mailbox: Mailbox) -> list[str]:
    """Of the mails that are not receipts."""
    found = [str(mail["Subject"]) for mail in mailbox.mails()]
    return [subject for subject in found if not subject.startswith("Your payment to Club:")]


def test_C1_canceled_at_the_end_it_lasts_until_then(club: Club, mailbox: Mailbox) -> None:
    member, path = subscribed(club)
    one = member.change(path, cancel_at_period_end=True, reason="Moving away", comment="It was nice.\nThanks!")
    assert (one["status"], one["has_access"], one["next_charge_at"]) == ("active", True, None)
    assert (one["cancel_reason"], one["cancel_comment"]) == ("Moving away", "It was nice.\nThanks!")
    club.advance("2024-02-28T23:59:59")
    assert member.get(path)["has_access"] is True
    club.advance("2024-02-29")
    one = member.get(path)
    assert (one["status"], one["ended_at"], one["has_access"]) == ("canceled", shown("2024-02-29"), False)
    club.advance("2024-12-31")
    assert member.charged == [5000]
    assert subjects(mailbox) == ["Your membership at Club is canceled", "Your membership at Club has ended"]
    assert [event for event in club.events() if event.startswith("subscription")] == [
        "subscription.created",
        "subscription.activated",
        "subscription.canceled",
        "subscription.ended",
    ]


def test_C2_it_can_be_taken_back_before_the_end(club: Club) -> None:
    member, path = subscribed(club)
    assert code(member.try_to(path, cancel_at_period_end=False)) == (409, "invalid_transition")
    member.change(path, cancel_at_period_end=True)
    one = member.change(path, cancel_at_period_end=False)
    assert (one["cancel_at_period_end"], one["next_charge_at"]) == (False, shown("2024-02-29"))
    club.advance("2024-02-29")
    assert member.charged == [5000, 5000]
    member.change(path, cancel_at_period_end=True)
    club.advance("2024-03-31")
    assert code(member.try_to(path, cancel_at_period_end=False)) == (409, "invalid_transition")


@pytest.mark.parametrize("how", ["cancel", "end"])
def test_C3_R20_who_owes_and_cancels_is_out_at_once(club: Club, how: str) -> None:
    member, path = subscribed(club)
    member.card("sandbox_declined")
    club.advance("2024-03-02")
    tried = len(member.payments())
    if how == "cancel":
        member.change(path, cancel_at_period_end=True)
    else:
        assert member.end(path).status_code == 200
    one = member.get(path)
    assert (one["status"], one["ended_at"], one["has_access"]) == ("canceled", shown("2024-03-02"), False)
    assert [invoice["status"] for invoice in member.invoices()] == ["paid", "void"]
    member.card("sandbox_ok")
    club.advance("2024-12-31")
    assert (len(member.payments()), member.charged) == (tried, [5000])


def test_C4_ended_at_once_no_money_moves(club: Club) -> None:
    member, path = subscribed(club)
    club.set("2024-02-15")
    answer = member.end(path)
    one = answer.json or {}
    assert (one["status"], one["ended_at"], one["has_access"]) == ("canceled", shown("2024-02-15"), False)
    assert (member.charged, member.balance, [p.status for p in member.payments()]) == ([5000], 0, ["succeeded"])
    assert code(member.end(path)) == (409, "invalid_transition")


def test_R10_what_was_not_used_is_refunded_where_a_manager_says_so(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 10000)
    club.set("2025-06-16")
    assert member.end(path, refund="unused").status_code == 403
    answer = club.client.delete(path, json={"refund": "unused"}, headers=club.owner_auth)
    assert answer.status_code == 200
    club.work.drain()
    (payment,) = member.payments()
    assert (payment.status, payment.refunded_amount) == ("partially_refunded", 5000)
    (invoice,) = member.invoices()
    notes = member.get(invoice["links"]["credit_notes"])["data"]
    assert [(note["number"], note["total"], note["status"]) for note in notes] == [("CN-000001", 5000, "issued")]


def test_R10_what_was_paid_from_the_balance_goes_back_there(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member = club.member()
    member.given(9000)
    path = member.subscribe(club.package(10000))
    assert member.charged == [1000]
    club.set("2025-06-16")
    club.client.delete(path, json={"refund": "unused"}, headers=club.owner_auth)
    club.work.drain()
    assert (member.balance, member.payments()[-1].refunded_amount) == (4000, 1000)


def test_R10_after_a_change_the_newest_payment_is_given_back_first(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 10000)
    club.set("2025-06-16")
    member.change(path, package_id=str(club.package(30000).id))
    club.set("2025-06-17")
    club.client.delete(path, json={"refund": "unused"}, headers=club.owner_auth)
    club.work.drain()
    # 150.00 were charged for 15 days, of which one was used; 100.00 of it came by card then, the rest by the first.
    assert [payment.refunded_amount for payment in member.payments()] == [4000, 10000]


def test_C6_a_pause_begins_with_the_end_of_what_is_paid(club: Club, mailbox: Mailbox) -> None:
    member, path = subscribed(club)
    one = member.change(path, paused=True)
    assert (one["status"], one["has_access"], one["pause_at"]) == ("active", True, shown("2024-02-29"))
    club.advance("2024-06-01")
    one = member.get(path)
    assert (one["status"], one["has_access"], one["pause_at"]) == ("paused", False, None)
    assert (member.charged, len(member.invoices())) == ([5000], 1)
    assert subjects(mailbox) == ["Your membership at Club will be paused", "Your membership at Club is paused"]


def test_C7_who_owes_or_leaves_cannot_pause(club: Club) -> None:
    member, path = subscribed(club)
    answer = member.try_to(path, paused=True, resumes_at="2024-02-28T00:00:00Z")
    assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, "#/resumes_at")
    member.change(path, cancel_at_period_end=True)
    assert code(member.try_to(path, paused=True)) == (409, "invalid_transition")
    late, other = subscribed(club)
    late.card("sandbox_declined")
    club.advance("2024-03-01")
    assert code(late.try_to(other, paused=True)) == (409, "invalid_transition")


def test_C8_who_resumes_pays_and_begins_anew(make_club: Any) -> None:
    club = make_club("2024-05-01")
    member, path = subscribed(club)
    member.change(path, paused=True)
    club.advance("2024-07-10T09:00")
    one = member.change(path, paused=False)
    assert (one["status"], member.charged) == ("active", [5000, 5000])
    assert one["current_period_start"] == one["anchor_at"] == shown("2024-07-10T09:00")
    assert one["current_period_end"] == shown("2024-08-10T09:00")


def test_C9_it_resumes_by_itself_at_the_time_that_was_said(make_club: Any) -> None:
    club = make_club("2024-05-01")
    member, path = subscribed(club)
    one = member.change(path, paused=True, resumes_at="2024-07-10T09:00:00Z")
    assert one["next_charge_at"] == shown("2024-07-10T09:00")
    club.advance("2024-07-10T10:05")
    one = member.get(path)
    assert (one["current_period_start"], member.charged) == (shown("2024-07-10T09:00"), [5000, 5000])


def test_C10_who_cannot_pay_to_resume_is_in_arrears_without_access(club: Club) -> None:
    member, path = subscribed(club)
    member.change(path, paused=True)
    club.advance("2024-07-10")
    member.card("sandbox_declined")
    one = member.change(path, paused=False)
    assert (one["status"], one["has_access"], one["next_charge_at"]) == ("past_due", False, shown("2024-07-11"))
    club.advance("2024-07-12")
    member.card("sandbox_ok")
    club.work.drain()
    one = member.get(path)
    assert (one["status"], one["anchor_at"], one["has_access"]) == ("active", shown("2024-07-12"), True)


def test_a_payer_who_does_not_act_to_resume_is_in_arrears(club: Club) -> None:
    member, path = subscribed(club)
    member.change(path, paused=True)
    club.advance("2024-07-10")
    member.card("sandbox_action")
    assert member.change(path, paused=False)["status"] == "paused"
    assert code(member.try_to(path, paused=False)) == (409, "payment_in_flight")
    club.advance("2024-07-10T23:00")
    assert member.get(path)["status"] == "past_due"


def test_C11_a_pause_that_was_to_come_can_be_taken_back(club: Club) -> None:
    member, path = subscribed(club)
    assert code(member.try_to(path, paused=False)) == (409, "invalid_transition")
    member.change(path, paused=True, resumes_at="2024-05-01T00:00:00Z")
    one = member.change(path, paused=False)
    assert (one["status"], one["pause_at"], one["resumes_at"]) == ("active", None, None)
    club.advance("2024-02-29")
    assert member.charged == [5000, 5000]
    assert code(member.try_to(path, paused=False)) == (409, "invalid_transition")


def test_when_a_pause_ends_can_be_said_anew(club: Club) -> None:
    member, path = subscribed(club)
    member.change(path, paused=True)
    club.advance("2024-03-10")
    assert member.try_to(path, paused=True, resumes_at="2024-03-10T00:00:00Z").status_code == 422
    assert member.change(path, paused=True, resumes_at="2024-04-01T00:00:00Z")["resumes_at"] == shown("2024-04-01")
    club.advance("2024-04-01")
    assert member.get(path)["status"] == "active"


def test_C12_canceling_clears_a_pause(club: Club) -> None:
    member, path = subscribed(club)
    member.change(path, paused=True, resumes_at="2024-05-01T00:00:00Z")
    one = member.change(path, cancel_at_period_end=True)
    assert (one["pause_at"], one["resumes_at"], one["cancel_at_period_end"]) == (None, None, True)
    club.advance("2024-02-29")
    assert member.get(path)["status"] == "canceled"


def test_a_paused_one_that_is_canceled_is_over_at_once(club: Club) -> None:
    member, path = subscribed(club)
    member.change(path, paused=True)
    club.advance("2024-03-10")
    assert member.change(path, cancel_at_period_end=True)["status"] == "canceled"
    assert member.subscribe(club.package())


def test_one_at_a_time(club: Club) -> None:
    member, path = subscribed(club)
    answer = member.ask(club.package())
    assert (code(answer), (answer.json or {})["links"]) == ((409, "already_subscribed"), {"subscription": path})
    member.end(path)
    assert member.ask(club.package()).status_code == 202


def test_of_two_asked_for_at_once_one_is_had_and_nothing_paid_twice(club: Club) -> None:
    member = club.member()
    package = club.package()
    assert member.ask(package).status_code == 202
    assert code(member.ask(package)) == (409, "already_subscribed")
    club.work.drain()
    assert member.charged == [5000]


def test_it_may_begin_later(club: Club) -> None:
    member = club.member()
    answer = member.ask(club.package(), start_at="2024-03-01T00:00:00Z")
    path = (answer.json or {})["links"]["self"]
    one = member.get(path)
    assert (answer.status_code, one["status"], one["next_charge_at"]) == (201, "incomplete", shown("2024-03-01"))
    assert code(member.ask(club.package())) == (409, "already_subscribed")
    club.advance("2024-02-29")
    assert member.charged == []
    club.advance("2024-03-01")
    one = member.get(path)
    assert (one["status"], one["current_period_end"], member.charged) == ("active", shown("2024-04-01"), [5000])


@pytest.mark.parametrize("start_at", ["2024-01-31T00:00:00Z", "2024-01-01T00:00:00Z", "2025-03-01T00:00:00Z"])
def test_later_is_ahead_and_within_a_year(club: Club, start_at: str) -> None:
    answer = club.member().ask(club.package(), start_at=start_at)
    assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, "#/start_at")


def test_what_is_wrong_with_subscribing_is_said(club: Club, make_club: Any) -> None:
    member, package = club.member(None), club.package()
    answer = member.ask(package)
    assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, "#/payment_method")
    answer = member.ask(make_club().package(), payment_method="sandbox_ok")
    assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, "#/package_id")
    answer = member.ask(package, payment_method="sandbox_ok", amount=4000, currency="EUR")
    assert code(answer) == (409, "price_changed")
    answer = member.ask(package, payment_method="sandbox_ok", amount=5000)
    assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, "#/currency")
    assert member.ask(package, payment_method="sandbox_ok", amount=5000, currency="EUR").status_code == 202
    club.work.drain()


def test_only_the_member_says_what_is_charged(club: Club) -> None:
    member, path = subscribed(club)
    card = member.card("sandbox_ok", is_default=False)
    answer = club.client.patch(path, json={"payment_method": card}, headers=club.owner_auth)
    assert answer.status_code == 403
    answer = club.client.patch(path, json={"cancel_at_period_end": True}, headers=club.owner_auth)
    assert answer.status_code == 200
    changes = club.make.rows("select kind, actor_id from subscription_changes order by id")
    assert (changes[-1].kind, changes[-1].actor_id) == ("cancel_scheduled", club.owner.id)
    assert changes[0].actor_id == member.user.id


def test_a_yearly_renewal_is_told_of_a_month_before(club: Club, mailbox: Mailbox) -> None:
    member = club.member()
    member.subscribe(club.package(50000, "year", name="Gold"))
    club.advance("2024-12-31T23:59:59")
    assert subjects(mailbox) == []
    club.advance("2025-01-01")
    club.advance("2025-01-31")
    assert subjects(mailbox) == ["Gold renews on 31 January 2025"]
