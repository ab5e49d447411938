"""`POST /v1/batch`: several requests in one, each as if it had come alone, or all of them or none."""

import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace as Made
from typing import Any

import pytest
from flask import Flask

from tests.api.batch.conftest import Post, owner_of
from tests.factory import Factory
from tests.recorder import QueryRecorder
from tests.servers import wait_until


def test_operations_run_in_their_order_and_use_earlier_answers(post: Post, packages: Any, store: Made) -> None:
    path = f"/v1/stores/{store.id}/packages"
    status, results = post(
        packages("a", name="First"),
        {"id": "b", "method": "PATCH", "path": f"{path}/$a.id", "body": {"name": "Second"}, "if_version": 1},
        {"id": "c", "method": "GET", "path": f"{path}/$a.id?fields=id,name,version"},
        packages("d", name={"$ref": "b#/name"}, amount={"$ref": "a#/amount"}),
        {"id": "e", "method": "DELETE", "path": f"{path}/$d.id", "if_version": 7},
    )
    assert status == 207
    assert [result["status"] for result in results.values()] == [201, 200, 200, 201, 412]
    assert results["a"]["headers"]["Location"] == f"{path}/{results['a']['body']['id']}"
    assert re.fullmatch(r'"1\.\w+"|"1"', results["a"]["headers"]["ETag"])
    assert results["c"]["body"] == {"id": results["a"]["body"]["id"], "name": "Second", "version": 2}
    assert (results["d"]["body"]["name"], results["d"]["body"]["amount"]) == ("Second", 1500)
    assert (results["e"]["body"]["code"], results["e"]["body"]["version"]) == ("precondition_failed", 1)


READ = {"id": "a", "method": "GET", "path": "/v1/stores"}


@pytest.mark.parametrize(
    ("operations", "status", "pointer"),
    [
        ([], 422, "#/operations"),
        ([READ | {"id": f"o{i}"} for i in range(101)], 422, "#/operations"),
        ([{"method": "GET", "path": "/v1/stores"}], 400, "#/operations/0/id"),
        ([READ | {"id": 5}], 400, "#/operations/0/id"),
        ([READ | {"id": "a/b"}], 400, "#/operations/0/id"),
        ([READ, READ], 400, "#/operations/1/id"),
        ([READ | {"method": "TRACE"}], 422, "#/operations/0/method"),
        ([READ | {"path": "https://elsewhere/v1/stores"}], 422, "#/operations/0/path"),
        ([READ | {"if_version": 0}], 422, "#/operations/0/if_version"),
        ([READ | {"headers": {}}], 422, "#/operations/0/headers"),
        ([READ | {"path": "/v1/stores/$b.id"}, READ | {"id": "b"}], 400, "#/operations/0"),
        ([READ | {"body": {"x": [{"$ref": "a#/id"}]}}], 400, "#/operations/0"),
        ([READ | {"body": {"$ref": "nowhere"}}], 400, "#/operations/0/body"),
        ([READ | {"body": {"$ref": 5}}], 400, "#/operations/0/body"),
    ],
)
def test_what_is_wrong_with_a_batch(post: Post, operations: Any, status: int, pointer: str) -> None:
    answered, problem = post(*operations)
    assert (answered, problem["errors"][0]["pointer"]) == (status, pointer)


def test_nothing_but_an_id_is_referred_to_in_a_path(post: Post, store: Made) -> None:
    """A name could make the path that of another route, which counts under another limit."""
    one = {"id": "a", "method": "PATCH", "path": f"/v1/stores/{store.id}", "body": {"name": "payments"}}
    paths = [f"/v1/stores/{store.id}/$a.name", "/v1/stores/$a.version", "/v1/stores/$a.links"]
    read = [{"id": f"b{n}", "method": "GET", "path": path} for n, path in enumerate(paths)]
    status, results = post(one, *read)
    assert status == 207
    assert [result["status"] for result in results.values()] == [200, 424, 424, 424]


def test_references_do_not_multiply_what_was_sent(post: Post, packages: Any) -> None:
    """A few bytes stand for a long answer as often as they are written."""
    long = {"description": "x" * 2000}
    many = [{"$ref": "a#/description"}] * 5000
    status, results = post(
        packages("a", **long),
        packages("b", name={"$ref": "a#/links"}),
        packages("c", name=many),
        packages("d", name={"$ref": "a#/name"}),
    )
    assert status == 207
    assert [result["status"] for result in results.values()] == [201, 424, 413, 201]


def test_an_operation_is_refused_as_it_would_be_alone(post: Post, packages: Any, store: Made) -> None:
    _, results = post(
        packages("a", amount="much"),
        {"id": "b", "method": "PATCH", "path": f"/v1/stores/{store.id}/packages/$a.id", "body": {}},
        {"id": "c", "method": "PATCH", "path": "/v1/stores", "body": {}},
        {"id": "d", "method": "GET", "path": "/v1/stores/42/packages"},
        {"id": "e", "method": "GET", "path": "/v1/stores?colour=red"},
        {"id": "f", "method": "POST", "path": "/v1/batch", "body": {"operations": [READ]}},
        {"id": "g", "method": "POST", "path": "/v1/tokens", "body": {}},
        {"id": "h", "method": "GET", "path": f"/v1/jobs/{store.id}/events"},
        {"id": "i", "method": "GET", "path": f"/v1/stores/{store.id}/reports/{store.id}/file"},
        {"id": "j", "method": "POST", "path": f"/v1/stores/{store.id}/payments", "body": {}},
        {"id": "k", "method": "GET", "path": "/v1//stores"},
        READ | {"id": "l"},
        {"id": "m", "method": "GET", "path": f"/v1/stores/{store.id}/packages/$l.data"},
        {"id": "n", "method": "GET", "path": f"/v1/stores/{store.id}/packages/$l.data.0.id"},
        packages("o", name={"$ref": "l#/data/7/name"}),
        {"id": "p", "method": "POST", "path": f"/v1/unsubscribe?token={store.id}"},
    )
    assert {id_: (result["status"], (result["body"] or {}).get("code")) for id_, result in results.items()} == {
        "a": (422, "validation"),
        "b": (424, "failed_dependency"),
        "c": (405, "method_not_allowed"),
        "d": (404, "not_found"),
        "e": (400, "invalid_parameter"),
        "f": (400, "not_composable"),
        "g": (400, "not_composable"),
        "h": (400, "not_composable"),
        "i": (400, "not_composable"),
        "j": (400, "idempotency_key_required"),
        "k": (404, "not_found"),
        "l": (200, None),
        "m": (424, "failed_dependency"),
        "n": (404, "not_found"),
        "o": (424, "failed_dependency"),
        "p": (400, "not_composable"),
    }
    assert results["a"]["body"]["errors"][0]["pointer"] == "#/amount"
    assert results["a"]["body"]["instance"] == f"/v1/stores/{store.id}/packages"


def test_of_a_hundred_exactly_the_bad_ones_fail(post: Post, packages: Any, make: Factory) -> None:
    bad = {17, 50, 99}
    status, results = post(*(packages(f"p{i}", amount=-5 if i in bad else 100 + i) for i in range(100)))
    assert status == 207
    assert {i for i in range(100) if results[f"p{i}"]["status"] != 201} == bad
    assert make.value("select count(*) from packages") == 97
    # Each has its event, numbered without a gap.
    assert make.value("select array_agg(seq order by seq) from events") == list(range(1, 98))


def test_it_stops_where_it_is_told_to(post: Post, packages: Any, make: Factory) -> None:
    _, results = post(packages("a"), packages("b", amount=-1), packages("c"), READ | {"id": "d"}, on_error="stop")
    assert [result["status"] for result in results.values()] == [201, 422, 424, 424]
    assert results["c"]["body"]["code"] == "stopped"
    assert make.value("select count(*) from packages") == 1


def test_atomic_is_all(post: Post, packages: Any, store: Made, make: Factory) -> None:
    """With a payment in it: the job that charges is a row of the same transaction."""
    pay = {"package_id": {"$ref": "a#/id"}, "payment_method": "sandbox_ok"}
    status, results = post(
        packages("a"),
        {"id": "b", "method": "POST", "path": f"/v1/stores/{store.id}/payments", "body": pay},
        {"id": "c", "method": "GET", "path": f"/v1/stores/{store.id}/packages"},
        atomic=True,
        key="once",
    )
    assert (status, [result["status"] for result in results.values()]) == (200, [201, 202, 200])
    # It reads what it has just written.
    assert [package["id"] for package in results["c"]["body"]["data"]] == [results["a"]["body"]["id"]]
    assert results["b"]["headers"]["Location"].startswith("/v1/jobs/")
    assert make.value("select count(*) from jobs where kind = 'payment.charge'") == 1
    transactions = "select xmin::text from packages union select xmin::text from payments"
    assert len(make.rows(transactions)) == 1


@pytest.mark.parametrize(
    ("bad", "status", "pointer"),
    [
        ({"body": {"name": "x", "amount": -1, "interval": "month"}}, 422, "#/operations/2/body/amount"),
        ({"body": {"name": "x", "interval": "month"}}, 422, "#/operations/2/body/amount"),
        ({"path": "/v1/stores/{store}/packages/019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"}, 405, "#/operations/2"),
        ({"method": "GET", "path": "/v1/stores?colour=red"}, 400, "#/operations/2/path"),
        ({"method": "PATCH", "path": "/v1/stores/{store}/packages/$a.id", "if_version": 9}, 412, "#/operations/2"),
        ({"method": "PATCH", "path": "/v1/me", "body": {"name": "New"}}, 400, "#/operations/2"),
        ({"body": {"name": {"$ref": "b#/nothing"}}}, 424, "#/operations/2"),
    ],
)
def test_atomic_is_nothing(
    post: Post, packages: Any, store: Made, make: Factory, bad: Any, status: int, pointer: str
) -> None:
    pay = {"amount": 500, "currency": "EUR", "payment_method": "sandbox_ok"}
    bad = packages("bad") | bad
    bad["path"] = bad["path"].format(store=store.id)
    answered, problem = post(
        packages("a"),
        {"id": "b", "method": "POST", "path": f"/v1/stores/{store.id}/payments", "body": pay},
        bad,
        atomic=True,
        key="once",
    )
    assert (answered, problem["errors"][0]["pointer"]) == (status, pointer)
    assert "bad" in problem["detail"]
    assert problem["instance"] == "/v1/batch"
    for table in ("packages", "payments", "jobs", "events", "idempotency_keys"):
        assert make.value(f"select count(*) from {table}") == 0, table


def test_atomic_batches_do_not_get_in_each_other_s_way(app: Flask, store: Made, make: Factory) -> None:
    """Eight at once that change the same packages and addresses, every other one from the last to the first."""
    owner = owner_of(make, store)
    auth = make.auth(owner)
    paths = [f"/v1/stores/{store.id}/packages/{make.package(store).id}" for _ in range(8)]
    paths += [f"/v1/me/addresses/{make.address(owner).id}" for _ in range(4)]

    def send(turn: int) -> int:
        named = [(path, {"name": "x"} if "packages" in path else {"label": "x"}) for path in paths[:: (-1) ** turn]]
        operations = [{"id": f"o{n}", "method": "PATCH", "path": p, "body": body} for n, (p, body) in enumerate(named)]
        body = {"atomic": True, "operations": operations}
        return app.test_client().post("/v1/batch", json=body, headers=auth).status_code

    with ThreadPoolExecutor(8) as senders:
        assert list(senders.map(send, range(8))) == [200] * 8


def test_sent_again_it_is_finished(post: Post, packages: Any, store: Made, make: Factory) -> None:
    """What had succeeded is answered as before, a deletion too; what had not is tried."""
    user = owner_of(make, store)
    address = make.address(user)
    gone = {"id": "gone", "method": "DELETE", "path": f"/v1/me/addresses/{address.id}"}
    other = make.package(store, version=1)
    late = {"id": "late", "method": "PATCH", "path": f"/v1/stores/{store.id}/packages/{other.id}",
            "body": {"name": "Late"}, "if_version": 2}  # fmt: skip
    _, first = post(packages("a"), gone, late, key="k")
    assert [result["status"] for result in first.values()] == [201, 204, 412]
    make.rows("update packages set version = 2 where id = %(id)s returning id", {"id": other.id})
    # In another order, too.
    _, again = post(gone, late, packages("a"), key="k")
    assert [result["status"] for result in again.values()] == [204, 200, 201]
    assert again["a"]["body"] == first["a"]["body"]
    assert [result["headers"].get("Idempotency-Replayed") for result in again.values()] == ["true", None, "true"]
    _, other_body = post(packages("a", name="Another"), key="k")
    assert (other_body["a"]["status"], other_body["a"]["body"]["code"]) == (422, "idempotency_key_reused")
    assert make.value("select count(*) from packages") == 2


def test_reads_come_from_the_cache(post: Post, store: Made, queries: QueryRecorder) -> None:
    reads = [{"id": f"o{i}", "method": "GET", "path": f"/v1/stores/{store.id}"} for i in range(50)]

    def asks_nothing() -> bool:
        with queries() as seen:
            assert post(*reads)[0] == 207
        return not seen

    # Nothing is kept while a transaction that began before still runs, whoever's it is.
    wait_until(asks_nothing, 30, "the answers to be kept")
