"""Answers that can wait are those of their place among the statements, and are fetched together."""

from collections.abc import Iterator

import psycopg2
import pytest
from flask import Flask

from dues.postgres import fetch_row, fetch_text_later, run_later, transaction
from tests.postgres.test_run_later import Recording

# A setting of the transaction, which needs no table.
_SET = "select set_config('dues.test', %(value)s, true)"
_GET = "select current_setting('dues.test')"


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def test_each_is_of_its_place_and_all_are_one_message(queries: Recording) -> None:
    with transaction(), queries() as seen:
        answers = []
        for value in ("1", "", "%; {x} 'é\n"):
            run_later(_SET, {"value": value})
            answers.append(fetch_text_later(_GET, {}))
        assert not seen
        assert [answer() for answer in reversed(answers)] == ["%; {x} 'é\n", "", "1"]
        assert len(seen) == 1, str(seen)


def test_more_can_be_asked_for_once_some_are_fetched(queries: Recording) -> None:
    with transaction():
        first = [fetch_text_later("select %(x)s::text", {"x": x}) for x in "ab"]
        assert first[0]() == "a"
        second = [fetch_text_later("select %(x)s::text", {"x": x}) for x in "cd"]
        with queries() as seen:
            assert [answer() for answer in first + second] == ["a", "b", "c", "d"]
        assert len(seen) == 1, str(seen)


@pytest.mark.parametrize("sql", ["select null::text", "select 'x' where false"])
def test_without_a_row_it_is_empty(sql: str) -> None:
    with transaction():
        assert fetch_text_later(sql, {})() == ""


def test_what_is_wrong_is_raised_where_the_first_is_fetched() -> None:
    @transaction()
    def ask() -> None:
        fine, _ = fetch_text_later("select 'x'", {}), fetch_text_later("select (1 / 0)::text", {})
        fine()

    with pytest.raises(psycopg2.errors.DivisionByZero):
        ask()


def test_it_is_fetched_in_the_transaction_that_asked_for_it() -> None:
    with transaction():
        fetched, lost = fetch_text_later("select 'x'", {}), fetch_text_later("select 'y'", {})
        assert fetched() == "x"
        missed = fetch_text_later("select 'z'", {})
    assert (fetched(), lost()) == ("x", "y")
    with pytest.raises(RuntimeError, match="needs a transaction"):
        missed()
    with transaction(), pytest.raises(RuntimeError, match=r"in the transaction\(\) that asked"):
        missed()
    # A transaction sees no answer of the one before it on its connection.
    with transaction():
        assert fetch_row("select current_setting('dues.answer0', true)", {}) in [(None,), ("",)]
