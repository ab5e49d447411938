"""Pages: whichever form a client walks a list by, it gets every row once, in order, however rows tie."""

from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dues.ids import new_id
from tests.factory import Factory

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("succeeded", "failed", "refunded")
SORTS = ("created_at", "-created_at", "amount", "-amount", "paid_at", "-paid_at")

# Few values, so that many rows tie.
rows_of_payments = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 4), st.sampled_from(STATUSES)), min_size=0, max_size=30
)
from_few_to_all = st.integers(1, 31)
quickly = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Shop:
    """A store of a test's own, read by its owner."""

    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self._client, self._make = client, make
        self.owner = make.user()
        self.headers = make.auth(self.owner)
        self.store = make.store(self.owner)
        self.path = f"/v1/stores/{self.store.id}/payments"

    def new_store(self) -> None:
        self.store = self._make.store(self.owner)
        self.path = f"/v1/stores/{self.store.id}/payments"

    def add(self, rows: list[tuple[int, int, str]]) -> list[Row]:
        """Payments with these amounts, seconds and statuses."""
        made = [
            Row(
                id=str(new_id()),
                amount=amount,
                created_at=EPOCH + timedelta(seconds=second),
                status=status,
                paid_at=None if status == "failed" else EPOCH + timedelta(seconds=4 - second),
            )
            for amount, second, status in rows
        ]
        if made:
            self._insert(made)
        return made

    def _insert(self, made: list[Row]) -> None:
        self._make.rows(
            "insert into payments(store_id, id, user_id, amount, currency, status, payment_method, gateway,"
            " created_at, paid_at) select %(store)s, id::uuid, %(user)s, amount, 'EUR', status, 'sandbox_ok',"
            " 'sandbox', created_at, paid_at"
            " from unnest(%(ids)s, %(amounts)s, %(statuses)s, %(times)s, %(paid)s::timestamptz[])"
            " as t(id, amount, status, created_at, paid_at)",
            {
                "store": self.store.id,
                "user": self.owner.id,
                "ids": [row.id for row in made],
                "amounts": [row.amount for row in made],
                "statuses": [row.status for row in made],
                "times": [row.created_at for row in made],
                "paid": [row.paid_at for row in made],
            },
        )

    def remove(self, payment_id: str) -> None:
        self._make.rows("delete from payments where id = %(id)s", {"id": payment_id})

    def get(self, path: str = "", **parameters: Any) -> dict[str, Any]:
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = self._client.get((path or self.path) + query, headers=self.headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.get_json()
        return document

    def refused(self, **parameters: Any) -> dict[str, Any]:
        answer = self._client.get(f"{self.path}?{urlencode(parameters)}", headers=self.headers)
        assert answer.status_code == 400, answer.text
        document: dict[str, Any] = answer.get_json()
        return document


@pytest.fixture
def shop(client: FlaskClient, make: Factory) -> Shop:
    return Shop(client, make)


def in_order(rows: list[Row], sort: str) -> list[str]:
    """The ids as a list sorted so must have them: what was never paid before all that was, ties by id, in the same
    direction."""
    name, never = sort.removeprefix("-"), EPOCH - timedelta(days=1)
    ordered = sorted(rows, key=lambda row: (getattr(row, name) or never, row.id), reverse=sort.startswith("-"))
    return [row.id for row in ordered]


def ids(document: dict[str, Any]) -> list[str]:
    return [item["id"] for item in document["data"]]


@quickly
@given(rows=rows_of_payments, size=from_few_to_all, sort=st.sampled_from(SORTS))
def test_the_loop_over_numbered_pages_collects_every_row_once(shop, rows, size, sort):
    shop.new_store()
    expected = in_order(shop.add(rows), sort)
    found: list[str] = []
    page, last_page = 0, 1
    while page < last_page:
        document = shop.get(page=page + 1, per_page=size, sort=sort)
        meta = document["meta"]
        page, last_page = meta["current_page"], meta["last_page"]
        found += ids(document)
        assert meta == {
            "current_page": page,
            "last_page": max(1, -(-len(rows) // size)),
            "per_page": size,
            "total": len(rows),
            "total_is_exact": True,
        }
    assert found == expected


@quickly
@given(rows=rows_of_payments, size=from_few_to_all, sort=st.sampled_from(SORTS))
def test_the_links_of_numbered_pages_lead_everywhere(shop, rows, size, sort):
    shop.new_store()
    expected = in_order(shop.add(rows), sort)
    document = shop.get(page=1, per_page=size, sort=sort)
    assert document["links"]["prev"] is None
    found = ids(document)
    while following := document["links"]["next"]:
        previous, document = document, shop.get(following)
        assert ids(shop.get(document["links"]["prev"])) == ids(previous)
        assert document["links"]["self"] == following
        found += ids(document)
    assert found == expected
    assert ids(shop.get(document["links"]["last"])) == ids(document)
    assert ids(shop.get(document["links"]["first"])) == expected[:size]


@quickly
@given(rows=rows_of_payments, size=from_few_to_all, sort=st.sampled_from(SORTS))
def test_a_walk_by_cursor_collects_every_row_once_and_back_again(shop, rows, size, sort):
    shop.new_store()
    expected = in_order(shop.add(rows), sort)
    document = shop.get(cursor="", limit=size, sort=sort)
    assert document["links"]["prev"] is None
    assert document["links"]["last"] is None
    pages = [ids(document)]
    while following := document["links"]["next"]:
        assert document["meta"] == {"limit": size, "has_more": True}
        document = shop.get(following)
        pages.append(ids(document))
    assert document["meta"] == {"limit": size, "has_more": False}
    assert [row for page in pages for row in page] == expected
    back = [ids(document)]
    while before := document["links"]["prev"]:
        document = shop.get(before)
        back.append(ids(document))
    assert back == pages[::-1]
    assert ids(shop.get(document["links"]["first"])) == expected[:size]


@quickly
@given(
    rows=rows_of_payments,
    size=st.integers(1, 5),
    sort=st.sampled_from(SORTS),
    writes=st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(0, 4), st.integers(0, 30)), max_size=8),
)
def test_a_walk_misses_and_repeats_nothing_while_others_write(shop, rows, size, sort, writes):
    """A row that is there from the beginning to the end of the walk is seen once; no row is seen twice."""
    shop.new_store()
    made = shop.add(rows)
    stays = {row.id for row in made}
    document = shop.get(cursor="", limit=size, sort=sort)
    found = ids(document)
    pending = list(writes)
    while following := document["links"]["next"]:
        if pending:
            adds, amount, second, which = pending.pop()
            if adds:
                shop.add([(amount, second, "failed")])
            elif made:
                gone = made[which % len(made)].id
                shop.remove(gone)
                stays.discard(gone)
        document = shop.get(following)
        found += ids(document)
    assert len(set(found)) == len(found)
    assert stays <= set(found)


@quickly
@given(
    rows=rows_of_payments,
    size=st.integers(1, 5),
    sort=st.sampled_from(SORTS),
    steps=st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 30))), max_size=8),
)
def test_links_tell_the_truth_whatever_was_deleted(shop, rows, size, sort, steps):
    """Forward or back at each step, where there is a way, with some rows deleted in between."""
    shop.new_store()
    left = in_order(shop.add(rows), sort)
    document = shop.get(cursor="", limit=size, sort=sort)
    for forward, deleted in steps:
        link = document["links"]["next" if forward else "prev"] or document["links"]["self"]
        for gone in [id_ for at, id_ in enumerate(left) if at in deleted]:
            shop.remove(gone)
            left.remove(gone)
        document = shop.get(link)
        shown, links = ids(document), document["links"]
        assert document["meta"]["has_more"] == (links["next"] is not None)
        if shown:
            at = left.index(shown[0])
            assert shown == left[at : at + len(shown)]
            assert (links["prev"] is not None, links["next"] is not None) == (at > 0, at + len(shown) < len(left))
        else:
            # Nothing is left on one side of where the page was: the other side is all there is.
            assert ((links["prev"] is not None) ^ (links["next"] is not None)) == bool(left)
        for name, there in (("next", links["next"]), ("prev", links["prev"])):
            if there:
                beyond = ids(shop.get(there))
                edge = (left.index(shown[-1]) + 1 if name == "next" else left.index(shown[0])) if shown else 0
                expected = left[edge:][:size] if name == "next" else (left[:edge] if shown else left)[-size:]
                assert beyond == expected


def test_going_back_to_a_page_that_was_deleted_is_no_dead_end(shop):
    first, *others = in_order(shop.add([(1, second, "failed") for second in range(4)]), "-created_at")
    back = shop.get(shop.get(cursor="", limit=1)["links"]["next"])["links"]["prev"]
    shop.remove(first)
    document = shop.get(back)
    assert (ids(document), document["meta"]["has_more"], document["links"]["prev"]) == ([], True, None)
    found = []
    while document["links"]["next"]:
        document = shop.get(document["links"]["next"])
        found += ids(document)
    assert found == others


conditions = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(STATUSES),
        "amount[gt]": st.integers(0, 5),
        "amount[lte]": st.integers(0, 5),
        "created_at[gte]": st.integers(0, 5),
        "created_at[lt]": st.integers(0, 5),
        "paid_at[gt]": st.integers(0, 5),
        "paid_at[lte]": st.integers(0, 5),
        "paid_at": st.integers(0, 5),
        "amount": st.integers(1, 4),
    },
)
HOLDS = {
    "status": lambda row, value: row.status == value,
    "amount": lambda row, value: row.amount == value,
    "amount[gt]": lambda row, value: row.amount > value,
    "amount[lte]": lambda row, value: row.amount <= value,
    "created_at[gte]": lambda row, value: row.created_at >= EPOCH + timedelta(seconds=value),
    "created_at[lt]": lambda row, value: row.created_at < EPOCH + timedelta(seconds=value),
    "paid_at[gt]": lambda row, value: row.paid_at is not None and row.paid_at > EPOCH + timedelta(seconds=value),
    "paid_at[lte]": lambda row, value: row.paid_at is not None and row.paid_at <= EPOCH + timedelta(seconds=value),
    "paid_at": lambda row, value: row.paid_at == EPOCH + timedelta(seconds=value),
}


@quickly
@given(rows=rows_of_payments, sort=st.sampled_from(SORTS), wanted=conditions, by_cursor=st.booleans())
def test_filters_keep_what_they_say_in_both_forms(shop, rows, sort, wanted, by_cursor):
    shop.new_store()
    made = shop.add(rows)
    expected = in_order([row for row in made if all(HOLDS[name](row, wanted[name]) for name in wanted)], sort)
    texts = {
        name: (EPOCH + timedelta(seconds=value)).isoformat() if name.startswith(("created", "paid")) else value
        for name, value in wanted.items()
    }
    page = {"cursor": "", "limit": 7} if by_cursor else {"per_page": 7}
    document = shop.get(sort=sort, **page, **texts)
    found = ids(document)
    while following := document["links"]["next"]:
        document = shop.get(following)
        found += ids(document)
    assert found == expected
    assert by_cursor or document["meta"]["total"] == len(expected)


def test_an_empty_list(shop):
    document = shop.get()
    assert document["data"] == []
    assert document["meta"] == {
        "current_page": 1,
        "last_page": 1,
        "per_page": 20,
        "total": 0,
        "total_is_exact": True,
    }
    assert document["links"] == {
        "self": f"{shop.path}?page=1",
        "first": f"{shop.path}?page=1",
        "prev": None,
        "next": None,
        "last": f"{shop.path}?page=1",
    }
    assert shop.get(cursor="")["meta"] == {"limit": 20, "has_more": False}


def test_a_page_past_the_last_is_an_empty_list(shop):
    shop.add([(1, second, "failed") for second in range(5)])
    for number in (4, 10**12):
        document = shop.get(page=number, per_page=2)
        assert document["data"] == []
        assert (document["meta"]["last_page"], document["meta"]["total"]) == (3, 5)
        assert document["links"]["next"] is None
        assert ids(shop.get(document["links"]["prev"])) == ids(shop.get(page=3, per_page=2))


def test_links_keep_all_else_that_was_asked_for(shop):
    shop.add([(1, second, "failed") for second in range(5)])
    asked = {"status": "failed", "sort": "amount", "fields": "id,user.name", "include": "user", "amount[gte]": "1"}
    for page in ({"per_page": "2", "page": "1"}, {"limit": "2", "cursor": ""}):
        following = shop.get(**asked, **page)["links"]["next"]
        assert following.startswith("/v1/")
        given_back = {name: values[0] for name, values in parse_qs(urlsplit(following).query).items()}
        moved = given_back.pop("page", None) or given_back.pop("cursor")
        assert moved
        assert given_back == {**asked, **{name: page[name] for name in page if name in ("per_page", "limit")}}


def cursor_in(link: str) -> str:
    return parse_qs(urlsplit(link).query)["cursor"][0]


@pytest.fixture
def cursor(shop) -> str:
    shop.add([(1, second, "failed") for second in range(5)])
    return cursor_in(shop.get(cursor="", limit=2)["links"]["next"])


def test_a_tampered_cursor_is_refused_wherever_it_was_touched(shop, cursor):
    for at in range(len(cursor)):
        other = "A" if cursor[at] != "A" else "B"
        for tampered in (cursor[:at] + other + cursor[at + 1 :], cursor[:at] + cursor[at + 1 :], cursor[:at] or "x"):
            problem = shop.refused(cursor=tampered)
            assert [error["parameter"] for error in problem["errors"]] == ["cursor"]


def test_a_cursor_has_one_spelling(shop, cursor):
    for spelled in (cursor + "=", cursor + "==A", cursor + "!", " " + cursor, cursor + "\n", "\0" + cursor):
        assert shop.refused(cursor=spelled)["errors"][0]["parameter"] == "cursor"


@pytest.mark.parametrize("text", ["x", "AAAA", "A" * 100, "null", "[true]", "\N{PILE OF POO}", "A" * 5000])
def test_a_made_up_cursor_is_refused(shop, text):
    assert shop.refused(cursor=text)["errors"][0]["parameter"] == "cursor"


@pytest.mark.parametrize("changed", [{"sort": "amount"}, {"status": "failed"}, {"amount[gt]": "0"}])
def test_a_cursor_belongs_to_its_sort_and_filters(shop, cursor, changed):
    assert shop.refused(cursor=cursor, **changed)["errors"][0]["parameter"] == "cursor"


def test_a_cursor_belongs_to_its_list(shop, cursor, client):
    shop.new_store()
    assert shop.refused(cursor=cursor)["errors"][0]["parameter"] == "cursor"
    assert client.get("/v1/me/payments", query_string={"cursor": cursor}, headers=shop.headers).status_code == 400
    assert client.get("/v1/stores", query_string={"cursor": cursor}).status_code == 400


def test_a_cursor_may_change_its_limit_fields_and_includes(shop, cursor):
    document = shop.get(cursor=cursor, limit=3, include="user", fields="id")
    assert [set(item) for item in document["data"]] == [{"id", "user"}] * 3


def test_a_cursor_shows_no_key_and_no_name(cursor):
    assert b"secret" not in urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def test_the_way_back_after_rows_came_in_front(shop):
    shop.add([(1, second, "failed") for second in range(4)])
    document = shop.get(shop.get(cursor="", limit=2)["links"]["next"])
    newer = shop.add([(1, 9, "failed")])[0]
    document = shop.get(document["links"]["prev"])
    assert len(document["data"]) == 2
    assert newer.id not in ids(document)
    front = shop.get(document["links"]["prev"])
    assert ids(front) == [newer.id]
    assert front["links"]["prev"] is None
