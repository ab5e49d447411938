"""`Prefer: wait=…` on what is slow: the finished resource, if it is finished in time."""

from concurrent.futures import Future
from types import SimpleNamespace as Row

import pytest

from dues.ids import new_id
from tests.api.waits.conftest import Answer, Hall, Work

REPORT = {"kind": "payments", "format": "csv", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}


@pytest.fixture
def store(hall: Hall) -> Row:
    return hall.make.store(hall.me.user)


def is_finished(answer: Answer, waited: int = 20) -> bool:
    """Whether it is the 201 of somebody who has waited."""
    applied = answer.headers.get("preference-applied")
    assert answer.status in (201, 202), answer.body
    assert (answer.status == 201) == (applied is not None)
    if answer.status == 201:
        assert applied == f"wait={waited}"
        assert answer.headers["location"] == answer.json["links"]["self"]
        assert answer.headers["content-type"] == "application/json"
        assert "retry-after" not in answer.headers
    return answer.status == 201


def test_a_payment_is_answered_when_it_is_charged(hall: Hall, store: Row, work: Work):
    held = hall.pay(store, Prefer="wait=20")
    hall.wait_for(1)
    assert not held.done()
    work.drain()
    answer = held.result()
    assert is_finished(answer)
    assert answer.json["status"] == "succeeded"
    again = hall.me.get(answer.headers["location"])
    assert (again.json, again.headers["etag"]) == (answer.json, answer.headers["etag"])


def test_without_a_worker_the_202_comes_as_it_was_and_a_replay_waits_again(hall: Hall, store: Row, work: Work):
    key = new_id().hex
    first = hall.pay(store, key=key, Prefer="wait=1").result()
    assert not is_finished(first)
    assert first.headers["location"].startswith("/v1/jobs/")
    assert first.headers["retry-after"] == "1"
    held = hall.pay(store, key=key, Prefer='respond-async, wait="20"')
    hall.wait_for(1)
    work.drain()
    replay = held.result()
    assert is_finished(replay)
    assert replay.headers["idempotency-replayed"] == "true"
    assert (replay.json["id"], replay.json["status"]) == (first.json["id"], "succeeded")
    # Done already; and what was answered first is still what is kept.
    assert is_finished(hall.pay(store, key=key, Prefer="wait=20").result())
    plain = hall.pay(store, key=key).result()
    assert not is_finished(plain)
    assert plain.body == first.body


@pytest.mark.parametrize("prefer", ["respond-async", "wait=soon", "wait=0", "return=minimal"])
def test_who_does_not_ask_to_wait_does_not(hall: Hall, store: Row, prefer: str):
    assert not is_finished(hall.pay(store, Prefer=prefer).result())
    assert hall.waiting == 0


def test_a_decline_is_an_end_like_any_other(hall: Hall, store: Row, work: Work):
    held = hall.pay(store, "sandbox_declined", Prefer="wait=20")
    hall.wait_for(1)
    work.drain()
    answer = held.result()
    assert is_finished(answer)
    assert (answer.json["status"], answer.json["failure_code"]) == ("failed", "card_declined")


def test_refunds_confirmations_and_reports(hall: Hall, store: Row, work: Work):
    paid, waiting = hall.pay(store).result().json, hall.pay(store, "sandbox_action").result().json
    work.drain()
    payments, key = f"/v1/stores/{store.id}/payments", {"Idempotency_Key": "k", "Prefer": "wait=20"}

    def post(path: str, body: object) -> "Future[Answer]":
        return hall.me.later("POST", path, body, **key)

    held = [
        post(f"{payments}/{paid['id']}/refunds", {"amount": 100}),
        post(f"{payments}/{waiting['id']}/confirmations", {"outcome": "succeed"}),
        post(f"/v1/stores/{store.id}/reports", REPORT),
    ]
    hall.wait_for(3)
    work.drain()
    answers = [one.result() for one in held]
    assert all(is_finished(answer) for answer in answers)
    assert [answer.json["status"] for answer in answers] == ["succeeded"] * 3
    assert answers[0].json["payment_id"] == paid["id"]
    assert answers[1].json["id"] == waiting["id"]
    assert answers[2].json["links"]["file"]
    replays = [
        post(f"{payments}/{paid['id']}/refunds", {"amount": 100}),
        post(f"{payments}/{waiting['id']}/confirmations", {"outcome": "succeed"}),
        post(f"/v1/stores/{store.id}/reports", REPORT),
    ]
    assert [replay.result().json for replay in replays] == [answer.json for answer in answers]


def test_who_may_pay_but_not_read_payments_gets_his_own_all_the_same(hall: Hall, store: Row, work: Work):
    hall.me.auth = hall.make.auth(hall.me.user, "payments:write")
    held = hall.pay(store, Prefer="wait=20")
    hall.wait_for(1)
    work.drain()
    answer = held.result()
    assert is_finished(answer)
    assert hall.me.get(answer.headers["location"]).status == 403


def test_what_is_refused_is_refused_at_once(hall: Hall, store: Row):
    assert hall.pay(store, "sandbox_nonsense", Prefer="wait=20").result().status == 422
    hall.me.auth = {}
    assert hall.pay(store, Prefer="wait=20").result().status == 401
