from types import SimpleNamespace as Row
from typing import Any
from unittest.mock import ANY

import pytest

from tests.factory import Factory
from tests.recorder import QueryRecorder

GOLD = {"name": "Gold", "amount": 4900, "interval": "month"}


class Shop:
    """A store, and its manager."""

    def __init__(self, client, make: Factory) -> None:
        self.client, self.make = client, make
        self.store = make.store(currency="CHF")
        self.owner = make.auth(Row(id=self.store.owner_id))
        self.manager = make.staff(self.store, role="manager")
        self.auth = make.auth(Row(id=self.manager.user_id))
        self.path = f"/v1/stores/{self.store.id}/packages"

    def post(self, **body: Any) -> Any:
        return self.client.post(self.path, json={**GOLD, **body}, headers=self.auth)

    def as_role(self, role: str | None) -> dict[str, str]:
        user = self.make.user()
        if role:
            self.make.staff(self.store, user, role=role)
        return self.make.auth(user)


@pytest.fixture
def shop(client, make: Factory) -> Shop:
    return Shop(client, make)


class TestPosting:
    def test_a_package_as_little_as_it_takes(self, client, shop: Shop):
        answer = shop.post()
        assert answer.status_code == 201
        package = answer.json
        assert package == {
            "id": ANY,
            "store_id": str(shop.store.id),
            "name": "Gold",
            "description": "",
            "amount": 4900,
            "currency": "CHF",
            "interval": "month",
            "interval_count": 1,
            "trial_days": 0,
            "archived_at": None,
            "version": 1,
            "created_at": ANY,
            "updated_at": ANY,
            "links": {"self": f"{shop.path}/{package['id']}"},
        }
        assert answer.headers["Location"] == package["links"]["self"]
        read = client.get(package["links"]["self"])
        assert (read.json, read.headers["ETag"]) == (package, answer.headers["ETag"])

    def test_a_package_with_everything(self, shop: Shop):
        whole = {**GOLD, "description": "All halls", "currency": "EUR", "trial_days": 14}
        shop.client.patch(f"/v1/stores/{shop.store.id}", json={"currencies": ["EUR"]}, headers=shop.owner)
        assert shop.post(**whole).json.items() >= whole.items()

    def test_prices_are_in_currencies_that_the_store_takes(self, shop: Shop):
        for currency in ("EUR", "ZZZ"):
            answer = shop.post(currency=currency)
            assert answer.status_code == 422
            assert [(f["pointer"], f["code"]) for f in answer.json["errors"]] == [("#/currency", "choice")]
        url = shop.post(currency="CHF").headers["Location"]
        answer = shop.client.patch(url, json={"currency": "EUR"}, headers=shop.owner)
        assert [(f["pointer"], f["code"]) for f in answer.json["errors"]] == [("#/currency", "choice")]
        shop.client.patch(f"/v1/stores/{shop.store.id}", json={"currencies": ["EUR"]}, headers=shop.owner)
        assert shop.client.patch(url, json={"currency": "EUR"}, headers=shop.owner).json["currency"] == "EUR"

    def test_all_faults_are_told_at_once(self, shop: Shop):
        answer = shop.post(name="", amount=-1, interval="day", currency="eur", trial_days=1.5, colour="red")
        assert answer.status_code == 422
        assert {fault["pointer"]: fault["code"] for fault in answer.json["errors"]} == {
            "#/amount": "range",
            "#/colour": "unknown",
            "#/currency": "pattern",
            "#/interval": "choice",
            "#/name": "length",
            "#/trial_days": "type",
        }

    @pytest.mark.parametrize("amount", [10**12, 10**30, 1.0, "4900", True, None])
    def test_an_amount_is_a_bounded_whole_number(self, shop: Shop, amount: object):
        assert shop.post(amount=amount).status_code == 422

    @pytest.mark.parametrize(("role", "status"), [("owner", 201), ("manager", 201), ("support", 403), (None, 403)])
    def test_is_for_managers(self, client, shop: Shop, role: str | None, status: int):
        assert client.post(shop.path, json=GOLD, headers=shop.as_role(role)).status_code == status

    def test_only_with_a_token_its_scope_and_its_store(self, client, make: Factory, shop: Shop):
        user = Row(id=shop.manager.user_id)
        assert client.post(shop.path, json=GOLD).status_code == 401
        for auth in (make.auth(user, "catalog:read"), make.auth(user, store=make.store())):
            assert client.post(shop.path, json=GOLD, headers=auth).status_code == 403
        assert client.post(shop.path, json=GOLD, headers=make.auth(user, store=shop.store)).status_code == 201


class TestReading:
    def test_everybody_sees_those_on_sale(self, client, make: Factory, shop: Shop, queries: QueryRecorder):
        on_sale = [str(make.package(shop.store).id) for _ in range(3)][::-1]
        make.package(shop.store, archived_at="2026-01-01")
        make.package(make.store())
        with queries() as seen:
            answer = client.get(shop.path)
        assert len(seen) == 2, seen  # the store's, and this one
        assert [package["id"] for package in answer.json["data"]] == on_sale
        assert answer.json["meta"]["total"] == 3
        assert answer.headers["Cache-Control"] == "public, no-cache"
        assert client.get(f"{shop.path}?archived=false").json["data"] == answer.json["data"]

    @pytest.mark.parametrize("role", ["owner", "manager", "support"])
    def test_staff_see_archived_ones_too(self, client, make: Factory, shop: Shop, role: str):
        make.package(shop.store)
        archived = make.package(shop.store, archived_at="2026-01-01")
        answer = client.get(f"{shop.path}?archived=true", headers=shop.as_role(role))
        assert [package["id"] for package in answer.json["data"]] == [str(archived.id)]
        assert answer.headers["Cache-Control"] == "private, no-cache"

    def test_nobody_else_does(self, client, make: Factory, shop: Shop):
        url, manager = f"{shop.path}?archived=true", Row(id=shop.manager.user_id)
        assert client.get(url).status_code == 401
        assert client.get(url, headers=shop.as_role(None)).status_code == 403
        assert client.get(url, headers=make.auth(manager, "payments:read")).status_code == 403
        assert client.get(url, headers=make.auth(manager, store=make.store())).status_code == 403

    def test_an_archived_one_can_still_be_read_by_who_has_its_url(self, client, make: Factory, shop: Shop):
        package = make.package(shop.store, archived_at="2026-01-01")
        assert client.get(f"{shop.path}/{package.id}").json["archived_at"].startswith("2026-01-01")

    def test_a_package_is_below_its_own_store_only(self, client, make: Factory, shop: Shop):
        package = make.package(make.store())
        assert client.get(f"{shop.path}/{package.id}").status_code == 404
        answer = client.patch(f"{shop.path}/{package.id}", json={"name": "Mine"}, headers=shop.auth)
        assert answer.status_code == 404

    def test_filters_and_sorts(self, client, make: Factory, shop: Shop):
        for amount, interval in ((100, "once"), (200, "month"), (300, "month"), (400, "year")):
            make.package(shop.store, amount=amount, interval=interval)

        def amounts(query: str) -> list[int]:
            return [package["amount"] for package in client.get(f"{shop.path}?{query}").json["data"]]

        assert amounts("interval=month") == [300, 200]
        assert amounts("amount[gte]=200&amount[lt]=400&sort=created_at") == [200, 300]
        assert amounts("amount=400") == [400]
        for query in ("interval=day", "amount[gt]=x", "colour=red", "sort=name", "archived=1", "page=1&cursor="):
            assert client.get(f"{shop.path}?{query}").status_code == 400


class TestChanging:
    def test_a_manager_may(self, client, shop: Shop):
        url = shop.post().json["links"]["self"]
        answer = client.patch(url, json={"amount": 5900, "description": "Now with sauna"}, headers=shop.auth)
        assert answer.status_code == 200
        assert (answer.json["amount"], answer.json["description"], answer.json["version"]) == (
            5900,
            "Now with sauna",
            2,
        )
        assert client.get(url).json == answer.json

    @pytest.mark.parametrize("body", [{"amount": None}, {"store_id": "x"}, {"archived_at": None}, {"interval": "day"}])
    def test_a_change_is_validated(self, client, shop: Shop, body: object):
        assert client.patch(shop.post().json["links"]["self"], json=body, headers=shop.auth).status_code == 422

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    @pytest.mark.parametrize("role", ["support", None])
    def test_nobody_below_a_manager_may(self, client, shop: Shop, method: str, role: str | None):
        url = shop.post().json["links"]["self"]
        assert client.open(url, method=method, json={"nonsense": 1}, headers=shop.as_role(role)).status_code == 403

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    def test_if_match_names_the_version(self, client, shop: Shop, method: str):
        made = shop.post()
        url = made.json["links"]["self"]
        client.patch(url, json={"amount": 1}, headers=shop.auth)
        stale = {**shop.auth, "If-Match": made.headers["ETag"]}
        assert client.open(url, method=method, json={"amount": 2}, headers=stale).status_code == 412
        # Fewer fields are another representation of the same version.
        fresh = {**shop.auth, "If-Match": client.get(f"{url}?fields=id").headers["ETag"]}
        assert client.open(url, method=method, json={"amount": 2}, headers=fresh).status_code == 200

    def test_an_etag_that_compression_has_marked_matches(self, client, shop: Shop):
        made = shop.post(description="x" * 3000)
        url = made.json["links"]["self"]
        read = client.get(url, headers={"Accept-Encoding": "gzip"})
        assert read.headers["Content-Encoding"] == "gzip"
        marked = made.headers["ETag"].rstrip('"') + ':gzip"'
        assert client.get(url, headers={"If-None-Match": marked}).status_code == 304
        answer = client.patch(url, json={"amount": 1}, headers={**shop.auth, "If-Match": marked})
        assert answer.status_code == 200


class TestArchiving:
    def test_ends_the_sale_and_answers_with_the_package(self, client, shop: Shop):
        url = shop.post().json["links"]["self"]
        answer = client.delete(url, headers=shop.auth)
        assert answer.status_code == 200
        assert answer.json["archived_at"] is not None
        assert client.get(shop.path).json["data"] == []
        again = client.delete(url, headers=shop.auth)
        assert (again.status_code, again.json) == (200, answer.json)

    def test_what_is_archived_stays_as_it_is(self, client, shop: Shop):
        url = shop.post().json["links"]["self"]
        client.delete(url, headers=shop.auth)
        answer = client.patch(url, json={"amount": 1}, headers=shop.auth)
        assert (answer.status_code, answer.json["code"]) == (409, "package_archived")
        assert client.get(url).json["amount"] == 4900


class TestIdempotency:
    def post(self, client, shop: Shop, auth: dict[str, str] | None = None, **body: Any) -> Any:
        headers = {**(auth or shop.auth), "Idempotency-Key": "k"}
        return client.post(shop.path, json={**GOLD, **body}, headers=headers)

    def test_the_same_request_has_one_effect_and_one_answer(self, client, make: Factory, shop: Shop):
        first, again = self.post(client, shop), self.post(client, shop)
        assert (again.status_code, again.data) == (201, first.data)
        for name in ("Location", "ETag", "Content-Type"):
            assert again.headers[name] == first.headers[name]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert make.value("select count(*) from packages") == 1

    def test_another_body_is_refused(self, client, make: Factory, shop: Shop):
        self.post(client, shop)
        answer = self.post(client, shop, amount=1)
        assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
        assert make.value("select count(*) from packages") == 1

    def test_another_callers_and_another_routes_keys_are_others(self, client, make: Factory, shop: Shop):
        assert self.post(client, shop).status_code == 201
        theirs = self.post(client, shop, shop.as_role("manager"))
        assert "Idempotency-Replayed" not in theirs.headers
        elsewhere = make.store(Row(id=shop.manager.user_id))
        headers = {**shop.auth, "Idempotency-Key": "k"}
        answer = client.post(f"/v1/stores/{elsewhere.id}/packages", json=GOLD, headers=headers)
        assert answer.status_code == 201
        assert make.value("select count(*) from packages") == 3

    def test_a_refusal_is_not_kept(self, client, make: Factory, shop: Shop):
        assert self.post(client, shop, amount=-1).status_code == 422
        assert self.post(client, shop).status_code == 201

    def test_after_a_day_the_key_is_new(self, client, make: Factory, shop: Shop):
        self.post(client, shop)
        make.rows("update idempotency_keys set created_at = now() - interval '25 hours'")
        assert "Idempotency-Replayed" not in self.post(client, shop, amount=1).headers
        assert "Idempotency-Replayed" in self.post(client, shop, amount=1).headers

    def test_who_may_not_write_any_more_gets_no_replay(self, client, make: Factory, shop: Shop):
        self.post(client, shop)
        make.rows("delete from store_staff where user_id = %(id)s", {"id": shop.manager.user_id})
        assert self.post(client, shop).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_writes_take_no_parameters(client, shop: Shop, method: str):
    url = shop.path if method == "POST" else shop.post().json["links"]["self"]
    answer = client.open(f"{url}?dry_run=1", method=method, json={"amount": "x"}, headers=shop.auth)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["parameter"] == "dry_run"
