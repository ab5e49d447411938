"""`POST /v1/batch`: several requests in one, each as if it had come alone, or all of them or none."""

import http.client
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import psycopg2
import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient

from api.routes.batch import MOST_OPERATIONS
from dues.errors import Forbidden
from dues.ids import new_id
from dues.postgres.unit_of_work import UnitOfWork
from tests.api.test_access import ROWS, Row, body_of, headers_of
from tests.api.world import World
from tests.factory import Factory
from tests.recorder import QueryRecorder
from tests.servers import Servers, wait_until
from tests.webserver import WebServer

Post = Callable[..., Any]
Operation = dict[str, Any]

PACKAGE = {"name": "Gold", "amount": 1500, "currency": "EUR", "interval": "month"}


@pytest.fixture
def store(make: Factory) -> Made:
    return make.store(make.user(), currency="EUR")


@pytest.fixture
def post(client: FlaskClient, make: Factory, store: Made) -> Post:
    """Sends operations as the store's owner. Returns: the answer's status and its results by their ids, or its
    problem."""
    auth = make.auth(owner_of(make, store))

    def post(*operations: Operation, key: str = "", **members: Any) -> tuple[int, dict[str, Any]]:
        headers = auth | ({"Idempotency-Key": key} if key else {})
        answer = client.post("/v1/batch", json={"operations": operations, **members}, headers=headers)
        document = ujson.loads(answer.data)
        if answer.status_code >= 400:
            return answer.status_code, document
        assert [result["id"] for result in document["results"]] == [operation["id"] for operation in operations]
        return answer.status_code, {result["id"]: result for result in document["results"]}

    return post


def owner_of(make: Factory, store: Made) -> Made:
    (staff,) = make.rows("select user_id as id from store_staff where store_id = %(id)s", {"id": store.id})
    return staff


@pytest.fixture
def packages(store: Made) -> Callable[..., Operation]:
    def create(id_: str, **body: Any) -> Operation:
        return {"id": id_, "method": "POST", "path": f"/v1/stores/{store.id}/packages", "body": PACKAGE | body}

    return create


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


def test_rights_that_an_atomic_batch_takes_away_are_gone_at_once(post: Post, store: Made, make: Factory) -> None:
    """An owner who makes somebody else the owner and leaves can do no more."""
    owner, heir = owner_of(make, store), make.user()
    staff = f"/v1/stores/{store.id}/staff"
    answered, problem = post(
        {"id": "a", "method": "PUT", "path": f"{staff}/{heir.id}", "body": {"role": "owner"}},
        {"id": "b", "method": "DELETE", "path": f"{staff}/{owner.id}"},
        {"id": "c", "method": "PATCH", "path": f"/v1/stores/{store.id}", "body": {"name": "Mine"}},
        atomic=True,
    )
    assert (answered, problem.get("errors", [problem])[0].get("pointer")) == (403, "#/operations/2")
    assert make.value("select count(*) from store_staff where store_id = %(id)s", {"id": store.id}) == 1


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


def test_each_operation_has_the_rights_that_it_has_alone(world: World, make: Factory, app: Flask) -> None:
    """The whole table of access, in batches."""
    for caller in ("nobody", "other", "customer", "support", "owner", "unscoped"):
        rows = [row for row in ROWS if row.expected[caller] not in ("-", "207") and is_composable(row)]
        # A token lacks one scope at a time.
        rows = [row for row in rows if caller != "unscoped" or row.scope == "catalog:write"]
        # One customer has one membership of a store at a time, and a store whose clock moves takes nothing.
        lonely = [row for row in rows if "subscription" in row.path or "clock" in row.path]
        for together in ([row for row in rows if row not in lonely], *([row] for row in lonely)):
            answered = answers_of(together, caller, world, make, app)
            assert answered == [f"{row} {row.expected[caller]}" for row in together], caller


def answers_of(rows: list[Row], caller: str, world: World, make: Factory, app: Flask) -> list[str]:
    make.rows("update subscriptions set status = 'canceled', ended_at = now() where status <> 'canceled'")
    make.rows("update store_clocks set advancing_to = null")
    return [
        answer
        for first in range(0, len(rows), MOST_OPERATIONS)
        for answer in answers_of_one(rows[first : first + MOST_OPERATIONS], caller, world, make, app)
    ]


def answers_of_one(rows: list[Row], caller: str, world: World, make: Factory, app: Flask) -> list[str]:
    operations = []
    for i, row in enumerate(rows):
        path = row.path.format_map(world.target(row.method, row.path))
        body = body_of(row, caller, world)
        operations.append({"id": f"o{i}", "method": row.method, "path": path} | ({"body": body} if body else {}))
    headers = headers_of(caller, rows[0], world, make) | {"Idempotency-Key": new_id().hex}
    answer = app.test_client().post("/v1/batch", json={"operations": operations}, headers=headers)
    results = ujson.loads(answer.data)["results"]
    return [f"{row} {result['status']}" for row, result in zip(rows, results, strict=True)]


def is_composable(row: Row) -> bool:
    """Not files, events, and what is limited by address."""
    begins = re.match(r"/v1/(users|tokens|email-verifications|password-resets)", row.path) and row.method == "POST"
    if row.path == "/v1/sync" or row.route == ("GET", "/v1/stores/{store_id}/logo"):
        return False
    # With a gateway of its own the store takes other payments than those of the table, and whoever tries a mailing has
    # verified an address.
    if "/gateway" in row.path or "/payment-setups" in row.path or row.path.endswith("/mailing-test"):
        return False
    # Rows that were made for other paths have filled the store with endpoints.
    is_full = row.route == ("POST", "/v1/stores/{store_id}/webhook-endpoints")
    takes_file = row.route == ("POST", "/v1/stores/{store_id}/imports")
    return not begins and not is_full and not takes_file and not row.path.endswith(("/file", "/events", "/receipt"))


@pytest.fixture
def world(make: Factory, app: Flask) -> World:
    return World(make, app)


def test_reads_come_from_the_cache(post: Post, store: Made, queries: QueryRecorder) -> None:
    reads = [{"id": f"o{i}", "method": "GET", "path": f"/v1/stores/{store.id}"} for i in range(50)]

    def asks_nothing() -> bool:
        with queries() as seen:
            assert post(*reads)[0] == 207
        return not seen

    # Nothing is kept while a transaction that began before still runs, whoever's it is.
    wait_until(asks_nothing, 30, "the answers to be kept")


def test_a_hundred_creations_take_far_fewer_statements_than_a_hundred_requests(
    post: Post, client: FlaskClient, packages: Any, store: Made, make: Factory, queries: QueryRecorder
) -> None:
    operations = [packages(f"p{i}") for i in range(100)]
    auth = make.auth(owner_of(make, store))
    with queries() as alone:
        for operation in operations[:10]:
            assert client.post(operation["path"], json=operation["body"], headers=auth).status_code == 201
    with queries() as together:
        assert post(*operations, atomic=True)[0] == 200
    assert len(together) < 120, str(together)
    assert len(alone) * 10 > 2.5 * len(together), f"{len(alone)} for ten, {len(together)} for a hundred"


def test_creations_of_one_kind_are_done_together(
    post: Post, client: FlaskClient, packages: Any, store: Made, make: Factory, queries: QueryRecorder
) -> None:
    """With the answers, the events and the keys that they have alone."""
    operations = [packages(f"p{i}") for i in range(100)]
    auth = make.auth(owner_of(make, store))
    with queries() as alone:
        for operation in operations[:10]:
            assert client.post(operation["path"], json=operation["body"], headers=auth).status_code == 201
    with queries() as together:
        status, first = post(*operations, key="k")
    assert (status, {result["status"] for result in first.values()}) == (207, {201})
    print(f"{len(alone) * 10} messages alone, {len(together)} together")
    assert 2.5 * len(together) < 10 * len(alone), str(together)
    _, again = post(*operations, key="k")
    assert [result["body"] for result in again.values()] == [result["body"] for result in first.values()]
    assert {result["headers"]["Idempotency-Replayed"] for result in again.values()} == {"true"}
    told = make.rows("select data ->> 'id' as id from events where store_id = %(id)s order by seq", {"id": store.id})
    assert [row.id for row in told][10:] == [result["body"]["id"] for result in first.values()]


@pytest.mark.parametrize("used", [0, 7, 29])
def test_keys_of_creations_that_are_done_together(
    post: Post, packages: Any, store: Made, client: FlaskClient, make: Factory, used: int
) -> None:
    """Are found out about at once; one that was used before is answered as before, wherever it is among them."""
    operations = [packages(f"p{i}") for i in range(30)]
    _, first = post(operations[used], key="k")
    _, all_ = post(*operations, key="k")
    assert {result["status"] for result in all_.values()} == {201}
    assert all_[f"p{used}"]["body"] == first[f"p{used}"]["body"]
    assert [id_ for id_, result in all_.items() if "Idempotency-Replayed" in result["headers"]] == [f"p{used}"]
    # And are the same that a single request has.
    headers = make.auth(owner_of(make, store)) | {"Idempotency-Key": "k/p3"}
    alone = client.post(operations[3]["path"], json=operations[3]["body"], headers=headers)
    assert (alone.json, alone.headers["Idempotency-Replayed"]) == (all_["p3"]["body"], "true")
    assert make.value("select count(*) from packages") == 30


LOST_COMMITS: dict[str, tuple[Exception, bool, int, int]] = {
    # What is raised; whether it was committed all the same; the status of each, and how many rows there are.
    "the connection broke, and it was committed": (psycopg2.OperationalError("gone"), True, 503, 10),
    "the connection broke, and it was not": (psycopg2.OperationalError("gone"), False, 503, 0),
    "something of ours failed after it": (RuntimeError("a callback"), True, 500, 10),
    "a right was taken away": (Forbidden("gone"), False, 201, 10),
}


@pytest.mark.parametrize("name", LOST_COMMITS)
def test_what_may_have_been_done_is_not_done_again(
    post: Post, packages: Any, make: Factory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of creations that are done together: they are done one by one only where nothing of them can be there."""
    error, is_committed, status, count = LOST_COMMITS[name]
    commit = UnitOfWork.commit

    def failing(work: UnitOfWork) -> None:
        monkeypatch.setattr(UnitOfWork, "commit", commit)
        if is_committed:
            commit(work)
        raise error

    operations = [packages(f"p{i}") for i in range(10)]
    monkeypatch.setattr(UnitOfWork, "commit", failing)
    _, results = post(*operations)
    assert {result["status"] for result in results.values()} == {status}
    assert make.value("select count(*) from packages") == count


def ask(web: WebServer, document: Any, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)) as connection:
        connection.request("POST", "/v1/batch", json.dumps(document), headers | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())


def test_killed_in_the_middle_and_sent_again_it_is_finished(
    servers: Servers, make: Factory, store: Made, packages: Any, tmp_path: Path
) -> None:
    """The server dies after each operation in turn, among which are reads, so that each creation has a commit."""
    lines = ",".join(f"part.{n}=kill:{tmp_path}/{n}" for n in (1, 3, 5))
    headers = make.auth(owner_of(make, store)) | {"Idempotency-Key": "k"}
    read = {"method": "GET", "path": f"/v1/stores/{store.id}"}
    batch = {"operations": [each for i in range(3) for each in (packages(f"p{i}"), read | {"id": f"r{i}"})]}
    with WebServer(servers, threads=2, DUES_FAILPOINTS=lines) as web:
        for died in (1, 2, 3):
            with pytest.raises((http.client.HTTPException, OSError)):
                ask(web, batch, headers)
            assert make.value("select count(*) from packages") == died
        status, _, document = retry(web, batch, headers)
    assert (status, [result["status"] for result in document["results"]]) == (207, [201, 200] * 3)
    assert make.value("select count(*) from packages") == 3


def retry(web: WebServer, document: Any, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    for _ in range(20):
        with suppress(http.client.HTTPException, OSError):
            return ask(web, document, headers)
    raise AssertionError("no answer")


def test_each_operation_counts_as_one_request(servers: Servers, make: Factory, store: Made, packages: Any) -> None:
    auth = make.auth(owner_of(make, store))
    reads = [{"id": f"o{i}", "method": "GET", "path": "/v1/stores"} for i in range(6)]
    pay = {"method": "POST", "path": f"/v1/stores/{store.id}/payments",
           "body": {"amount": 500, "currency": "EUR", "payment_method": "sandbox_ok"}}  # fmt: skip
    with WebServer(servers, threads=2, RATE_LIMIT=f"10/{10**9}") as web:
        _, headers, document = ask(web, {"operations": reads}, auth)
        assert re.search(r";r=4;", headers["ratelimit"])
        # Payments have a limit of their own, of half as many.
        mixed = [*(pay | {"id": f"p{i}"} for i in range(7)), *reads]
        _, _, document = ask(web, {"operations": mixed}, auth | {"Idempotency-Key": new_id().hex})
        assert [result["status"] for result in document["results"]] == [202] * 5 + [429] * 2 + [200] * 4 + [429] * 2
        assert int(document["results"][5]["headers"]["Retry-After"]) > 1
        status, _, problem = ask(web, {"operations": [packages("a")]}, auth)
        assert (status, problem["code"]) == (429, "rate_limited")
    assert make.value("select count(*) from packages") == 0
