"""`Prefer: wait=…` on a batch: one answer when all slow work in it is done."""

from types import SimpleNamespace as Row

import pytest

from dues.ids import new_id
from tests.api.waits.conftest import Answer, Hall, Work


@pytest.fixture
def store(hall: Hall) -> Row:
    return hall.make.store(hall.me.user)


def send(hall: Hall, store: Row, methods: list[str], **members: object):
    path = f"/v1/stores/{store.id}/payments"
    pay = {"amount": 1500, "currency": "EUR"}
    operations = [
        {"id": f"o{i}", "method": "POST", "path": path, "body": pay | {"payment_method": method}}
        for i, method in enumerate(methods)
    ]
    body = {"operations": [{"id": "me", "method": "GET", "path": "/v1/me"}, *operations], **members}
    return hall.me.later("POST", "/v1/batch", body, Idempotency_Key=new_id().hex, Prefer="wait=20")


def outcomes(answer: Answer) -> list[tuple[int, str]]:
    return [(result["status"], result["body"]["status"]) for result in answer.json["results"][1:]]


@pytest.mark.parametrize(("members", "status"), [({}, 207), ({"atomic": True}, 200)])
def test_all_slow_work_is_waited_for(hall: Hall, store: Row, work: Work, members: dict[str, object], status: int):
    held = send(hall, store, ["sandbox_ok", "sandbox_declined", "sandbox_ok"], **members)
    hall.wait_for(1)
    work.drain()
    answer = held.result()
    assert (answer.status, answer.headers["preference-applied"]) == (status, "wait=20")
    assert outcomes(answer) == [(201, "succeeded"), (201, "failed"), (201, "succeeded")]
    for result in answer.json["results"][1:]:
        assert result["headers"]["Location"] == result["body"]["links"]["self"]


def test_a_batch_without_slow_work_is_answered_at_once(hall: Hall, store: Row):
    answer = send(hall, store, []).result()
    assert (answer.status, answer.json["results"][0]["status"]) == (207, 200)
    assert "preference-applied" not in answer.headers
