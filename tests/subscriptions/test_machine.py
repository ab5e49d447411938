"""How a subscription may change: every event in every situation, and where it leads."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from dues.errors import InvalidTransition
from dues.subscriptions import machine
from dues.subscriptions.subscription import Subscription
from tests.subscriptions import examples
from tests.subscriptions.examples import SILVER, SITUATIONS, START, bill, pending, terms
from tests.subscriptions.test_calendar import at

pytestmark = pytest.mark.unit

NOW = at("2024-02-10")

EVENTS: dict[str, Callable[[Subscription], Subscription]] = {
    "trial": machine.begin_trial,
    "turn": machine.end_period,
    "pay": lambda one: machine.paid(one, NOW),
    "decline": lambda one: machine.declined(one, "card_declined", NOW, 7),
    "retry": lambda one: machine.tried_again(one, NOW, 5000, manually=True),
    "change": lambda one: machine.to_change(one, pending()),
    "cancel": lambda one: machine.canceled_at_end(one, NOW, None, None),
    "uncancel": machine.uncanceled,
    "end": lambda one: machine.over(one, NOW),
    "pause": lambda one: machine.to_be_paused(one, None),
    "unpause": machine.not_to_be_paused,
    "wait": lambda one: machine.to_resume_at(one, NOW),
}
# What each event makes of each situation; `-` is a refusal.
TABLE = """
-                trial    turn     pay    decline    retry    change   cancel   uncancel end      pause  unpause wait
incomplete       trialing -        active incomplete -        -        expired  -        expired  -      -       -
trialing         -        active   -      -          -        trialing trialing -        canceled -      -       -
active           -        active   -      -          -        active   active   -        canceled active -       -
active,_canceled -        canceled -      -          -        -        active   active   canceled -      -       -
active,_pausing  -        paused   -      -          -        active   active   -        canceled active active  -
active,_renewing -        active   active past_due   -        -        active   -        canceled active -       -
active,_changing -        active   active active     -        -        active   -        canceled active -       -
past_due         -        -        active past_due   past_due -        canceled -        canceled -      -       -
paused           -        -        -      -          -        paused   canceled -        canceled -      -       paused
paused,_resuming -        -        active past_due   -        -        canceled -        canceled -      -       -
canceled         -        -        -      -          -        -        -        -        -        -      -       -
expired          -        -        -      -          -        -        -        -        -        -      -       -
once             -        -        -      -          -        active   -        -        canceled -      -       -
"""


def cells() -> list[tuple[str, str, str]]:
    (_, *names), *rows = (line.split() for line in TABLE.strip().splitlines())
    return [
        (event, situation if situation == "past_due" else situation.replace("_", " "), status)
        for situation, *statuses in rows
        for event, status in zip(names, statuses, strict=True)
    ]


def test_the_table_has_all_situations() -> None:
    assert {situation for _, situation, _ in cells()} == set(SITUATIONS)


@pytest.mark.parametrize(("event", "situation", "status"), cells())
def test_where_each_event_leads(event: str, situation: str, status: str) -> None:
    one = SITUATIONS[situation]
    if status == "-":
        with pytest.raises(InvalidTransition):
            EVENTS[event](one)
    else:
        assert EVENTS[event](one).status == status


@pytest.mark.parametrize("situation", SITUATIONS)
def test_only_in_arrears_is_access_lost(situation: str) -> None:
    if situation == "past_due":
        assert machine.without_access(SITUATIONS[situation]).has_access is False
    else:
        with pytest.raises(InvalidTransition):
            machine.without_access(SITUATIONS[situation])


@pytest.mark.parametrize(
    ("situation", "has_access"),
    [(name, name.startswith(("trialing", "active", "past_due", "once"))) for name in SITUATIONS],
)
def test_who_has_access(situation: str, has_access: bool) -> None:
    assert SITUATIONS[situation].has_access is has_access


def test_two_bills_are_never_open() -> None:
    for one in SITUATIONS.values():
        if one.bill is not None:
            with pytest.raises(InvalidTransition, match="open already"):
                machine.owing(one, bill("renewal"))


def test_D14_T2_a_trials_end_is_the_new_anchor() -> None:
    one = machine.end_period(examples.trialing(7, start=at("2024-04-28T12:00")))
    assert (one.status, one.anchor_at) == ("active", at("2024-05-05T12:00"))
    assert (one.current_period_start, one.current_period_end) == (at("2024-05-05T12:00"), at("2024-06-05T12:00"))


def test_T3_a_trial_set_to_cancel_ends_with_it() -> None:
    one = machine.end_period(machine.canceled_at_end(examples.trialing(10), NOW, "too dear", None))
    assert (one.status, one.ended_at, one.has_access) == ("canceled", at("2024-02-10"), False)
    assert one.cancel_reason == "too dear"


@pytest.mark.parametrize(
    ("trial", "days", "end"),
    [
        pytest.param(7, 14, "2024-02-14", id="T5"),
        pytest.param(30, 7, "2024-02-07", id="T6"),
        pytest.param(10, 10, "2024-02-10", id="T8"),
    ],
)
def test_another_package_has_its_own_trial(trial: int, days: int, end: str) -> None:
    one = machine.with_trial_of(examples.trialing(trial), terms(9000, package=SILVER), days)
    assert (one.status, one.trial_end, one.current_period_end, one.access_until) == ("trialing", *[at(end)] * 3)
    assert (one.package_id, one.amount) == (SILVER, 9000)


def test_periods_are_counted_from_the_anchor() -> None:
    one, ends = examples.active(), []
    for _ in range(4):
        ends.append(one.current_period_end)
        one = machine.end_period(one)
    assert ends == [at(day) for day in ("2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31")]


def test_P28_what_is_agreed_on_holds_from_the_periods_end() -> None:
    one = machine.to_change(examples.active(), pending())
    assert (one.package_id, one.amount) == (examples.GOLD, 5000)
    turned = machine.end_period(one)
    assert (turned.package_id, turned.amount, turned.pending) == (SILVER, 9000, None)
    assert (turned.anchor_at, turned.current_period_end) == (START, at("2024-03-31"))


def test_another_interval_from_the_periods_end_on_has_an_anchor_of_its_own() -> None:
    one = machine.end_period(machine.to_change(examples.active(), pending(kind=terms(90000, "year"))))
    assert (one.anchor_at, one.current_period_end) == (at("2024-02-29"), at("2025-02-28"))


def test_P29_a_further_change_replaces_the_one_agreed_on() -> None:
    one = machine.to_change(machine.to_change(examples.active(), pending()), pending(kind=terms(7000)))
    assert one.pending
    assert one.pending.amount == 7000


def test_a_change_that_is_paid_holds_and_one_that_is_declined_never_was() -> None:
    one = SITUATIONS["active, changing"]
    changed = machine.paid(one, NOW)
    assert (changed.package_id, changed.pending, changed.bill) == (SILVER, None, None)
    assert changed.current_period_end == one.current_period_end
    as_before = machine.declined(one, "card_declined", NOW, 7)
    assert as_before == examples.active()


def test_P7_a_change_of_interval_that_is_paid_restarts_the_period() -> None:
    moment = at("2024-02-10")
    one = machine.to_change(examples.active(), pending("payment", terms(90000, "year"), at=moment, restarts=True))
    changed = machine.paid(machine.owing(one, bill("change", moment)), NOW)
    assert (changed.anchor_at, changed.current_period_end) == (moment, at("2025-02-10"))


def test_at_the_periods_end_the_renewal_comes_before_a_change_that_is_not_paid() -> None:
    turned = machine.end_period(SITUATIONS["active, changing"])
    assert (turned.package_id, turned.pending, turned.bill) == (examples.GOLD, None, None)


def test_C12_canceling_clears_a_pause_and_a_change_for_the_periods_end() -> None:
    one = machine.to_be_paused(machine.to_change(examples.active(), pending()), at("2024-05-01"))
    canceled = machine.canceled_at_end(one, NOW, None, "moving")
    assert (canceled.pause_at, canceled.resumes_at, canceled.pending) == (None, None, None)
    assert (canceled.cancel_at_period_end, canceled.cancel_comment) == (True, "moving")


def test_C8_who_resumes_begins_anew() -> None:
    moment = at("2024-07-10T09:00")
    one = machine.paid(SITUATIONS["paused, resuming"], moment + timedelta(hours=1))
    assert (one.status, one.anchor_at) == ("active", moment)
    assert (one.current_period_start, one.current_period_end) == (moment, at("2024-08-10T09:00"))


def test_C10_who_cannot_pay_to_resume_has_no_access_and_a_whole_period_once_they_can() -> None:
    one = machine.declined(SITUATIONS["paused, resuming"], "card_declined", NOW, 7)
    assert (one.status, one.has_access, one.access_until) == ("past_due", False, None)
    later = at("2024-07-13T09:00")
    back = machine.paid(machine.tried_again(one, later, 5000, manually=False), later)
    assert (back.status, back.anchor_at, back.has_access) == ("active", later, True)


@pytest.mark.parametrize(
    ("grace_days", "tried", "start", "end"),
    [
        pytest.param(7, "2024-03-03", "2024-02-29", "2024-03-31", id="N2"),
        pytest.param(7, "2024-03-07", "2024-02-29", "2024-03-31", id="to the last day of grace"),
        pytest.param(2, "2024-03-03", "2024-03-03", "2024-04-03", id="R19"),
        pytest.param(0, "2024-03-01", "2024-03-01", "2024-04-01", id="no grace"),
    ],
)
def test_paid_within_grace_the_period_is_as_planned(grace_days: int, tried: str, start: str, end: str) -> None:
    one = examples.in_arrears(grace_days=grace_days)
    again = machine.paid(machine.tried_again(one, at(tried), 5000, manually=False), at("2024-03-09"))
    assert (again.status, again.current_period_start, again.current_period_end) == ("active", at(start), at(end))
    assert (again.has_access, again.access_until) == (True, at(end))


@pytest.mark.parametrize(
    ("grace_days", "heard", "has_access"),
    [(7, "2024-02-29", True), (7, "2024-03-07", False), (0, "2024-02-29", False), (21, "2024-03-20", True)],
)
def test_N12_access_lasts_for_the_days_of_grace(grace_days: int, heard: str, has_access: bool) -> None:
    one = examples.renewing()
    late = machine.declined(one, "card_declined", at(heard), grace_days)
    assert (late.has_access, late.access_until) == (has_access, at("2024-02-29") + timedelta(days=grace_days))


def test_a_payer_who_had_to_act_has_paid_when_they_did() -> None:
    one = machine.waiting(SITUATIONS["incomplete"])
    acted = machine.paid(one, START + timedelta(hours=5))
    assert acted.anchor_at == START + timedelta(hours=5)


def test_what_is_bought_once_has_no_end() -> None:
    one = SITUATIONS["once"]
    assert (one.status, one.current_period_start, one.current_period_end, one.access_until) == (
        "active",
        START,
        None,
        None,
    )


def test_a_failure_keeps_what_was_owed() -> None:
    one = examples.in_arrears()
    assert one.bill
    again = machine.tried_again(one, at("2024-03-01"), 4000, manually=True)
    assert again.bill == replace(one.bill, state="trying", tried_at=at("2024-03-01"), amount=4000, manual_tries=1)
    assert again.bill.invoice_id == UUID(int=9)
