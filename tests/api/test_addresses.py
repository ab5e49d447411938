from typing import Any
from unittest.mock import ANY

import pytest

from tests.contention import Contention
from tests.factory import Factory
from tests.recorder import QueryRecorder

HOME = {"line1": "Hafenstraße 5", "city": "Kiel", "country": "DE"}
PATH = "/v1/me/addresses"


@pytest.fixture
def user(make: Factory):
    return make.user()


@pytest.fixture
def auth(make: Factory, user) -> dict[str, str]:
    return make.auth(user)


def defaults(client, auth: dict[str, str]) -> list[str]:
    answer = client.get(PATH, headers=auth)
    return [address["id"] for address in answer.json["data"] if address["is_default"]]


def test_an_address_is_made_read_changed_and_removed(client, auth: dict[str, str]):
    made = client.post(PATH, json=HOME, headers=auth)
    assert made.status_code == 201
    address = made.json
    url = f"{PATH}/{address['id']}"
    assert address == {
        "id": ANY,
        "label": "",
        "line1": "Hafenstraße 5",
        "line2": None,
        "city": "Kiel",
        "region": None,
        "postal_code": None,
        "company": None,
        "tax_id": None,
        "country": "DE",
        "is_default": False,
        "version": 1,
        "created_at": ANY,
        "updated_at": ANY,
        "links": {"self": url},
    }
    assert made.headers["Location"] == url

    read = client.get(url, headers=auth)
    assert (read.json, read.headers["ETag"]) == (address, made.headers["ETag"])
    assert read.headers["Cache-Control"] == "private, no-cache"

    changed = client.patch(url, json={"label": "Home", "line2": "left"}, headers=auth)
    assert changed.status_code == 200
    assert changed.json == {**address, "label": "Home", "line2": "left", "version": 2, "updated_at": ANY}
    assert client.patch(url, json={"line2": None}, headers=auth).json["line2"] is None

    removed = client.delete(url, headers=auth)
    assert (removed.status_code, removed.data) == (204, b"")
    assert client.get(url, headers=auth).status_code == 404
    assert client.delete(url, headers=auth).status_code == 404


def test_all_faults_are_told_at_once(client, auth: dict[str, str]):
    body = {"line1": "", "country": "Deutschland", "is_default": "yes", "planet": "Earth", "line2": "a\nb"}
    answer = client.post(PATH, json=body, headers=auth)
    assert answer.status_code == 422
    assert {fault["pointer"]: fault["code"] for fault in answer.json["errors"]} == {
        "#/city": "required",
        "#/country": "pattern",
        "#/is_default": "type",
        "#/line1": "length",
        "#/line2": "pattern",
        "#/planet": "unknown",
    }


def test_a_vat_number_has_one_form_and_its_check_digits(client, auth: dict[str, str]):
    numbers: list[tuple[str, str | None]] = [
        ("DE136695976", "DE136695976"),
        ("de 136.695.976", "DE136695976"),
        ("ATU 13585627", "ATU13585627"),
        ("FR 40 303 265 045", "FR40303265045"),
        ("EL 094259216", "EL094259216"),
        ("NL 4495445B01", "NL004495445B01"),
        ("GB 980 7806 84", "GB980780684"),
        ("CHE-107.787.577 MWST", "CHE107787577MWST"),
        ("DE136695978", None),
        ("DE13669597", None),
        ("EU", None),
        ("none", None),
        ("", None),
        ("DE136695976\n", None),
        ("１２３４５６７８９", None),
        ("<b>12345</b>", None),
        ("1" * 41, None),
    ]
    for typed, kept in numbers:
        answer = client.post(PATH, json={**HOME, "company": "Lovelace GmbH", "tax_id": typed}, headers=auth)
        assert answer.status_code == (201 if kept else 422), (typed, answer.text)
        if kept:
            assert (answer.json["tax_id"], answer.json["company"]) == (kept, "Lovelace GmbH")
        else:
            assert answer.json["errors"][0]["pointer"] == "#/tax_id", typed


def test_a_country_is_two_capital_letters(client, auth: dict[str, str]):
    for country in ("de", "DEU", "D", "D1", "", "DE\n", "ÄÖ"):
        assert client.post(PATH, json={**HOME, "country": country}, headers=auth).status_code == 422, country


@pytest.mark.parametrize("field", ["line1", "city", "country", "label", "is_default"])
def test_what_every_address_has_cannot_be_taken_away(client, auth, make: Factory, user, field: str):
    url = f"{PATH}/{make.address(user).id}"
    assert client.patch(url, json={field: None}, headers=auth).status_code == 422


def test_one_address_is_the_default(client, auth: dict[str, str]):
    first, second, third = (
        client.post(PATH, json={**HOME, "is_default": is_default}, headers=auth).json["id"]
        for is_default in (True, False, True)
    )
    assert defaults(client, auth) == [third]
    assert client.get(f"{PATH}/{first}", headers=auth).json["version"] == 2
    client.patch(f"{PATH}/{second}", json={"is_default": True}, headers=auth)
    assert defaults(client, auth) == [second]
    client.patch(f"{PATH}/{second}", json={"label": "still"}, headers=auth)
    assert defaults(client, auth) == [second]
    client.patch(f"{PATH}/{second}", json={"is_default": False}, headers=auth)
    assert defaults(client, auth) == []


def test_of_addresses_made_the_default_at_once_one_stays_it(
    client, make: Factory, user, auth: dict[str, str], contention: Contention
):
    ids = [make.address(user).id for _ in range(2)]

    def post() -> Any:
        return client.post(PATH, json={**HOME, "is_default": True}, headers=auth)

    def patch(address_id: object) -> Any:
        return client.patch(f"{PATH}/{address_id}", json={"is_default": True}, headers=auth)

    with contention.held("select 1 from users where id = %(id)s for update", id=user.id):
        answers = contention.start(post, lambda: patch(ids[0]), lambda: patch(ids[1]))
    assert sorted(answer.result().status_code for answer in answers) == [200, 200, 201]
    assert len(defaults(client, auth)) == 1


def test_others_addresses_are_not_there(client, make: Factory, auth: dict[str, str]):
    theirs = make.address(make.user())
    url = f"{PATH}/{theirs.id}"
    assert client.get(PATH, headers=auth).json["data"] == []
    assert client.get(url, headers=auth).status_code == 404
    assert client.patch(url, json={"nonsense": 1}, headers=auth).status_code == 404
    assert client.delete(url, headers=auth).status_code == 404
    assert make.value("select count(*) from addresses") == 1


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_if_match_names_the_version(client, make: Factory, user, auth: dict[str, str], method: str):
    url = f"{PATH}/{make.address(user).id}"
    etag = client.get(url, headers=auth).headers["ETag"]
    client.patch(url, json={"label": "moved on"}, headers=auth)
    stale = client.open(url, method=method, json={"label": "late"}, headers={**auth, "If-Match": etag})
    assert (stale.status_code, stale.json["code"]) == (412, "precondition_failed")
    fresh = client.get(url, headers=auth).headers["ETag"]
    kept = client.open(url, method=method, json={"label": "late"}, headers={**auth, "If-Match": f'"x", {fresh}'})
    assert kept.status_code in (200, 204)


def test_the_list_is_one_statement_in_both_forms_of_page(
    client, make: Factory, user, auth: dict[str, str], queries: QueryRecorder
):
    made = [str(make.address(user).id) for _ in range(25)][::-1]
    with queries() as seen:
        page = client.get(f"{PATH}?page=2&per_page=10", headers=auth).json
    assert len(seen) == 2, seen  # the token's, and this one
    assert [address["id"] for address in page["data"]] == made[10:20]
    assert page["meta"]["total"] == 25
    walked: list[str] = []
    url = f"{PATH}?cursor=&limit=7"
    while url:
        answer = client.get(url, headers=auth).json
        walked += [address["id"] for address in answer["data"]]
        url = answer["links"]["next"]
    assert walked == made


@pytest.mark.parametrize(
    ("method", "scope"), [("GET", "account:write"), ("POST", "account:read"), ("POST", "catalog:write")]
)
def test_the_scope_is_asked_for_before_anything_else(client, make: Factory, user, method: str, scope: str):
    answer = client.open(f"{PATH}?nonsense=1", method=method, headers=make.auth(user, scope))
    assert (answer.status_code, answer.json["code"]) == (403, "insufficient_scope")
