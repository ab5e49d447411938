"""Finding customers by the words of their names and addresses: a store's staff find all that they are shown, and nobody
finds anything else."""

from types import SimpleNamespace as Row
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from tests.factory import Factory

PEOPLE = {
    "ada": ("Ada Lovelace", "ada.lovelace@example.com"),
    "adam": ("Adam Ångström", "a.angstrom@uni.example"),
    "anne": ("Anne-Marie O'Neill", "amo@example.org"),
    "jose": ("José Núñez", "jose@example.com"),
    "yamada": ("山田 太郎", "taro@example.jp"),
    "percent": ("100% Fan_club", "fan_club%x@example.com"),
}


class Shop:
    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self.client, self.make = client, make
        self.owner = make.user(name="Olga Owner")
        self.store = make.store(self.owner)
        self.auth = make.auth(self.owner)
        self.people = {key: make.user(name=name, email=email) for key, (name, email) in PEOPLE.items()}
        for person in self.people.values():
            make.customer(self.store, person)

    def list(self, query: str, auth: dict[str, str] | None = None, store: Row | None = None) -> list[str]:
        path = f"/v1/stores/{(store or self.store).id}/customers?{query}"
        answer = self.client.get(path, headers=auth or self.auth)
        assert answer.status_code == 200, answer.text
        return [row["user_id"] for row in (answer.json or {})["data"]]

    def find(self, words: str, auth: dict[str, str] | None = None, store: Row | None = None) -> set[str]:
        """By the keys of `PEOPLE`."""
        found = self.list(f"q={quote(words)}", auth, store)
        return {next((key for key, one in self.people.items() if str(one.id) == each), each) for each in found}


@pytest.fixture
def shop(client: FlaskClient, make: Factory) -> Shop:
    return Shop(client, make)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ada", {"ada", "adam"}),
        ("ADA", {"ada", "adam"}),
        ("love", {"ada"}),
        ("lovelace ada", {"ada"}),
        ("ada ada", {"ada", "adam"}),
        ("ada@", set()),
        ("ada.lovelace@exam", {"ada"}),
        ("example.com", {"ada", "jose", "percent"}),
        ("ada example.com", {"ada"}),
        ("marie", {"anne"}),
        ("anne-m", {"anne"}),
        ("o'n", {"anne"}),
        ("neill", {"anne"}),
        ("jose nunez", {"jose"}),
        ("José", {"jose"}),
        ("angstrom", {"adam"}),
        ("Ångström", {"adam"}),
        ("A\u030angstro\u0308m", {"adam"}),
        ("山", {"yamada"}),
        ("太郎", {"yamada"}),
        ("%", set()),
        ("100%", {"percent"}),
        ("_", set()),
        ("fan_c", {"percent"}),
        ("ovelace", set()),
        ("zoe", set()),
        ("' or 1=1 --", set()),
        ("!!", set()),
        ("\u3000", set()),
        ("\U0010ffff", set()),
    ],
)
def test_what_finds_whom(shop: Shop, words: str, found: set[str]) -> None:
    if words.strip():
        assert shop.find(words) == found
    else:
        answer = shop.client.get(f"/v1/stores/{shop.store.id}/customers?q={quote(words)}", headers=shop.auth)
        assert answer.status_code == 400


def test_pages_by_number_and_by_cursor_hold_each_once(shop: Shop) -> None:
    whole = shop.list("q=example")
    assert len(whole) == len(PEOPLE)
    assert shop.list("q=example&per_page=4") + shop.list("q=example&per_page=4&page=2") == whole
    path, seen = f"/v1/stores/{shop.store.id}/customers?q=example&cursor=&limit=4", []
    while path:
        page = shop.client.get(path, headers=shop.auth).json or {}
        seen += [row["user_id"] for row in page["data"]]
        path = page["links"]["next"]
    assert seen == whole
    answer = shop.client.get(f"/v1/stores/{shop.store.id}/customers?q=ada&sort=created_at", headers=shop.auth)
    assert answer.status_code == 400


def test_a_new_name_is_found_at_once_and_the_old_one_no_more(shop: Shop) -> None:
    assert (shop.find("lovelace"), shop.find("byron")) == ({"ada"}, set())
    auth = shop.make.auth(shop.people["ada"])
    assert shop.client.patch("/v1/me", json={"name": "Ada Byron"}, headers=auth).status_code == 200
    assert shop.find("byron") == {"ada"}
    # By her address still.
    assert shop.find("lovelace") == {"ada"}
    assert shop.find("ada lovelace byron") == {"ada"}


def test_nobody_finds_anybody_elses_customers(shop: Shop) -> None:
    stranger = shop.make.user(name="Someone Else")
    assert shop.find("ada", shop.make.auth(stranger), shop.make.store(stranger)) == set()
    # Members find themselves alone, whatever they look for.
    assert shop.find("example", shop.make.auth(shop.people["jose"])) == {"jose"}
    assert shop.find("ada", shop.make.auth(shop.people["jose"])) == set()


def test_who_was_imported_is_found_by_what_the_store_knows(shop: Shop) -> None:
    """Their own name is none of its business until they come themselves."""
    jose = shop.people["jose"]
    columns = {"store": shop.store.id, "user": jose.id}
    shop.make.rows(
        "update customers set name = 'Pepe Perez', email = 'pepe@club.example'"
        " where store_id = %(store)s and user_id = %(user)s",
        columns,
    )
    assert (shop.find("pepe"), shop.find("club.example"), shop.find("jose"), shop.find("nunez")) == (
        {"jose"},
        {"jose"},
        set(),
        set(),
    )
    shop.make.rows("update users set name = 'José Secret' where id = %(user)s", columns)
    assert shop.find("secret") == set()
    shop.make.rows(
        "update customers set name = null, email = null where store_id = %(store)s and user_id = %(user)s", columns
    )
    assert (shop.find("pepe"), shop.find("secret")) == (set(), {"jose"})
