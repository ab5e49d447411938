"""Batches to a web server of its own: killed in the middle, and counted against limits."""

import http.client
import json
import re
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import pytest

from dues.ids import new_id
from tests.api.batch.conftest import owner_of
from tests.factory import Factory
from tests.servers import Servers
from tests.webserver import WebServer


def ask(web: WebServer, document: Any, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)) as connection:
        connection.request("POST", "/v1/batch", json.dumps(document), headers | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())


def test_killed_in_the_middle_and_sent_again_it_is_finished(
    servers: Servers, make: Factory, store: Made, packages: Any, tmp_path: Path
) -> None:
    """The server dies after each operation in turn, among which are reads, so that each creation has a commit."""
    lines = ",".join(f"part.{n}=kill:{tmp_path}/{n}" for n in (1, 3))
    headers = make.auth(owner_of(make, store)) | {"Idempotency-Key": "k"}
    read = {"method": "GET", "path": f"/v1/stores/{store.id}"}
    batch = {"operations": [each for i in range(2) for each in (packages(f"p{i}"), read | {"id": f"r{i}"})]}
    with WebServer(servers, threads=2, DUES_FAILPOINTS=lines) as web:
        for died in (1, 2):
            with pytest.raises((http.client.HTTPException, OSError)):
                ask(web, batch, headers)
            assert make.value("select count(*) from packages") == died
        status, _, document = retry(web, batch, headers)
    assert (status, [result["status"] for result in document["results"]]) == (207, [201, 200] * 2)
    assert make.value("select count(*) from packages") == 2


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
    with WebServer(servers, threads=2, RATE_LIMIT="10/999999999") as web:
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
