"""Who holds a job: exactly one worker, and only while its lease lasts."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from flask import Flask

from dues.jobs import Kind, LeaseLost
from dues.jobs.exceptions import WORKER_LOST, problem
from dues.jobs.lease import Lease, claim, take_back
from dues.postgres import fetch_row, transaction
from dues.reads.tags import touch
from tests.contention import Contention
from tests.factory import Factory
from tests.jobs.conftest import QUICK, Jobs

ONCE = Kind("test.once", "default", max_attempts=1)
BAD = problem("bad", "Bad", 500, "it went wrong")


def test_of_many_workers_at_once_exactly_one_gets_the_job(in_app: Flask, jobs: Jobs):
    job_id = jobs.add()
    at_once = threading.Barrier(8)

    def ask(number: int) -> bool:
        with in_app.app_context():
            at_once.wait()
            return claim([job_id], f"worker {number}") is not None

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(ask, range(8))) == [False] * 7 + [True]
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.version) == ("running", 1, 2)


def test_a_claim_tells_all_that_an_attempt_needs(jobs: Jobs):
    job_id = jobs.add(args={"payment_id": "p1", "deep": [1, {"a": None}]})
    held, lease = jobs.claimed(job_id)
    assert (held.job_id, held.kind, held.attempt, held.timeout_s) == (job_id, QUICK.name, 1, QUICK.timeout_s)
    assert held.args == {"payment_id": "p1", "deep": [1, {"a": None}]}
    row = jobs.row(job_id)
    assert (row.lease_token, row.leased_by) == (lease.token, "tester")
    assert row.started_at
    assert 1.5 < (row.lease_until - row.started_at).total_seconds() < 2.5


@pytest.mark.parametrize(
    "change",
    [
        "run_at = now() + interval '1 minute'",
        "attempt = max_attempts",
        "cancel_requested_at = now()",
        "status = 'canceled', finished_at = now()",
        "status = 'succeeded', finished_at = now()",
    ],
)
def test_a_job_that_is_not_due_or_over_cannot_be_claimed(jobs: Jobs, change: str):
    job_id = jobs.add()
    jobs.change(job_id, change)
    before = jobs.row(job_id)
    assert claim([job_id], "tester") is None
    assert jobs.row(job_id) == before


def test_a_job_can_be_taken_over_only_when_its_lease_has_run_out(jobs: Jobs):
    job_id = jobs.add()
    jobs.claimed(job_id)
    assert take_back(job_id, WORKER_LOST) is None
    assert claim([job_id], "other") is None
    jobs.expire(job_id)
    assert take_back(job_id, WORKER_LOST) == "queued"
    again = claim([job_id], "other")
    assert again
    assert again.claim.attempt == 2
    assert jobs.row(job_id).leased_by == "other"


def test_of_several_jobs_the_first_that_is_to_be_had_is_claimed(jobs: Jobs, contention: Contention):
    over, running, locked, free, other = (jobs.add() for _ in range(5))
    jobs.change(over, "status = 'succeeded', finished_at = now()")
    jobs.claimed(running)
    with contention.held("select from jobs where id = %(id)s for update", id=str(locked)):
        begun = claim([over, running, locked, free, other], "tester")
    assert begun
    assert begun.claim.job_id == free
    assert jobs.row(other).status == "queued"


def test_what_a_zombie_did_is_rolled_back_with_its_completion(jobs: Jobs, make: Factory):
    job_id = jobs.add()
    _, zombie = jobs.claimed(job_id)
    jobs.expire(job_id)
    _, heir = jobs.claimed(job_id)
    with pytest.raises(LeaseLost):
        write_and_complete(zombie, "zombie")
    assert make.value("select count(*) from users") == 0
    write_and_complete(heir, "heir")
    assert make.value("select count(*) from users") == 1
    row = jobs.row(job_id)
    assert (row.status, row.result, row.attempt) == ("succeeded", {"by": "heir"}, 2)


def write_and_complete(lease: Lease, who: str) -> None:
    with transaction():
        write_a_row()
        lease.complete({"by": who}, None)


def write_a_row() -> None:
    row = {"id": UUID(int=1)}
    fetch_row(
        "insert into users(id, email, name, password_hash) values (%(id)s, 'a@b.c', 'A', '') returning id",
        row,
    )
    touch(f"user:{UUID(int=1)}")


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_zombie_can_neither_renew_nor_report_nor_give_back(jobs: Jobs, taken_over: bool):
    job_id = jobs.add()
    _, zombie = jobs.claimed(job_id)
    jobs.expire(job_id)
    if taken_over:
        jobs.claimed(job_id)
    else:
        assert take_back(job_id, WORKER_LOST) == "queued"
    before = jobs.row(job_id)
    with pytest.raises(LeaseLost):
        zombie.report({"completed": 1})
    with pytest.raises(LeaseLost):
        zombie.give_back(error=BAD)
    zombie.renew()
    assert zombie.lost
    with pytest.raises(LeaseLost):
        zombie.check()
    assert jobs.row(job_id) == before


def test_renewing_extends_the_lease_and_changes_nothing_that_clients_see(jobs: Jobs):
    job_id = jobs.add()
    _, lease = jobs.claimed(job_id)
    jobs.change(job_id, "lease_until = clock_timestamp() + interval '10 ms'")
    before = jobs.row(job_id)
    lease.renew()
    after = jobs.row(job_id)
    assert after.lease_until > before.lease_until
    assert after.version == before.version
    assert not lease.lost


def test_a_renewal_goes_through_while_the_handler_has_the_job_open_in_a_transaction(jobs: Jobs):
    job_id = jobs.add()
    _, lease = jobs.claimed(job_id)
    with transaction():
        fetch_row("select 1 from jobs where id = %(id)s", {"id": job_id})
        lease.report({"completed": 1, "total": 2, "unit": "rows", "eta": None})
        lease.renew()
    assert jobs.row(job_id).progress["completed"] == 1


def test_check_asks_only_when_the_lease_may_be_in_doubt(jobs: Jobs, queries):
    _, lease = jobs.claimed()
    with queries() as seen:
        lease.check()
    assert not seen
    lease._since -= lease.seconds * 0.6
    with queries() as seen:
        lease.check()
        lease.check()
    assert len(seen) == 1, str(seen)


def test_a_failed_attempt_waits_and_keeps_its_error(jobs: Jobs):
    job_id = jobs.add()
    _, lease = jobs.claimed(job_id)
    assert lease.give_back(error=BAD, after_s=60.0) == "queued"
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.error, row.due, row.lease_token) == ("queued", 1, BAD, False, None)
    assert claim([job_id], "tester") is None
    jobs.change(job_id, "run_at = now()")
    _, lease = jobs.claimed(job_id)
    lease.complete(None, None)
    assert jobs.row(job_id).error is None


def test_the_last_attempt_fails_the_job(jobs: Jobs):
    _, lease = jobs.claimed(job_id := jobs.add(ONCE))
    assert lease.give_back(error=BAD, after_s=1.0) == "failed"
    row = jobs.row(job_id)
    assert (row.status, row.error) == ("failed", BAD)
    assert row.finished_at


def test_a_job_may_fail_before_its_attempts_are_used_up(jobs: Jobs):
    _, lease = jobs.claimed(job_id := jobs.add())
    assert lease.give_back(error=BAD, final=True) == "failed"
    assert jobs.row(job_id).attempt == 1


def test_a_released_attempt_is_not_charged_and_due_at_once(jobs: Jobs):
    _, lease = jobs.claimed(job_id := jobs.add(ONCE))
    assert lease.give_back(uncharged=True) == "queued"
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.due) == ("queued", 0, True)
    held, _ = jobs.claimed(job_id)
    assert held.attempt == 1


@pytest.mark.parametrize(("anew", "becomes", "attempts"), [(False, "failed", 1), (True, "queued", 0)])
def test_attempts_are_counted_anew_where_some_work_got_done(jobs: Jobs, anew: bool, becomes: str, attempts: int):
    _, lease = jobs.claimed(job_id := jobs.add(ONCE))
    assert lease.give_back(error=BAD, after_s=1.0, anew=anew) == becomes
    assert jobs.row(job_id).attempt == attempts


@pytest.mark.parametrize("how", ["give_back", "take_back"])
def test_a_job_whose_cancellation_was_asked_for_is_not_tried_again(jobs: Jobs, how: str):
    _, lease = jobs.claimed(job_id := jobs.add())
    jobs.change(job_id, "cancel_requested_at = now()")
    if how == "give_back":
        assert lease.give_back(error=BAD, after_s=1.0) == "canceled"
    else:
        jobs.expire(job_id)
        assert take_back(job_id, WORKER_LOST) == "canceled"
    assert jobs.row(job_id).finished_at


def test_only_expired_leases_are_taken_back(jobs: Jobs):
    jobs.claimed(job_id := jobs.add(ONCE))
    assert take_back(job_id, WORKER_LOST) is None
    jobs.expire(job_id)
    assert take_back(job_id, WORKER_LOST) == "failed"
    assert take_back(job_id, WORKER_LOST) is None
    assert jobs.row(job_id).error == WORKER_LOST
