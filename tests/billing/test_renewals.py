"""Renewals in real time: found, done once, whoever dies and whoever else is at it; and what races with them."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from dues import failpoints
from dues.billing import due, renewals
from dues.billing.renewals import offer
from dues.failpoints import Armed
from dues.mail.smtp import disconnect
from dues.postgres import db
from tests.billing.conftest import Club, Member
from workers.job import perform, use_app


@pytest.fixture
def real(make_club: Any) -> Club:
    """A club in real time."""
    found: Club = make_club(None)
    return found


# By the week: months are of different lengths, and what `age()` moves would not fall on its periods any more.
def members(club: Club, count: int, amount: int = 5000) -> list[tuple[Member, str]]:
    package = club.package(amount, "week")
    return [(member, member.subscribe(package)) for member in (club.member() for _ in range(count))]


def test_D11_a_late_renewal_begins_where_the_last_period_ended(real: Club) -> None:
    ((member, path),) = members(real, 1)
    real.age(8)
    before = real.row(path)
    real.renew()
    after = real.row(path)
    assert after.current_period_start == before.current_period_end
    assert after.period_number == before.period_number + 1
    assert (after.status, member.charged) == ("active", [5000, 5000])


def test_nothing_is_done_before_its_time(real: Club) -> None:
    ((member, _),) = members(real, 1)
    real.renew()
    with real.app.app_context():
        assert offer() == 0
    assert member.charged == [5000]


def test_a_long_night_is_caught_up_with_period_by_period(real: Club) -> None:
    ((member, _path),) = members(real, 1)
    real.age(22)
    for _ in range(4):
        real.renew()
    assert member.charged == [5000] * 4
    starts = real.make.rows("select starts_at, ends_at from subscription_periods order by starts_at")
    assert [row.starts_at for row in starts[1:]] == [row.ends_at for row in starts[:-1]]


def test_stores_with_a_clock_of_their_own_are_left_alone(real: Club, make_club: Any) -> None:
    ((member, _path),) = members(real, 1)
    tried = make_club("2020-01-31")
    other = tried.member()
    other.subscribe(tried.package())
    real.age(8)
    real.renew()
    assert (member.charged, other.charged) == ([5000, 5000], [5000])


LINES = [
    "renewal.after_claim",
    "renewal.before_commit",
    "renewal.after_commit",
    "payment.before_charge",
    "payment.after_charge",
    "payment.before_commit",
    "payment.after_commit",
]


@pytest.mark.parametrize("line", LINES)
def test_X7_whatever_line_fails_everybody_is_charged_once(
    real: Club, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = members(real, 3)
    real.age(8)
    monkeypatch.setattr(failpoints, "_armed", {line: Armed("raise", str(tmp_path / "once"))})
    real.renew()
    assert (tmp_path / "once").exists()
    real.renew()
    real.work.hurry()
    for member, path in everybody:
        assert member.charged == [5000, 5000]
        assert real.row(path).status == "active"
    assert real.make.value("select count(*) from subscription_periods") == 6


def test_one_that_cannot_be_done_does_not_keep_the_others_waiting(real: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    (bad, bad_path), *others = members(real, 4)
    real.age(8)

    def failing(posting: Any, one: Any, account: Any) -> None:
        if str(one.id) == bad_path.rpartition("/")[2]:
            raise ZeroDivisionError
        due.act(posting, one, account)

    with monkeypatch.context() as patch:
        patch.setattr(renewals, "act", failing)
        real.renew()
    assert [member.charged for member, _ in others] == [[5000, 5000]] * 3
    row = real.row(bad_path)
    assert row.next_action_at - row.updated_at > timedelta(minutes=59)
    real.make.rows("update subscriptions set next_action_at = now() where id = %(id)s", {"id": row.id})
    real.renew()
    assert bad.charged == [5000, 5000]


def test_nobody_who_waits_stands_behind_a_night_of_renewals(real: Club) -> None:
    """What is due, its charges and its mails are on a queue of their own, which workers of their own serve."""
    ((member, _), (declined, _)) = members(real, 2)
    declined.card("sandbox_stolen")
    real.age(8)
    before = {row.id for row in real.make.rows("select id from jobs")}
    real.renew()
    body = {"amount": 900, "currency": real.store.currency, "payment_method": "sandbox_ok"}
    assert member.post(f"{real.path}/payments", body).status_code == 202
    real.work.drain()
    found = real.make.rows("""
        select j.kind, j.queue, p.amount, j.args ->> 'kind' as notice, j.id
        from jobs j left join payments p on p.id::text = j.args ->> 'payment_id'
        where j.queue not in ('events', 'slow')
    """)
    assert {(row.kind, row.queue, row.amount, row.notice) for row in found if row.id not in before} == {
        ("subscription.renew", "bulk", None, None),
        ("payment.charge", "bulk", 5000, None),
        ("payment.confirmation", "bulk", 5000, None),
        ("subscription.notice", "default", None, "payment_failed"),
        ("payment.charge", "critical", 900, None),
        ("payment.confirmation", "default", 900, None),
    }


def test_what_is_told_days_ahead_waits_where_nobody_does(real: Club) -> None:
    member = real.member()
    member.subscribe(real.package(5000, "week", trial_days=5))
    real.age(4)
    real.renew()
    queues = "select queue from jobs where kind = 'subscription.notice' and args ->> 'kind' = 'trial_ending'"
    assert [row.queue for row in real.make.rows(queues)] == ["bulk"]


def test_one_that_cannot_even_be_read_does_not_keep_the_others_waiting(real: Club) -> None:
    """As where a newer version of Dues has written what this one does not know."""
    (bad, bad_path), *others = members(real, 3)
    real.age(8)
    first = """update subscriptions set next_action_at = now() - interval '9 days',
        pending = '{"when": "tomorrow"}'::jsonb where id = %(id)s"""
    real.make.rows(first, {"id": bad_path.rpartition("/")[2]})
    real.renew()
    assert [member.charged for member, _ in others] == [[5000, 5000]] * 2
    assert bad.charged == [5000]


def test_what_falls_due_meanwhile_is_not_set_aside_for_another(real: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    (_, bad_path), (other, other_path) = members(real, 2)
    bad, well = (path.rpartition("/")[2] for path in (bad_path, other_path))
    real.age(8)
    real.make.rows("update subscriptions set next_action_at = now() + interval '1 day' where id = %(id)s", {"id": well})

    tries = itertools.count(1)

    def failing(posting: Any, one: Any, account: Any) -> None:
        if str(one.id) == bad:
            # First in a batch, then by itself.
            if next(tries) == 2:
                sooner = "update subscriptions set next_action_at = now() - interval '9 days' where id = %(id)s"
                real.make.rows(sooner, {"id": well})
            raise ZeroDivisionError
        due.act(posting, one, account)

    with monkeypatch.context() as patch:
        patch.setattr(renewals, "act", failing)
        real.renew()
    assert other.charged == [5000, 5000]
    assert real.row(bad_path).next_action_at > real.row(bad_path).updated_at


def test_N9_any_number_of_workers_do_each_one_once(real: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = members(real, 12)
    real.age(8)
    monkeypatch.setattr(renewals, "BATCH", 2)
    barrier = Barrier(4)

    def work(_: int) -> int:
        with real.app.app_context():
            barrier.wait()
            done = 0
            while count := renewals.do_batch(2):
                done += count
            db.session.remove()
            return done

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 12
    real.work.drain()
    assert [member.charged for member, _ in everybody] == [[5000, 5000]] * 12


@pytest.mark.one_server("it locks what is due in one store after the other")
def test_a_renewal_takes_few_statements(real: Club, queries: Any) -> None:
    """Those of a batch do not grow with what is in it, but for the rows of jobs, payments and events."""
    counts = {}
    for more, count in ((2, 2), (6, 8)):
        members(real, more)
        real.age(8)
        with real.app.app_context(), queries() as seen:
            assert renewals.do_batch(100) == count
        counts[count] = len(seen)
        real.work.drain()
    each = (counts[8] - counts[2]) / 6
    assert each <= 4, counts


@pytest.mark.parametrize(
    ("card", "status", "charged"),
    [
        ("sandbox_ok", "active", [5000, 5000]),
        ("sandbox_lost_answer", "active", [5000, 5000]),
        ("sandbox_declined", "canceled", [5000]),
        ("sandbox_insufficient", "canceled", [5000]),
        ("sandbox_stolen", "canceled", [5000]),
        ("sandbox_timeout", "canceled", [5000]),
    ],
)
def test_R20_who_cancels_while_they_are_charged_is_not_charged_again(
    real: Club, card: str, status: str, charged: list[int]
) -> None:
    ((member, path),) = members(real, 1)
    member.card(card)
    real.age(8)
    with real.app.app_context():
        assert renewals.do_batch(100) == 1
    assert member.try_to(path, cancel_at_period_end=True).status_code == 200
    real.work.drain()
    real.work.hurry()
    one = member.get(path)
    assert (one["status"], one["cancel_at_period_end"], one["has_access"]) == (status, True, status == "active")
    real.age(2)
    member.card("sandbox_ok")
    real.renew()
    assert (member.charged, member.get(path)["status"]) == (charged, status)
    assert [invoice["status"] for invoice in member.invoices()] == ["paid", "paid" if status == "active" else "void"]


def race(member: Member, path: str, **change: Any) -> Any:
    """A renewal that is due, and a change that its member asks for, at once. Returns: the answer to that."""
    club = member.club
    use_app(club.app)
    barrier = Barrier(2)

    def renew() -> None:
        with club.app.app_context():
            offer()
        barrier.wait()
        perform("bulk")
        disconnect()

    def other() -> Any:
        barrier.wait()
        return club.app.test_client().patch(path, json=change, headers=member.auth)

    with ThreadPoolExecutor(2) as pool:
        ours, theirs = pool.submit(renew), pool.submit(other)
        ours.result()
        found = theirs.result()
    club.renew()
    return found


ROUNDS = [pytest.param(4), pytest.param(1000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_X6_canceled_or_charged_and_never_both(real: Club, rounds: int) -> None:
    ((member, path),) = members(real, 1)
    package = real.package(5000, "week")
    outcomes = set()
    for _ in range(rounds):
        charged = len(member.charged)
        real.age(8)
        answer = race(member, path, cancel_at_period_end=True)
        assert answer.status_code in (200, 409)
        row, more = real.row(path), len(member.charged) - charged
        assert (row.status, row.cancel_at_period_end, more) in (("canceled", True, 0), ("active", True, 1))
        outcomes.add(row.status)
        # Each round has a subscription of its own: one that goes on is a day later in each, and in the end a whole
        # period late, which it then pays for and ends with the next.
        if row.status == "active":
            assert member.end(path).status_code == 200
        path = member.subscribe(package)
    # Both come first now and then, or it would be no race.
    assert rounds < 100 or outcomes == {"active", "canceled"}


@pytest.mark.parametrize("rounds", ROUNDS)
def test_X6_a_change_and_a_renewal_never_have_two_payments_open_for_one_period(real: Club, rounds: int) -> None:
    ((member, path),) = members(real, 1, 1000)
    packages = [real.package(2000, "week"), real.package(3000, "week")]
    for number in range(rounds):
        real.age(8)
        goal = str(packages[number % 2].id)
        race(member, path, package_id=goal, when="now")
        row = real.row(path)
        assert (row.status, row.bill, row.pending) == ("active", None, None)
        assert real.make.value("select count(*) from invoices where status = 'draft'") == 0


@pytest.mark.parametrize("rounds", ROUNDS)
def test_X5_of_two_changes_with_one_version_one_is_made(real: Club, rounds: int) -> None:
    ((member, path),) = members(real, 1, 1000)
    packages = [real.package(2000, "week"), real.package(3000, "week")]
    for number in range(rounds):
        answer = real.client.get(path, headers=member.auth)
        headers = {**member.auth, "If-Match": answer.headers["ETag"]}
        invoices, barrier = real.make.value("select count(*) from invoices"), Barrier(2)

        def ask(reason: str, headers: Any = headers, barrier: Barrier = barrier, number: int = number) -> int:
            barrier.wait()
            body = {"package_id": str(packages[number % 2].id), "when": "now"}
            return real.app.test_client().patch(path, json=body, headers=headers).status_code

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(ask, "ab")) == [200, 412]
        real.work.drain()
        assert real.make.value("select count(*) from invoices") == invoices + 1
