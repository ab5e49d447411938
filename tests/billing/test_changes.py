"""Changes of package over HTTP: the cases P of the design, from the preview to the gateway's books."""

from typing import Any

import pytest

from tests.billing.conftest import Club, at, shown, subscribed


def lines(preview: dict[str, Any]) -> list[int]:
    return [line["amount"] for line in preview["lines"]]


CASES = {
    "P1": ("2025-06-01", (10000, "month"), (30000, "month"), "2025-06-16", [-5000, 15000], "2025-07-01"),
    "P3": ("2024-02-18", (10000, "month"), (30000, "month"), "2024-02-25", [-7586, 22759], "2024-03-18"),
    "P5": ("2024-02-18", (100000, "year"), (300000, "year"), "2024-09-05", [-45355, 136066], "2025-02-18"),
    "P7": ("2025-06-01", (10000, "month"), (100000, "year"), "2025-06-16", [-5000, 100000], "2026-06-16"),
    "P11": ("2025-06-01", (500, "month"), (2000, "month"), "2025-06-02", [-483, 1933], "2025-07-01"),
    "P17": (
        "2012-05-01T10:30", (1995, "month"), (2995, "month"), "2012-05-01T11:30", [-1992, 2991], "2012-06-01T10:30"
    ),
    "P24 up": ("2025-06-01", (0, "month"), (10000, "month"), "2025-06-16", [5000], "2025-07-01"),
}  # fmt: skip


@pytest.mark.parametrize(("start", "old", "new", "moment", "amounts", "end"), CASES.values(), ids=CASES.keys())
def test_it_costs_what_was_shown_and_holds_once_it_is_paid(
    make_club: Any, start: str, old: Any, new: Any, moment: str, amounts: list[int], end: str
) -> None:
    club = make_club(start)
    member, path = subscribed(club, *old)
    paid = member.charged
    club.set(moment)
    gold = club.package(new[0], new[1], name="Gold")
    shows = member.preview(path, package_id=str(gold.id), when="now")
    assert (lines(shows), shows["due"], shows["balance_applied"]) == (amounts, sum(amounts), 0)
    assert shows["next_period"]["end"] == at(end).isoformat().replace("+00:00", "Z")
    answer = member.try_to(path, package_id=str(gold.id), when="now", prorated_at=shows["prorated_at"])
    pending = answer.json or {}
    assert (pending["pending_package_id"], pending["package_id"] != str(gold.id)) == (str(gold.id), True)
    club.work.drain()
    one = member.get(path)
    assert (one["package_id"], one["pending_package_id"], one["amount"]) == (str(gold.id), None, new[0])
    assert one["current_period_end"] == shown(end)
    assert member.charged == [*paid, sum(amounts)]
    invoice = member.invoices()[-1]
    assert [line["amount"] for line in invoice["lines"]] == amounts
    assert invoice["lines"][-1]["period"] == {"start": shown(moment), "end": shown(end)}


@pytest.mark.parametrize(
    ("old", "new", "moment", "balance"),
    [
        pytest.param((2000, "month"), (500, "month"), "2025-06-02", 1450, id="P12"),
        pytest.param((10000, "month"), (0, "month"), "2025-06-16", 5000, id="P24 down"),
        pytest.param((120000, "year"), (1000, "month"), "2025-07-31", 99274, id="P10"),
    ],
)
def test_what_is_left_of_the_dearer_goes_to_the_balance(
    make_club: Any, old: Any, new: Any, moment: str, balance: int
) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, *old)
    club.set(moment)
    package = club.package(*new)
    assert member.preview(path, package_id=str(package.id), when="now")["due"] == 0
    one = member.change(path, package_id=str(package.id), when="now")
    assert (one["package_id"], member.balance, len(member.charged)) == (str(package.id), balance, 1)
    assert member.invoices()[-1]["total"] == -balance


def test_P18_in_the_last_second_nothing_is_charged(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 1000)
    club.set("2025-06-30T23:59:59")
    one = member.change(path, package_id=str(club.package(3000).id))
    assert (one["amount"], member.charged, member.balance) == (3000, [1000], 0)


@pytest.mark.parametrize(("currency", "due"), [("JPY", 1286), ("KWD", 12857)], ids=["P21", "P22"])
def test_other_currencies(make_club: Any, currency: str, due: int) -> None:
    club = make_club("2025-02-01", currency=currency)
    unit = 1 if currency == "JPY" else 10
    member, path = subscribed(club, 1000 * unit)
    club.set("2025-02-11")
    member.change(path, package_id=str(club.package(3000 * unit).id))
    assert member.charged == [1000 * unit, due]


def test_P16_there_and_back_at_once_costs_the_days_that_were_used(make_club: Any) -> None:
    club = make_club("2012-05-01")
    member = club.member()
    year, month = club.package(239995, "year"), club.package(24995)
    path = member.subscribe(year)
    club.set("2012-05-11")
    member.change(path, package_id=str(month.id), when="now")
    assert member.balance == 208425
    one = member.change(path, package_id=str(year.id), when="now")
    assert (member.charged, member.balance) == ([239995, 6575], 0)
    assert (one["current_period_start"], one["current_period_end"]) == (shown("2012-05-11"), shown("2013-05-11"))


def test_P23_the_credit_is_of_what_was_paid(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member = club.member()
    old = club.package(5000)
    path = member.subscribe(old)
    url = f"{club.path}/packages/{old.id}"
    assert club.client.patch(url, json={"amount": 7000}, headers=club.owner_auth).status_code == 200
    assert club.client.delete(url, headers=club.owner_auth).status_code == 200
    club.set("2025-06-16")
    shows = member.preview(path, package_id=str(club.package(10000).id))
    assert lines(shows) == [-2500, 5000]


def test_P26_back_and_forth_costs_what_was_used(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member = club.member()
    cheap, dear = club.package(10000), club.package(30000)
    path = member.subscribe(cheap)
    balances = []
    for day, package in (("07", dear), ("13", cheap), ("19", dear), ("25", cheap)):
        club.set(f"2025-06-{day}")
        member.change(path, package_id=str(package.id), when="now")
        balances.append(member.balance)
    assert (member.charged, balances) == ([10000, 16000], [0, 12000, 4000, 8000])


@pytest.mark.parametrize("card", ["sandbox_declined", "sandbox_insufficient", "sandbox_timeout"])
def test_P27_a_change_that_is_declined_changes_nothing(make_club: Any, card: str) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 1000)
    before = member.get(path)
    member.card(card)
    club.set("2025-06-16")
    member.try_to(path, package_id=str(club.package(3000).id))
    club.work.drain()
    club.work.hurry()
    after = member.get(path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"version", "updated_at", "latest_payment_id", "links"}
    assert (member.balance, [invoice["status"] for invoice in member.invoices()]) == (0, ["paid", "void"])
    assert [payment.status for payment in member.payments()] == ["succeeded", "failed"]


@pytest.mark.parametrize(
    ("old", "new", "when"),
    [
        ((1000, "month", 1), (2000, "month", 1), "now"),
        ((2000, "month", 1), (1000, "month", 1), "period_end"),
        ((1000, "month", 1), (10000, "year", 1), "period_end"),
        ((1000, "month", 1), (12001, "year", 1), "now"),
        ((1000, "month", 1), (12000, "year", 1), "period_end"),
        ((12000, "year", 1), (3001, "month", 3), "now"),
        ((1000, "week", 1), (4333, "month", 1), "period_end"),
        ((1000, "week", 1), (4334, "month", 1), "now"),
        ((1000, "month", 1), (500, "once", 1), "now"),
    ],
)
def test_R7_what_is_dearer_by_the_month_holds_now(club: Club, old: Any, new: Any, when: str) -> None:
    member = club.member()
    path = member.subscribe(club.package(old[0], old[1], interval_count=old[2]))
    other = club.package(new[0], new[1], interval_count=new[2])
    one = member.change(path, package_id=str(other.id))
    assert (one["package_id"] == str(other.id), one["pending_package_id"]) == (
        (True, None) if when == "now" else (False, str(other.id))
    )


def test_P28_a_change_at_the_periods_end_costs_the_new_price_then(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 3000)
    cheap = club.package(1000)
    one = member.change(path, package_id=str(cheap.id))
    assert (one["pending_package_id"], one["amount"], one["next_charge_amount"]) == (str(cheap.id), 3000, 1000)
    club.advance("2025-07-01")
    one = member.get(path)
    assert (one["package_id"], one["pending_package_id"], member.charged) == (str(cheap.id), None, [3000, 1000])


def test_P29_a_later_change_takes_the_place_of_one_that_was_agreed_on(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 3000)
    first, second, dear = club.package(1000), club.package(2000), club.package(6000)
    member.change(path, package_id=str(first.id), when="period_end")
    assert member.change(path, package_id=str(second.id), when="period_end")["pending_package_id"] == str(second.id)
    one = member.change(path, package_id=str(dear.id), when="now")
    assert (one["package_id"], one["pending_package_id"]) == (str(dear.id), None)
    member.change(path, package_id=str(second.id), when="period_end")
    # Naming what one has is to keep it.
    assert member.change(path, package_id=str(dear.id))["pending_package_id"] is None
    club.advance("2025-07-01")
    assert member.charged[-1] == 6000


def test_P31_the_same_package_again_changes_nothing(club: Club) -> None:
    member = club.member()
    package = club.package(3000)
    path = member.subscribe(package)
    before, events = member.get(path), club.events()
    assert member.change(path, package_id=str(package.id)) == before
    assert (club.events(), lines(member.preview(path, package_id=str(package.id)))) == (events, [])


def test_P32_what_was_shown_holds_for_an_hour(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 10000)
    package = str(club.package(30000).id)
    club.set("2025-06-16")
    shows = member.preview(path, package_id=package)
    club.set("2025-06-16T01:01")
    answer = member.try_to(path, package_id=package, prorated_at=shows["prorated_at"])
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "preview_expired")
    answer = member.try_to(path, package_id=package, prorated_at="2025-06-16T02:00:00Z")
    assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, "#/prorated_at")
    club.set("2025-06-16T00:50")
    member.change(path, package_id=package, prorated_at=shows["prorated_at"])
    assert member.charged == [10000, shows["due"]]


@pytest.mark.parametrize("prorated_at", ["2025-06-16T00:00:00Z", "2025-06-15T23:59:59Z", "2025-06-15T23:30:01Z"])
def test_what_one_change_has_credited_no_other_credits_again(make_club: Any, prorated_at: str) -> None:
    """A change that is dated before the one before it would be credited the same unused time once more."""
    club = make_club("2025-06-01")
    member, path = subscribed(club, 30000)
    cheap, dear = (str(club.package(amount).id) for amount in (1000, 30000))
    club.set("2025-06-16T00:10")
    member.change(path, package_id=cheap, when="now")
    balance = member.balance
    assert balance > 0
    club.set("2025-06-16T00:20")
    answer = member.try_to(path, package_id=dear, when="now", prorated_at=prorated_at)
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "preview_expired")
    assert (member.balance, member.charged) == (balance, [30000])


def test_P32_a_price_that_was_changed_since_is_not_charged_unseen(make_club: Any) -> None:
    club = make_club(None)
    member, path = subscribed(club, 10000)
    package = club.package(30000)
    shows = member.preview(path, package_id=str(package.id))
    url = f"{club.path}/packages/{package.id}"
    assert club.client.patch(url, json={"amount": 90000}, headers=club.owner_auth).status_code == 200
    answer = member.try_to(path, package_id=str(package.id), prorated_at=shows["prorated_at"])
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "preview_expired")
    assert member.charged == [10000]


def test_R24_a_renewal_that_is_late_comes_before_a_change(make_club: Any) -> None:
    """Of a period that is over less than nothing is left, which nobody is given."""
    club = make_club(None)
    member = club.member()
    path = member.subscribe(club.package(7000, "week"))
    package = str(club.package(70000, "week").id)
    club.age(10)
    for query in ("", "?preview=true"):
        body = {"package_id": package, "when": "now"}
        answer = club.client.patch(f"{path}{query}", json=body, headers=member.auth)
        assert (answer.status_code, (answer.json or {})["code"]) == (409, "renewal_due")
    club.renew()
    member.change(path, package_id=package, when="now")
    assert member.charged[:2] == [7000, 7000]
    assert (len(member.charged), member.balance) == (3, 0)


def test_P33_a_preview_writes_nothing(club: Club) -> None:
    member, path = subscribed(club, 3000)
    tables = "subscriptions subscription_changes invoices invoice_lines payments credits events jobs ledger_entries"
    before = [club.make.rows(f"select * from {table} order by 1, 2, 3") for table in tables.split()]
    member.preview(path, package_id=str(club.package(6000).id))
    member.preview(path, package_id=str(club.package(1000).id))
    after = [club.make.rows(f"select * from {table} order by 1, 2, 3") for table in tables.split()]
    assert after == before


def test_a_change_whose_payer_has_to_act_is_off_when_they_do_not(club: Club) -> None:
    member, path = subscribed(club, 3000)
    before = member.get(path)
    member.card("sandbox_action")
    one = member.change(path, package_id=str(club.package(6000).id))
    assert one["pending_package_id"]
    assert member.try_to(path, package_id=str(club.package(9000).id)).status_code == 409
    club.advance("2024-01-31T23:00")
    one = member.get(path)
    assert (one["pending_package_id"], one["package_id"]) == (None, before["package_id"])
    assert [payment.status for payment in member.payments()] == ["succeeded", "failed"]


def test_a_change_whose_payer_acts_holds_from_then(club: Club) -> None:
    member, path = subscribed(club, 3000)
    member.card("sandbox_action")
    gold = club.package(6000)
    member.change(path, package_id=str(gold.id))
    payment = member.payments()[-1]
    member.post(f"{club.path}/payments/{payment.id}/confirmations", {"outcome": "succeed"})
    club.work.drain()
    assert member.get(path)["package_id"] == str(gold.id)


def test_the_renewal_comes_before_a_change_that_waits_to_be_paid(club: Club) -> None:
    """R24: and whoever pays for the change after that gets the money back."""
    member, path = subscribed(club, 3000)
    member.card("sandbox_action")
    club.set("2024-02-28T12:00")
    member.change(path, package_id=str(club.package(6000).id))
    waiting = member.payments()[-1]
    member.card("sandbox_ok")
    club.advance("2024-02-29")
    one = member.get(path)
    assert (one["amount"], one["pending_package_id"], one["current_period_end"]) == (3000, None, shown("2024-03-31"))
    assert member.charged == [3000, 3000]
    answer = member.post(f"{club.path}/payments/{waiting.id}/confirmations", {"outcome": "succeed"})
    assert answer.status_code == 409


def test_a_paused_member_comes_back_to_what_they_have_chosen_meanwhile(club: Club) -> None:
    member, path = subscribed(club, 3000)
    member.change(path, paused=True)
    club.advance("2024-03-10")
    gold = club.package(6000)
    assert member.change(path, package_id=str(gold.id))["package_id"] == str(gold.id)
    assert member.charged == [3000]
    member.change(path, paused=False)
    assert member.charged == [3000, 6000]


def test_from_a_period_to_what_is_bought_once(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member, path = subscribed(club, 10000)
    club.set("2025-06-16")
    one = member.change(path, package_id=str(club.package(50000, "once").id))
    assert (member.charged, one["current_period_end"], one["has_access"]) == ([10000, 45000], None, True)
    for body in ({"paused": True}, {"cancel_at_period_end": True}):
        assert member.try_to(path, **body).status_code == 409
    month = str(club.package(1000).id)
    assert member.try_to(path, package_id=month, when="period_end").status_code == 409
