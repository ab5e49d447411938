"""Cursors of pages: tampered with, made up, another list's."""

from base64 import urlsafe_b64decode
from urllib.parse import parse_qs, urlsplit

import pytest


def cursor_in(link: str) -> str:
    return parse_qs(urlsplit(link).query)["cursor"][0]


@pytest.fixture
def cursor(shop) -> str:
    shop.add([(1, second, "failed") for second in range(5)])
    return cursor_in(shop.get(cursor="", limit=2)["links"]["next"])


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.wide)])
def test_a_tampered_cursor_is_refused_wherever_it_was_touched(shop, cursor, stride):
    for at in {*range(0, len(cursor), stride), len(cursor) - 1}:
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
