"""Creations of one kind in a batch are done together, with the answers that they have alone."""

import os
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace as Made
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient

from dues.errors import Forbidden
from dues.postgres.unit_of_work import UnitOfWork
from tests.api.batch.conftest import Post, owner_of
from tests.factory import Factory
from tests.recorder import QueryRecorder


@pytest.fixture
def alone(client: FlaskClient, packages: Any, store: Made, make: Factory) -> Callable[[int], None]:
    """Creates so many packages, each by a request."""
    auth = make.auth(owner_of(make, store))

    def create(count: int) -> None:
        for operation in [packages(f"p{i}") for i in range(count)]:
            assert client.post(operation["path"], json=operation["body"], headers=auth).status_code == 201

    return create


# How a hundred creations are sent, and in how many messages to PostgreSQL at most they are done.
WAYS: dict[str, tuple[dict[str, Any], int]] = {
    "without a key": ({}, 30),
    "with a key": ({"key": "k"}, 30),
    "atomic": ({"atomic": True}, 10),
    "atomic with a key": ({"atomic": True, "key": "k"}, 10),
}


@pytest.mark.parametrize("way", WAYS)
def test_creations_of_one_kind_are_done_together(
    post: Post,
    alone: Callable[[int], None],
    packages: Any,
    store: Made,
    make: Factory,
    queries: QueryRecorder,
    way: str,
) -> None:
    """With the answers, the events and the keys that they have alone."""
    sent, most = WAYS[way]
    operations = [packages(f"p{i}", name=f"P{i}") for i in range(100)]
    with queries() as single:
        alone(10)
    with queries() as together:
        _, first = post(*operations, **sent)
    print(f"{len(single) * 10} messages alone, {len(together)} together")
    assert len(together) <= most, str(together)
    assert 10 * len(single) > 10 * len(together)
    assert [result["status"] for result in first.values()] == [201] * 100
    assert [result["body"]["name"] for result in first.values()] == [f"P{i}" for i in range(100)]
    told = make.rows("select data from events where store_id = %(id)s order by seq", {"id": store.id})
    assert [row.data for row in told][10:] == [result["body"] for result in first.values()]
    if "key" in sent:
        _, again = post(*operations, **sent)
        for id_, result in first.items():
            result["headers"]["Idempotency-Replayed"] = "true"
            assert again[id_] == result
    for result in first.values():
        location = result["headers"]["Location"]
        assert (location.rpartition("/")[2], result["headers"]["ETag"][:3]) == (result["body"]["id"], '"1.')


@pytest.mark.slow
def test_how_long_creations_take_together(post: Post, alone: Callable[[int], None], packages: Any) -> None:
    """Says so, in turns."""
    operations = [packages(f"p{i}") for i in range(100)]
    ways: dict[str, Callable[[], Any]] = {
        "alone": lambda: alone(100),
        "without a key": lambda: post(*operations),
        "with a key": lambda: post(*operations, key=os.urandom(8).hex()),
        "atomic": lambda: post(*operations, atomic=True),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(9):
        for way, create in ways.items():
            began = time.perf_counter()
            create()
            times[way].append(1000 * (time.perf_counter() - began))
    medians = {way: median(taken) for way, taken in times.items()}
    for way, ms in medians.items():
        print(f"100 creations {way}: {ms:.0f} ms, 1/{medians['alone'] / ms:.1f}")


@pytest.mark.parametrize("key", ["", "k"])
def test_an_answer_shows_what_its_own_operation_has_left(post: Post, packages: Any, store: Made, key: str) -> None:
    """Though later ones of the same transaction change it once more, and answers are fetched together."""
    (one,) = post(packages("first"))[1].values()
    path = f"/v1/stores/{store.id}/packages/{one['body']['id']}"
    changes = [{"id": f"c{i}", "method": "PATCH", "path": path, "body": {"name": f"N{i}"}} for i in range(3)]
    end = {"id": "end", "method": "DELETE", "path": path}
    status, results = post(*changes, end, packages("last"), atomic=True, key=key)
    assert status == 200
    shown = [(result["body"]["name"], result["body"]["version"]) for result in results.values()]
    assert shown == [("N0", 2), ("N1", 3), ("N2", 4), ("N2", 5), ("Gold", 1)]
    assert [result["body"]["archived_at"] is None for result in results.values()] == [True, True, True, False, True]
    assert [result["headers"]["ETag"][:3] for result in results.values()] == [f'"{v}.' for v in (2, 3, 4, 5, 1)]


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
