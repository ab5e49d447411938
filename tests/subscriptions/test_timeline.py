"""What is due next, of each situation, and how a subscription goes from there if nobody does anything."""

from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from dues.subscriptions import machine
from dues.subscriptions.dunning import RETRIES, grace_end, next_retry
from dues.subscriptions.subscription import Subscription
from dues.subscriptions.terms import Terms
from dues.subscriptions.timeline import Action, next_action, next_charge, reminder_at
from tests.subscriptions import examples
from tests.subscriptions.examples import SITUATIONS, START, pending, terms
from tests.subscriptions.test_calendar import at

pytestmark = pytest.mark.unit

NEXT: dict[str, tuple[str, Action] | None] = {
    "incomplete": None,
    "trialing": ("2024-02-07", "remind"),
    "active": ("2024-02-29", "end_period"),
    "active, canceled": ("2024-02-29", "end_period"),
    "active, pausing": ("2024-02-29", "end_period"),
    "active, renewing": None,
    "active, changing": ("2024-02-29", "end_period"),
    "past_due": ("2024-03-01", "retry"),
    "paused": None,
    "paused, resuming": None,
    "canceled": None,
    "expired": None,
    "once": None,
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_due_next(situation: str) -> None:
    wanted = NEXT[situation]
    assert next_action(SITUATIONS[situation]) == (wanted and (at(wanted[0]), wanted[1]))


@pytest.mark.parametrize(
    ("situation", "wanted"),
    [
        ("trialing", ("2024-02-10", 5000)),
        ("active", ("2024-02-29", 5000)),
        ("active, canceled", None),
        ("active, pausing", None),
        ("past_due", ("2024-03-01", 5000)),
        ("paused", None),
        ("canceled", None),
        ("once", None),
    ],
)
def test_what_is_charged_next(situation: str, wanted: tuple[str, int] | None) -> None:
    assert next_charge(SITUATIONS[situation]) == (wanted and (at(wanted[0]), wanted[1]))


def test_what_is_agreed_on_for_the_periods_end_is_charged_then() -> None:
    assert next_charge(machine.to_change(examples.active(), pending())) == (at("2024-02-29"), 9000)
    away = machine.to_be_paused(examples.active(), at("2024-05-01"))
    assert next_charge(away) == next_charge(machine.end_period(away)) == (at("2024-05-01"), 5000)


def test_C9_a_pause_ends_when_it_was_said() -> None:
    one = machine.end_period(machine.to_be_paused(examples.active(), at("2024-07-10T09:00")))
    assert next_action(one) == (at("2024-07-10T09:00"), "resume")


def test_what_is_to_start_later_begins_then() -> None:
    one = replace(examples.new(), anchor_at=at("2024-03-01"))
    assert next_action(one) == (at("2024-03-01"), "begin")
    assert next_charge(one) == (at("2024-03-01"), 5000)


@pytest.mark.parametrize("event", ["waiting", "declined"])
def test_N11_a_first_charge_that_is_not_finished_lapses_after_23_hours(event: str) -> None:
    one = SITUATIONS["incomplete"]
    one = machine.waiting(one) if event == "waiting" else machine.declined(one, "card_declined", START, 7)
    assert next_action(one) == (START + timedelta(hours=23), "lapse")


@pytest.mark.parametrize("situation", ["active, changing", "paused, resuming"])
def test_a_payer_who_never_acts_is_waited_for_23_hours(situation: str) -> None:
    one = machine.waiting(SITUATIONS[situation])
    assert one.bill
    assert next_action(one) == (one.bill.due_at + timedelta(hours=23), "lapse")


def left_alone(one: Subscription, until: datetime, code: str = "card_declined") -> list[tuple[str, Action]]:
    """What is done of a subscription in arrears whose every further try is declined with `code`."""
    done: list[tuple[str, Action]] = []
    while (found := next_action(one)) and found[0] <= until:
        moment, action = found
        done.append((moment.strftime("%m-%dT%H:%M").removesuffix("T00:00"), action))
        match action:
            case "retry":
                tried = machine.tried_again(one, moment, 5000, manually=False)
                one = machine.declined(tried, code, moment, 7)
            case "end_access":
                one = machine.without_access(one)
            case "give_up":
                one = machine.given_up(one)
    return done


@pytest.mark.parametrize(
    ("code", "grace_days", "expected"),
    [
        pytest.param(
            "card_declined",
            7,
            "03-01 retry 03-03 retry 03-05 retry 03-07 retry 03-07 end_access 03-07 give_up",
            id="N1",
        ),
        pytest.param("stolen_card", 7, "03-07 end_access 03-07 give_up", id="N3"),
        pytest.param(
            "insufficient_funds",
            2,
            "03-01 retry 03-02 end_access 03-03 retry 03-05 retry 03-07 retry 03-07 give_up",
            id="N12 short grace",
        ),
        pytest.param("lost_card", 14, "03-07 give_up 03-14 end_access", id="long grace"),
        pytest.param("pickup_card", 0, "03-07 give_up", id="no grace"),
    ],
)
def test_dunning(code: str, grace_days: int, expected: str) -> None:
    one = examples.in_arrears(code, grace_days)
    words = expected.split()
    assert left_alone(one, at("2024-12-31"), code) == list(zip(words[::2], words[1::2], strict=True))


def test_N8_retries_are_counted_from_when_the_charge_was_due() -> None:
    one = examples.renewing()
    for heard, retry in (("2024-02-29T10:00", "2024-03-01"), ("2024-03-01T06:00", "2024-03-03")):
        late = machine.declined(one, "gateway_timeout", at(heard), 7)
        assert next_action(late) == (at(retry), "retry")


def test_a_card_that_dies_during_dunning_is_not_tried_again() -> None:
    due = at("2024-02-29")
    assert next_retry(due, due, "card_declined") == at("2024-03-01")
    assert next_retry(due, at("2024-03-01"), "stolen_card") is None
    assert next_retry(due, due + RETRIES[-1], "card_declined") is None
    assert grace_end(due, 7) == at("2024-03-07")


@pytest.mark.parametrize(
    ("days", "before"), [(30, 3), (3, 3), (2, 1), (1, 1)], ids=["long", "three days", "two days", "one day"]
)
def test_T10_a_reminder_comes_before_a_trial_ends(days: int, before: int) -> None:
    one = examples.trialing(days)
    assert one.trial_end
    assert reminder_at(one) == one.trial_end - timedelta(days=before)
    assert next_action(one) == (one.trial_end - timedelta(days=before), "remind")
    assert next_action(machine.reminded(one)) == (one.trial_end, "end_period")


def test_T10_nobody_is_reminded_of_what_they_need_not_know() -> None:
    assert reminder_at(examples.trialing(10, terms(0))) is None
    assert reminder_at(machine.canceled_at_end(examples.trialing(10), START, None, None)) is None
    hours = replace(examples.trialing(1), trial_start=START + timedelta(hours=2))
    assert reminder_at(hours) is None
    assert reminder_at(examples.active()) is None


@pytest.mark.parametrize("kind", [terms(50000, "year"), terms(50000, "month", 12), terms(50000, "year", 2)])
def test_a_yearly_renewal_is_told_of_30_days_before(kind: Terms) -> None:
    one = examples.active(kind)
    assert one.current_period_end
    assert next_action(one) == (one.current_period_end - timedelta(days=30), "remind")
    told = machine.reminded(one)
    assert next_action(told) == (one.current_period_end, "end_period")
    turned = machine.end_period(told)
    assert turned.current_period_end
    assert next_action(turned) == (turned.current_period_end - timedelta(days=30), "remind")
