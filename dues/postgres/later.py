"""Answers that can wait: each statement runs in its place among those of the unit of work, and the answers of all of
them are fetched in one message.

psycopg2 gives the rows of a message's last statement alone. So PostgreSQL keeps the others until then, in settings of
the present transaction.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dues.postgres.statements import fetch_row, run_later
from dues.postgres.transactions import unit_of_work
from dues.postgres.unit_of_work import UnitOfWork

_KEEP = "select set_config(%(answer)s, ({sql}), true)"
_FETCH = """
    select array_agg(current_setting('dues.answer' || n) order by n)
    from generate_series(%(first)s::int, %(last)s::int) as n
"""


def fetch_text_later(sql: str, values: Mapping[str, Any]) -> Callable[[], str]:
    """Run a statement that selects one text, in the present unit of work and in one message with the next that is asked
    for, as `run_later()` does.

    Returns: what gives the text, empty where there is no row. It fetches, once, those of all that ran so; to be called
    before the commit. Raises there: RuntimeError after it; psycopg2.Error for whatever is wrong with a statement.
    """
    work = unit_of_work()
    number = len(work.answers)
    work.answers.append(None)
    run_later(_KEEP.format(sql=sql), {**values, "answer": f"dues.answer{number}"})

    def text() -> str:
        if (found := work.answers[number]) is None:
            _fetch_all(work)
            found = work.answers[number]
        assert found is not None
        return found

    return text


def _fetch_all(work: UnitOfWork) -> None:
    if unit_of_work() is not work:
        raise RuntimeError("this answer was to be fetched in the transaction() that asked for it")
    # Those that were fetched before come first.
    first = work.answers.index(None)
    row = fetch_row(_FETCH, {"first": first, "last": len(work.answers) - 1}, hot=True)
    assert row
    work.answers[first:] = row[0]
