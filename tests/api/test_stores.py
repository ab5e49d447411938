from typing import Any
from unittest.mock import ANY

import pytest

from tests.contention import Contention
from tests.factory import Factory
from tests.recorder import QueryRecorder

SELLER = {
    "legal_name": "Kestrel e.V.",
    "address": {"line1": "Felsgasse 12", "line2": None, "city": "Berlin", "region": None, "postal_code": "10115"},
    "country": "DE",
    "tax_id": "DE123456789",
    "contact_email": "hello@kestrel.example",
    "website": "https://kestrel.example/shop",
    "invoice_prefix": "KES-1",
    "invoice_note": "Exempt from VAT.\nThank you!",
}
NOBODY = "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"


class TestFounding:
    def test_anybody_may_and_owns_it(self, client, make: Factory):
        user = make.user()
        auth = make.auth(user)
        answer = client.post("/v1/stores", json={"name": "Kletterhalle", "currency": "EUR"}, headers=auth)
        assert answer.status_code == 201
        store = answer.json
        assert store == {
            "id": ANY,
            "owner_id": str(user.id),
            "name": "Kletterhalle",
            "slug": "kletterhalle",
            "currency": "EUR",
            "currencies": ["EUR"],
            "timezone": "UTC",
            "test": False,
            "dunning": "cancel",
            "grace_days": 7,
            **dict.fromkeys(SELLER),
            "notify_new_payment": False,
            "language": "en",
            "paper": None,
            "tax_rate": 0,
            "version": 1,
            "created_at": ANY,
            "updated_at": ANY,
            "links": {
                "self": f"/v1/stores/{store['id']}",
                "packages": f"/v1/stores/{store['id']}/packages",
                "logo": None,
            },
        }
        assert answer.headers["Location"] == store["links"]["self"]
        read = client.get(store["links"]["self"])
        assert (read.json, read.headers["ETag"]) == (store, answer.headers["ETag"])
        staff = client.get(f"/v1/stores/{store['id']}/staff", headers=auth).json["data"]
        assert [(one["user_id"], one["role"]) for one in staff] == [(str(user.id), "owner")]

    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("North Coast  Climbing!", "north-coast-climbing"),
            ("Café Übergang", "cafe-ubergang"),
            ("x" * 200, "x" * 56),
            ("--a--", "a"),
        ],
    )
    def test_a_slug_is_made_of_the_name(self, client, make: Factory, name: str, slug: str):
        answer = client.post("/v1/stores", json={"name": name, "currency": "EUR"}, headers=make.auth(make.user()))
        assert answer.json["slug"] == slug

    def test_of_a_name_that_gives_no_slug_or_a_taken_one_something_random_is_made(self, client, make: Factory):
        auth = make.auth(make.user())
        slugs = [
            client.post("/v1/stores", json={"name": name, "currency": "JPY"}, headers=auth).json["slug"]
            for name in ("東京", "東京", "Gym", "Gym", "gym")
        ]
        assert len(set(slugs)) == 5
        assert all(slug.startswith("store-") for slug in slugs[:2])
        assert slugs[2] == "gym"
        assert all(slug.startswith("gym-") for slug in slugs[3:])

    def test_a_slug_that_is_asked_for_must_be_free(self, client, make: Factory):
        auth = make.auth(make.user())
        body = {"name": "Gym", "currency": "EUR", "slug": "the-gym"}
        assert client.post("/v1/stores", json=body, headers=auth).json["slug"] == "the-gym"
        answer = client.post("/v1/stores", json=body, headers=auth)
        assert (answer.status_code, answer.json["code"]) == (409, "slug_taken")
        assert make.value("select count(*) from stores") == 1

    def test_of_two_at_once_one_gets_the_slug(self, client, make: Factory, contention: Contention):
        user = make.user()
        auth = make.auth(user)
        insert = (
            "insert into stores(id, owner_id, name, slug, currency) values (%(store)s, %(user)s, 'Gym', 'gym', 'EUR')"
        )
        body = {"name": "Gym", "currency": "EUR", "slug": "gym"}
        with contention.held(insert, store=NOBODY, user=user.id):
            (late,) = contention.start(lambda: client.post("/v1/stores", json=body, headers=auth))
        assert (late.result().status_code, late.result().json["code"]) == (409, "slug_taken")

    def test_all_faults_are_told_at_once(self, client, make: Factory):
        body = {"name": " ", "currency": "EUR\n", "slug": "Not A Slug", "owner_id": NOBODY}
        answer = client.post("/v1/stores", json=body, headers=make.auth(make.user()))
        assert answer.status_code == 422
        assert {fault["pointer"]: fault["code"] for fault in answer.json["errors"]} == {
            "#/currency": "pattern",
            "#/name": "pattern",
            "#/owner_id": "unknown",
            "#/slug": "pattern",
        }

    def test_a_slug_is_words_joined_by_hyphens(self, client, make: Factory):
        auth = make.auth(make.user())
        for slug in ("", "-a", "a-", "a--b", "ä", "a_b", "x" * 64, "a\n"):
            body = {"name": "Gym", "currency": "EUR", "slug": slug}
            assert client.post("/v1/stores", json=body, headers=auth).status_code == 422, slug

    def test_not_with_a_token_bound_to_a_store_or_without_the_scope(self, client, make: Factory):
        user = make.user()
        bound = client.post("/v1/stores", json={}, headers=make.auth(user, store=make.store(user)))
        assert (bound.status_code, bound.json["code"]) == (403, "wrong_store")
        assert client.post("/v1/stores", json={}, headers=make.auth(user, "catalog:read")).status_code == 403
        assert client.post("/v1/stores", json={}).status_code == 401


class TestReading:
    def test_everybody_can_list_them(self, client, make: Factory, queries: QueryRecorder):
        made = [make.store() for _ in range(12)][::-1]
        with queries() as seen:
            answer = client.get("/v1/stores?per_page=10")
        assert len(seen) == 1, seen
        assert [store["id"] for store in answer.json["data"]] == [str(store.id) for store in made[:10]]
        assert answer.json["meta"]["total"] == 12
        assert answer.headers["Cache-Control"] == "public, no-cache"

    def test_they_are_found_by_slug_and_owner(self, client, make: Factory):
        store, _ = make.store(slug="gym"), make.store()
        for query in ("slug=gym", f"owner_id={store.owner_id}"):
            found = client.get(f"/v1/stores?{query}").json["data"]
            assert [one["id"] for one in found] == [str(store.id)]
        assert client.get("/v1/stores?slug=none").json["data"] == []

    @pytest.mark.parametrize("store_id", [NOBODY, "gym", "7"])
    def test_one_that_does_not_exist_is_not_found(self, client, make: Factory, store_id: str):
        auth = make.auth(make.user())
        for path in ("", "/staff", "/packages"):
            assert client.get(f"/v1/stores/{store_id}{path}", headers=auth).status_code == 404

    def test_what_one_has_is_not_sent_again(self, client, make: Factory):
        url = f"/v1/stores/{make.store().id}"
        etag = client.get(url).headers["ETag"]
        answer = client.get(url, headers={"If-None-Match": etag})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)
        assert client.get(f"{url}?fields=name", headers={"If-None-Match": etag}).status_code == 200


class TestChanging:
    def test_its_owner_may(self, client, make: Factory):
        owner = make.user()
        store = make.store(owner)
        url, auth = f"/v1/stores/{store.id}", make.auth(owner)
        answer = client.patch(url, json={"name": "New", "slug": "new", "currency": "CHF"}, headers=auth)
        assert answer.status_code == 200
        assert client.get(url).json == answer.json
        assert (answer.json["slug"], answer.json["version"]) == ("new", 2)
        assert client.patch(url, json={"slug": make.store().slug}, headers=auth).status_code == 409
        assert client.patch(url, json={"owner_id": NOBODY}, headers=auth).status_code == 422

    def test_what_it_prints_about_itself_is_shown_to_everybody_and_can_be_taken_away(self, client, make: Factory):
        owner = make.user()
        store = make.store(owner)
        path, auth = f"/v1/stores/{store.id}", make.auth(owner)
        answer = client.patch(path, json=SELLER | {"notify_new_payment": True}, headers=auth)
        assert answer.status_code == 200, answer.text
        shown = client.get(path).json
        assert {name: shown[name] for name in SELLER} == SELLER
        assert shown["notify_new_payment"] is True
        client.patch(path, json=dict.fromkeys(SELLER), headers=auth)
        assert {name: value for name, value in client.get(path).json.items() if name in SELLER} == dict.fromkeys(SELLER)

    def test_what_it_prints_is_checked(self, client, make: Factory):
        owner = make.user()
        path, auth = f"/v1/stores/{make.store(owner).id}", make.auth(owner)
        wrong: list[tuple[str, object]] = [
            ("legal_name", ""),
            ("legal_name", "two\nlines"),
            ("legal_name", "x" * 201),
            ("address", {"line1": "Felsgasse 12"}),
            ("address", {"line1": "Felsgasse 12", "city": "Berlin", "country": "DE"}),
            ("address", ["Felsgasse 12", "Berlin"]),
            ("country", "ZZ"),
            ("tax_id", "\u202e321ED"),
            ("contact_email", "nobody"),
            ("contact_email", "a@b.example\r\nBcc: c@d.example"),
            ("website", "javascript:alert(1)"),
            ("website", "https://user:pass@kestrel.example"),
            ("website", "https://kestrel.example/ x"),
            ("invoice_prefix", "kes"),
            ("invoice_prefix", "KES-"),
            ("invoice_prefix", "A" * 13),
            ("invoice_note", "x" * 1001),
            ("notify_new_payment", "yes"),
            ("language", "it"),
            ("language", None),
            ("paper", "a5"),
            ("tax_rate", -1),
            ("tax_rate", 1_000_001),
            ("tax_rate", 19.5),
        ]
        for field, value in wrong:
            answer = client.patch(path, json={field: value}, headers=auth)
            assert answer.status_code == 422, (field, value)
            assert answer.json["errors"][0]["pointer"].startswith(f"#/{field}"), (field, value)

    def test_if_match_names_the_version(self, client, make: Factory):
        owner = make.user()
        url, auth = f"/v1/stores/{make.store(owner).id}", make.auth(owner)
        etag = client.get(url).headers["ETag"]
        assert client.patch(url, json={"name": "One"}, headers={**auth, "If-Match": etag}).status_code == 200
        assert client.patch(url, json={"name": "Two"}, headers={**auth, "If-Match": etag}).status_code == 412

    @pytest.mark.parametrize("role", ["manager", "support", None])
    def test_nobody_else_may(self, client, make: Factory, role: str | None):
        store, user = make.store(), make.user()
        if role:
            make.staff(store, user, role=role)
        # The role is looked at before the body.
        answer = client.patch(f"/v1/stores/{store.id}", json={"nonsense": 1}, headers=make.auth(user))
        assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


class Shop:
    """A store with an owner, and what the owner does with its staff."""

    def __init__(self, client, make: Factory) -> None:
        self.client, self.make = client, make
        self.owner = make.user(name="Olga Owner")
        self.store = make.store(self.owner)
        self.auth = make.auth(self.owner)
        self.path = f"/v1/stores/{self.store.id}/staff"

    def put(self, user: Any, role: str, auth: dict[str, str] | None = None) -> Any:
        return self.client.put(f"{self.path}/{user.id}", json={"role": role}, headers=auth or self.auth)

    def remove(self, user: Any, auth: dict[str, str] | None = None) -> Any:
        return self.client.delete(f"{self.path}/{user.id}", headers=auth or self.auth)

    def roles(self) -> dict[str, str]:
        listed = self.client.get(self.path, headers=self.auth).json["data"]
        return {one["name"]: one["role"] for one in listed}


@pytest.fixture
def shop(client, make: Factory) -> Shop:
    return Shop(client, make)


class TestStaff:
    def test_an_owner_appoints_them(self, client, make: Factory, shop: Shop):
        user = make.user(name="Max")
        answer = shop.put(user, "support")
        url = f"{shop.path}/{user.id}"
        assert answer.status_code == 200
        assert answer.json == {
            "id": ANY,
            "user_id": str(user.id),
            "name": "Max",
            "role": "support",
            "version": 1,
            "created_at": ANY,
            "updated_at": ANY,
            "links": {"self": url, "user": f"/v1/users/{user.id}"},
        }
        assert client.get(url, headers=shop.auth).json == answer.json
        assert shop.roles() == {"Olga Owner": "owner", "Max": "support"}

    def test_an_owner_promotes_and_removes_them(self, make: Factory, shop: Shop):
        user = make.user(name="Max")
        shop.put(user, "support")
        assert shop.put(user, "manager").json["version"] == 2
        assert shop.put(user, "manager").json["version"] == 2
        assert shop.roles()["Max"] == "manager"
        assert shop.remove(user).status_code == 204
        assert shop.roles() == {"Olga Owner": "owner"}
        assert shop.remove(user).status_code == 404

    @pytest.mark.parametrize("role", ["support", "manager"])
    def test_everybody_may_leave(self, make: Factory, shop: Shop, role: str):
        """Nobody asked them whether they wanted to be there."""
        user, other = make.user(name="Max"), make.user(name="Mia")
        shop.put(user, role), shop.put(other, role)
        auth = make.auth(user)
        assert shop.remove(other, auth).status_code == 403
        assert shop.remove(user, make.auth(user, store=make.store())).status_code == 403
        assert shop.remove(user, auth).status_code == 204
        assert shop.remove(user, auth).status_code == 403
        assert shop.roles() == {"Olga Owner": "owner", "Mia": role}

    @pytest.mark.parametrize("body", [{}, {"role": "boss"}, {"role": None}, {"role": "owner", "name": "x"}])
    def test_a_role_is_one_of_three(self, client, make: Factory, shop: Shop, body: object):
        url = f"{shop.path}/{make.user().id}"
        assert client.put(url, json=body, headers=shop.auth).status_code == 422

    @pytest.mark.parametrize("user_id", [NOBODY, "7"])
    def test_nobody_can_be_appointed_who_does_not_exist(self, client, shop: Shop, user_id: str):
        answer = client.put(f"{shop.path}/{user_id}", json={"role": "boss"}, headers=shop.auth)
        assert answer.status_code == 404

    @pytest.mark.parametrize(("role", "reads"), [("manager", 200), ("support", 200), (None, 403)])
    def test_staff_read_and_nobody_but_owners_appoints(
        self, client, make: Factory, shop: Shop, role: str | None, reads: int
    ):
        user = make.user()
        if role:
            make.staff(shop.store, user, role=role)
        auth = make.auth(user)
        assert client.get(shop.path, headers=auth).status_code == reads
        assert client.get(f"{shop.path}/{shop.owner.id}", headers=auth).status_code == reads
        assert shop.put(make.user(), "owner", auth).status_code == 403
        assert shop.remove(shop.owner, auth).status_code == 403

    def test_only_with_a_token_its_scope_and_its_store(self, client, make: Factory, shop: Shop):
        assert client.get(shop.path).status_code == 401
        assert client.get(shop.path, headers=make.auth(shop.owner, "catalog:write")).status_code == 403
        other = make.auth(shop.owner, store=make.store(shop.owner))
        assert client.get(shop.path, headers=other).status_code == 403
        assert shop.put(make.user(), "support", other).status_code == 403

    def test_the_list_is_one_statement(self, client, make: Factory, shop: Shop, queries: QueryRecorder):
        for _ in range(30):
            make.staff(shop.store)
        with queries() as seen:
            answer = client.get(f"{shop.path}?per_page=100", headers=shop.auth)
        assert len(seen) == 2, seen  # the token's and the role's, and this one
        assert len(answer.json["data"]) == 31

    def test_if_match_names_the_version(self, client, make: Factory, shop: Shop):
        user = make.user()
        shop.put(user, "support")
        etag = shop.put(user, "manager").headers["ETag"]
        url = f"{shop.path}/{user.id}"
        for name, status in (('"1.x"', 412), ("*", 200), (etag, 200)):
            headers = {**shop.auth, "If-Match": name}
            assert client.put(url, json={"role": "manager"}, headers=headers).status_code == status
        assert client.delete(url, headers={**shop.auth, "If-Match": '"1.x"'}).status_code == 412
        assert client.delete(url, headers={**shop.auth, "If-Match": etag}).status_code == 204
        # Of one who is not on the staff any more there is nothing that could match.
        for name in ("*", etag):
            headers = {**shop.auth, "If-Match": name}
            assert client.put(url, json={"role": "manager"}, headers=headers).status_code == 412


class TestLastOwner:
    def test_stays(self, shop: Shop):
        for answer in (shop.remove(shop.owner), shop.put(shop.owner, "manager")):
            assert (answer.status_code, answer.json["code"]) == (409, "last_owner")
        assert shop.put(shop.owner, "owner").status_code == 200
        assert shop.roles() == {"Olga Owner": "owner"}

    def test_may_go_once_there_is_another_who_then_owns_the_store(self, client, make: Factory, shop: Shop):
        heir = make.user()
        shop.put(heir, "owner")
        assert client.get(f"/v1/stores/{shop.store.id}").json["owner_id"] == str(shop.owner.id)
        assert shop.put(shop.owner, "support").status_code == 200
        assert client.get(f"/v1/stores/{shop.store.id}").json["owner_id"] == str(heir.id)
        assert client.get(f"/v1/users/{shop.owner.id}").json["stores_count"] == 0
        assert shop.put(heir, "support").status_code == 403

    def test_of_two_who_remove_each_other_at_once_one_stays(
        self, client, make: Factory, shop: Shop, contention: Contention
    ):
        other = make.user()
        shop.put(other, "owner")
        auth = make.auth(other)
        with contention.held("select 1 from stores where id = %(id)s for update", id=shop.store.id):
            answers = contention.start(lambda: shop.remove(other), lambda: shop.remove(shop.owner, auth))
        # The second has no right to it any more.
        assert sorted(answer.result().status_code for answer in answers) == [204, 403]
        assert make.value("select count(*) from store_staff where role = 'owner'") == 1

    def test_of_two_who_step_down_at_once_one_stays(self, client, make: Factory, shop: Shop, contention: Contention):
        other = make.user()
        shop.put(other, "owner")
        auth = make.auth(other)
        with contention.held("select 1 from stores where id = %(id)s for update", id=shop.store.id):
            answers = contention.start(
                lambda: shop.put(shop.owner, "support"), lambda: shop.put(other, "support", auth)
            )
        assert sorted(answer.result().status_code for answer in answers) == [200, 409]
        assert make.value("select count(*) from store_staff where role = 'owner'") == 1
