"""Statements as replicas are asked them, on a real PostgreSQL: what they decide by the time is decided by the time that
they are sent, and nothing that they call has another."""

import re
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace as Made

import pytest
from flask import Flask

from api.app import MODULES
from api.server.replicas import for_replicas
from dues.accounts.reads import tokens
from dues.cells.question import Question
from dues.postgres import fetch_row
from dues.reads import ReadPlan, parse_query, plan_list, plan_one
from dues.reads.freshness.marks import READ, make_mark, split
from tests.factory import Factory
from tests.reads.queries import LISTED
from tests.reads.test_compile import _scope
from tests.servers import wait_until

pytestmark = pytest.mark.one_server("there are no replicas")

_CALL = re.compile(r"(\w+)\s*\(")
_EPOCH = "select extract(epoch from clock_timestamp())::float8"
# What statements call that is not the same each time for the same values, and is on every server nevertheless: it
# depends on the time zone alone, which sessions have set, or on rows; or it is an estimate, or about the mark.
KNOWN = {
    "extract", "json_agg", "json_build_array", "json_build_object", "json_object_agg", "row_to_json", "to_char",
    "dues_estimated_rows", "pg_current_snapshot", "pg_is_in_recovery",
}  # fmt: skip


@pytest.fixture
def in_context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def seconds() -> float:
    (said,) = fetch_row(_EPOCH, {}) or (0.0,)
    return float(said)


@pytest.mark.parametrize("which", ["a list by page", "a list by cursor", "a row", "a directory's question"])
def test_a_token_ends_by_the_time_that_is_sent(in_context: None, make: Factory, which: str):
    user: Made = make.user()
    token = make.token(user, expires_in=timedelta(hours=1))
    (row,) = make.rows("select id, extract(epoch from expires_at)::float8 as ends from api_tokens")
    scope = {"user_id": user.id}
    plan: ReadPlan = {
        "a list by page": plan_list(tokens, scope, parse_query(tokens, []), "/v1/tokens", ""),
        "a list by cursor": plan_list(tokens, scope, parse_query(tokens, [("cursor", "")]), "/v1/tokens", "cursor="),
        "a row": plan_one(tokens, {**scope, "id": row.id}, parse_query(tokens, [], one=True)),
        "a directory's question": Question(token, None),
    }[which]
    sql, values = plan.statement()
    wanted = for_replicas(sql)
    assert wanted
    assert wanted.by_the_clock

    def shown(at: float) -> tuple[bool, list[object]]:
        """Whether the token is shown, and all that is said."""
        found = fetch_row(wanted.sql, {**values, "primary_now": at}, hot=True)
        own = split(found)[0] if found else ()
        return bool(own and own[0] and str(row.id) in str(own[0])), list(own)

    # Unprepared, and then prepared.
    for _ in range(4):
        is_shown, own = shown(row.ends - 10)
        assert is_shown
        assert 10 in [pytest.approx(each, abs=0.001) for each in own if isinstance(each, float)]
        assert not shown(row.ends)[0]
        assert shown(0.0)[0]
    # At the primary's own time it is the primary's own answer.
    for ours, theirs in zip(shown(seconds())[1], fetch_row(sql, values) or (), strict=True):
        assert ours == (pytest.approx(theirs, abs=30) if isinstance(theirs, float) else theirs)


def test_that_a_token_does_not_hold_is_the_primarys_to_say(in_context: None, make: Factory):
    plan = Question(make.token(make.user()), None)
    sql, values = plan.statement()
    assert (plan.computed(fetch_row(sql, values)).life_s or 0) > 0
    make.rows("update api_tokens set revoked_at = now()")
    assert plan.computed(fetch_row(sql, values)).life_s == 0


def test_the_primarys_clock_is_of_the_moment_that_it_is_asked(in_context: None):
    wait_until(make_mark, 10, "a mark")
    before = seconds()
    *_, said = fetch_row(READ, {}) or (0.0,)
    assert before <= said <= seconds()


def statements() -> Iterator[tuple[str, str]]:
    """Of every resource that a route reads, with all that it includes, and a directory's."""
    read = [route.reads for module in MODULES for route in module.all if route.reads]
    yield "a question", Question("token", None).statement()[0]
    for resource in {each.name: each for each in [*read, *LISTED]}.values():
        given = [("include", ",".join(resource.includes))] if resource.includes else []
        if resource.sorts:
            for more in ([], [("total", "exact")], [("cursor", "")]):
                query = parse_query(resource, [*given, *more])
                yield resource.name, plan_list(resource, _scope(resource), query, "/v1/x", "").statement()[0]
        yield resource.name, plan_one(resource, _scope(resource), parse_query(resource, given, one=True)).statement()[0]


def test_nothing_that_a_replica_is_asked_has_a_time_of_its_own(in_context: None):
    """A function that is not in KNOWN: is it the same on a replica at the same moment? Then put it there. Else
    `for_replicas` has to know it."""
    calls: dict[str, set[str]] = {}
    for name, sql in statements():
        if wanted := for_replicas(sql):
            # With one argument it is a number's time.
            text = wanted.sql.replace("to_timestamp(%(primary_now)s::float8)", "")
            for called in _CALL.findall(text):
                calls.setdefault(called.lower(), set()).add(name)
    (changing,) = fetch_row(
        "select array_agg(distinct proname::text) from pg_proc where proname = any(%(names)s) and provolatile <> 'i'",
        {"names": list(calls)},
    ) or ([],)
    assert {name: calls[name] for name in set(changing) - KNOWN} == {}
    # Nor do views, or functions that are no triggers, which statements may call.
    (hidden,) = fetch_row(
        "select array(select viewname::text from pg_views where schemaname = 'public' and definition ~* %(times)s"
        " union all select proname::text from pg_proc where pronamespace = 'public'::regnamespace"
        " and prorettype <> 'trigger'::regtype and prosrc ~* %(times)s)",
        {"times": r"\mnow\s*\(|_timestamp\M|\m(current_|local)(date|time)|\mrandom\s*\(|uuidv?\d*\s*\("},
    ) or ([],)
    assert hidden == []
