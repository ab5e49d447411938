"""The server dies after each operation in turn, and none is lost or done twice."""

import http.client
import json
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import pytest

from dues.ids import new_id
from tests.factory import Factory
from tests.servers import Servers
from tests.sync.device import op
from tests.webserver import WebServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ADDRESS = {"line1": "1 High Street", "city": "Leeds", "country": "GB"}


def send(web: WebServer, body: Any, headers: dict[str, str]) -> Any:
    """The answer; None where the server died over it."""
    with (
        suppress(http.client.HTTPException, OSError),
        closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)) as connection,
    ):
        fields = headers | {"Content-Type": "application/json"}
        connection.request("POST", "/v1/sync", json.dumps(body), fields)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())
    return None


@pytest.mark.parametrize("target", ["server:app", "wsgi:app"])
def test_killed_after_each_operation(
    servers: Servers, make: Factory, member: Made, store: Made, tmp_path: Path, target: str
) -> None:
    pay = {"amount": 100, "currency": "EUR", "payment_method": "sandbox_ok"}
    ops, left = [], [str(new_id()) for _ in range(10)]
    for n, id_ in enumerate(left):
        ops.append(op("POST", "/v1/me/addresses", {"id": id_, **ADDRESS}))
        ops.append(op("PATCH", f"/v1/me/addresses/{id_}", {"label": f"Number {n}"}, after=[ops[-1]["id"]]))
        ops.append(op("POST", f"/v1/stores/{store.id}/payments", pay))
    ops.append(op("DELETE", f"/v1/me/addresses/{left.pop()}", after=[ops[-2]["id"]]))
    lines = ",".join(f"part.{n}=kill:{tmp_path}/{n}" for n in range(1, len(ops) + 1))
    headers, answer, deaths = make.auth(member), None, 0
    with WebServer(servers, threads=2, target=target, DUES_FAILPOINTS=lines) as web:
        while answer is None and deaths < 200:
            answer = send(web, {"ops": ops}, headers)
            deaths += answer is None
    assert answer
    assert len(list(tmp_path.iterdir())) == len(ops)
    assert {result["status"] for result in answer["results"]} == {200, 201, 202, 204}
    labels = {row.id: (row.label, row.version) for row in make.rows("select id::text, label, version from addresses")}
    # A change that was done twice would have made a third version, or none.
    assert labels == {id_: (f"Number {n}", 2) for n, id_ in enumerate(left)}
    assert make.value("select count(*) from payments") == 10
