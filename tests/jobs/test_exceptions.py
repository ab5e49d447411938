"""How attempts end: the backoff's bounds, and errors that tell their readers nothing they must not know."""

import pytest

from dues.errors import Unavailable
from dues.jobs.exceptions import Drained, PermanentFailure, Retry, TimedOut, backoff_s, problem_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("attempt", "shortest", "longest"), [(1, 1, 3), (2, 2, 6), (5, 16, 48), (11, 1024, 3072)])
def test_the_backoff_doubles_with_jitter(attempt: int, shortest: float, longest: float):
    waits = [backoff_s(attempt) for _ in range(200)]
    assert shortest <= min(waits) <= max(waits) <= longest
    assert len(set(waits)) > 100


@pytest.mark.parametrize("attempt", [12, 20, 1000])
def test_the_backoff_is_an_hour_at_most(attempt: int):
    assert max(backoff_s(attempt) for _ in range(50)) <= 3600


def test_an_unforeseen_error_is_named_and_not_quoted():
    document = problem_of(ConnectionError("cannot reach smtp://user:secret@mail.example.com"))
    assert document == {
        "type": "/problems/job_failed",
        "title": "The job failed",
        "status": 500,
        "detail": "ConnectionError",
    }


@pytest.mark.parametrize("raised", [PermanentFailure, lambda problem: Retry(5, problem)])
def test_what_was_written_for_the_readers_is_quoted(raised):
    problem = Unavailable("the mail server said 451", code="mail_deferred")
    assert problem_of(raised(problem)) == {
        "type": "/problems/mail_deferred",
        "title": "Service unavailable",
        "status": 503,
        "detail": "the mail server said 451",
    }
    assert problem_of(raised("no such mail"))["detail"] == "no such mail"


def test_a_refusal_raised_as_it_is_says_what_it_would_say_to_a_client():
    assert problem_of(Unavailable("busy"))["type"] == "/problems/unavailable"


def test_an_attempt_that_took_too_long_says_so():
    assert problem_of(TimedOut())["status"] == 504


def test_a_body_that_catches_exceptions_is_still_stopped():
    assert not issubclass(TimedOut, Exception)
    assert not issubclass(Drained, Exception)
