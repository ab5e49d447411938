"""In which order a clock that is moved has things done."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from dues.billing.advance import advance
from dues.jobs import Retry
from tests.billing.conftest import Club, at, shown


def test_X3_what_is_due_in_one_step_is_done_in_order_of_due_time_and_then_of_id(make_club: Any) -> None:
    club: Club = make_club("2024-01-31")
    package = club.package(5000)
    trial = club.member().subscribe(club.package(5000, trial_days=28))
    first, second = (club.member().subscribe(package) for _ in range(2))
    failing = club.member("sandbox_fail_after:1").subscribe(package)
    seq = club.make.value("select max(seq) from events")
    club.advance("2024-03-02")
    ids = [path.rpartition("/")[2] for path in (trial, first, second, failing)]
    rows = club.make.rows(
        "select data, created_at from events where seq > %(seq)s and type like 'subscription.%%' order by seq",
        {"seq": seq},
    )
    told = [(row.data["id"], row.data["status"], row.data["updated_at"]) for row in rows]
    assert [(ids.index(one), status, at) for one, status, at in told if status != "trialing"] == [
        # The trial's end and its charge, before anything that is due later.
        (0, "active", shown("2024-02-28")),
        # Three at one moment, the oldest first, and each charged before the next is begun.
        (1, "active", shown("2024-02-29")),
        (2, "active", shown("2024-02-29")),
        (3, "active", shown("2024-02-29")),
        (3, "past_due", shown("2024-02-29")),
    ]
    changes = club.make.rows(
        "select kind, created_at from subscription_changes where store_id = %(id)s order by id", {"id": club.store.id}
    )
    assert [row.created_at for row in changes] == sorted(row.created_at for row in changes)
    # The retry of the next day came last, and was in vain.
    assert [row.kind for row in changes[-2:]] == ["retried", "declined"]


def test_a_clock_waits_for_a_charge_that_does_not_come_to_its_end(club: Club) -> None:
    """Without keeping a worker busy meanwhile: a gateway may be away for long."""
    member = club.member()
    assert member.ask(club.package()).status_code == 202
    done: list[UUID] = []
    run = SimpleNamespace(check=lambda: None)
    with club.app.app_context(), pytest.raises(Retry) as retry:
        advance(run, club.store.id, at("2024-01-31"), done.append)  # type: ignore[arg-type]
    assert (len(done), retry.value.charged) == (1, False)
