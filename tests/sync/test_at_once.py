"""Two devices of one member at the same moment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace as Made
from typing import Any

import pytest
from flask import Flask

from dues.sync import operations
from tests.contention import Contention
from tests.factory import Factory
from tests.sync.device import Device, op, sender

ADDRESS = {"line1": "1 High Street", "city": "Leeds", "country": "GB"}
IN_USE = (409, "idempotency_key_in_use")


def paying(store: Made, post: Made) -> dict[str, Any]:
    return op(
        "POST", f"/v1/stores/{store.id}/payments",
        {"amount": 1900, "currency": "EUR", "payment_method": "sandbox_ok"},
    )  # fmt: skip


# What is done once, and how its effects are counted.
DONE: dict[str, tuple[Callable[[Made, Made], dict[str, Any]], str]] = {
    "a new row": (lambda store, post: op("POST", "/v1/me/addresses", ADDRESS), "select count(*) from addresses"),
    "a payment": (paying, "select count(*) from payments"),
    "a change": (
        lambda store, post: op("PATCH", f"/v1/posts/{post.id}", {"body": "Eight"}),
        "select version - 1 from posts",
    ),
    "a deletion": (
        lambda store, post: op("DELETE", f"/v1/posts/{post.id}"),
        "select count(*) from sync_changes where type = 'post' and gone_at is not null",
    ),
}


@pytest.mark.parametrize("name", DONE)
def test_both_send_the_same_operation(app: Flask, make: Factory, member: Made, store: Made, name: str) -> None:
    """It has one effect, and both are told the same in the end."""
    make_op, effects = DONE[name]
    write = make_op(store, make.post(member))
    ready = threading.Barrier(2, timeout=30)
    both = [Device(sender(app.test_client(), make.auth(member))) for _ in range(2)]

    def send(device: Device) -> dict[str, Any]:
        ready.wait()
        for _ in range(200):
            (result,) = device.sync(write)
            if (result["status"], result.get("problem", {}).get("code")) != IN_USE:
                return result
        raise AssertionError("the other never came to an end")

    with ThreadPoolExecutor(2) as devices:
        results = list(devices.map(send, both))
    assert make.value(effects) == 1
    assert sorted(result["replayed"] for result in results) == [False, True]
    told = [(one["status"], one["location"], one["version"], (one["body"] or {}).get("id")) for one in results]
    assert told[0] == told[1]
    assert told[0][0] < 300


def test_one_comes_while_the_other_is_being_done(
    contention: Contention, device: Device, member: Made, make: Factory
) -> None:
    """It is told so at once, and holds nothing up; what it sends once that one has failed is done."""
    write = op("POST", "/v1/me/addresses", ADDRESS)
    child = op("POST", "/v1/me/addresses", ADDRESS, after=[write["id"]])
    with contention.held(operations._LOCK, user_id=str(member.id), id=write["id"]):
        results = device.sync(write, child, op("POST", "/v1/me/addresses", ADDRESS))
        assert [result["status"] for result in results] == [409, 424, 201]
        assert results[0]["problem"]["code"] == IN_USE[1]
    assert [result["status"] for result in device.sync(write, child)] == [201, 201]
    assert make.value("select count(*) from addresses") == 3
