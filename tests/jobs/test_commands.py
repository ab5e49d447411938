"""`flask jobs …`, as an operator types it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import Result
from flask import Flask

from dues.clock import now
from dues.jobs import Kind, kinds
from dues.jobs.commands import span
from dues.jobs.exceptions import problem
from tests.jobs.conftest import QUICK, Jobs

BAD = problem("mail_deferred", "Mail deferred", 503, "the mail server did not take the mail")


@pytest.fixture
def flask_jobs(in_app: Flask) -> Callable[..., Result]:
    def invoke(*arguments: object) -> Result:
        return in_app.test_cli_runner().invoke(args=["jobs", *map(str, arguments)])

    return invoke


def failed(jobs: Jobs, kind: Kind = QUICK, **options: Any) -> UUID:
    job_id = jobs.add(kind, **options)
    jobs.claimed(job_id)[1].give_back(error=BAD, final=True)
    return job_id


def test_the_newest_jobs_in_a_table(flask_jobs, jobs: Jobs):
    first = jobs.add()
    waiting = jobs.add()
    jobs.claimed(waiting)[1].give_back(error=BAD, after_s=1000)
    jobs.change(first, "created_at = now() - interval '3 days'")
    lines = flask_jobs("list").output.splitlines()
    assert lines[0].split() == ["id", "kind", "queue", "status", "attempt", "age", "next", "attempt", "last", "error"]
    assert lines[1].startswith(f"{waiting}  test.quick  default  queued     1/20")
    assert lines[1].endswith("in 17 min  the mail server did not take the mail")
    assert lines[2].split()[:7] == [str(first), "test.quick", "default", "queued", "0/20", "3", "d"]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ((), 3),
        (("--limit", 2), 2),
        (("--queue", "slow"), 1),
        (("--kind", "report.build"), 1),
        (("--status", "failed"), 1),
        (("--status", "failed", "--status", "queued"), 3),
        (("--status", "failed", "--queue", "slow"), 0),
    ],
)
def test_some_of_them(flask_jobs, jobs: Jobs, options: tuple[object, ...], count: int):
    jobs.add()
    failed(jobs)
    jobs.add(kinds.REPORT_BUILD)
    result = flask_jobs("list", *options)
    assert (result.exit_code, len(result.output.splitlines())) == (0, 1 + count)


def test_all_there_is_to_know_of_one(flask_jobs, jobs: Jobs):
    job_id = jobs.add(QUICK, {"name": "Zoë"})
    jobs.claimed(job_id)
    shown = dict(line.partition("  ")[::2] for line in flask_jobs("show", job_id).output.splitlines())
    told = {name.strip(): value.strip() for name, value in shown.items()}
    assert (told["id"], told["status"], told["leased_by"]) == (str(job_id), "running", "tester")
    assert told["args"] == '{"name":"Zoë"}'
    assert told["finished_at"] == "-"
    assert told["created_at"].endswith(" s ago)")


@pytest.mark.parametrize("command", ["show", "retry", "cancel"])
def test_one_that_is_not_there(flask_jobs, jobs: Jobs, command: str):
    result = flask_jobs(command, uuid4())
    assert (result.exit_code, result.output) == (1, "Error: there is no such job\n")


def test_a_failed_job_begins_anew(flask_jobs, jobs: Jobs):
    job_id = failed(jobs)
    before = jobs.row(job_id)
    assert flask_jobs("retry", job_id).output == f"{job_id} is queued\n"
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.finished_at, row.error) == ("queued", 0, None, BAD)
    assert row.version == before.version + 1
    assert jobs.claimed(job_id)[0].attempt == 1


def test_a_job_that_waits_goes_on_now(flask_jobs, jobs: Jobs):
    job_id = jobs.add()
    jobs.claimed(job_id)[1].give_back(error=BAD, after_s=1000)
    assert flask_jobs("retry", job_id).exit_code == 0
    assert jobs.claimed(job_id)[0].attempt == 2


@pytest.mark.parametrize(
    ("change", "standing"),
    [
        ("run_at = now() - interval '1 s'", "due"),
        ("status = 'succeeded', finished_at = now()", "succeeded"),
        ("status = 'running', lease_token = gen_random_uuid(), lease_until = now() + interval '9 s'", "running"),
    ],
)
def test_what_is_done_or_under_way_is_not_done_again(flask_jobs, jobs: Jobs, change: str, standing: str):
    jobs.change(job_id := jobs.add(), change)
    before = jobs.row(job_id)
    result = flask_jobs("retry", job_id)
    assert (result.exit_code, standing in result.output) == (1, True)
    assert jobs.row(job_id) == before


def test_work_that_another_job_stands_for_is_not_doubled(flask_jobs, jobs: Jobs):
    job_id = failed(jobs, dedupe_key="once")
    jobs.add(dedupe_key="once")
    result = flask_jobs("retry", job_id)
    assert result.output == "Error: another job does the same work already\n"
    assert jobs.row(job_id).status == "failed"


def test_all_failed_jobs_of_a_kind(flask_jobs, jobs: Jobs):
    again = [failed(jobs, kinds.MAILING_SEND) for _ in range(2)]
    other = failed(jobs, kinds.PAYMENT_CONFIRMATION)
    result = flask_jobs("retry", "--failed", "mailing.send")
    assert sorted(result.output.splitlines()) == sorted(f"{job_id} is queued" for job_id in again)
    assert [jobs.row(job_id).status for job_id in (*again, other)] == ["queued", "queued", "failed"]


def test_canceling(flask_jobs, jobs: Jobs):
    queued, running, fixed = jobs.add(), jobs.add(), jobs.add(kinds.MAILING_SEND)
    jobs.claimed(running)
    assert flask_jobs("cancel", queued, running).output == f"{queued} is canceled\n{running} will be canceled\n"
    assert jobs.row(queued).status == "canceled"
    assert jobs.row(running).cancel_requested_at
    assert flask_jobs("cancel", fixed).output == "Error: the job is queued and cannot be canceled\n"


def test_naming_no_job_is_a_slip(flask_jobs, jobs: Jobs):
    for command in ("retry", "cancel", "show", "drain"):
        result = flask_jobs(command)
        assert (result.exit_code, "Missing argument" in result.output or "name jobs" in result.output) == (2, True)


def test_what_is_no_id_is_said_to_be_none(flask_jobs, jobs: Jobs):
    result = flask_jobs("cancel", "7")
    assert (result.exit_code, "'7' is not a valid UUID" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (200_000, "2 d"), (-700, "12 min")]
)
def test_how_far_away_a_moment_is(seconds: float, text: str):
    assert span(now() - timedelta(seconds=seconds + 0.2 * (seconds > 0))) == text
