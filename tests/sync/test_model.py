"""Two devices of a member, one of somebody on the staff, and a plain dict of what must be there.

Requests and answers are lost, doubled and put in another order; roles and memberships come and go. In the end nothing
is lost, nothing is there twice, and all show the same.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient

from dues.ids import new_id
from tests.factory import Factory
from tests.sync.device import Answer, Device, op, sender

ADDRESS = {"line1": "1 High Street", "city": "Leeds", "country": "GB"}


@dataclass
class Model:
    """What must be there: of the member's addresses and posts the fields that change, and how many payments."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    payments: int = 0
    done: set[str] = field(default_factory=set)

    def apply(self, operation: dict[str, Any], result: Answer) -> None:
        """What an operation does that is done now; one that was done before does nothing."""
        if result["status"] >= 300 or result["id"] in self.done:
            return
        assert not result["replayed"], operation
        row_id = operation["path"].rpartition("/")[2]
        match operation["method"]:
            case "POST" if "payments" in operation["path"]:
                self.payments += 1
            case "POST":
                self.rows[operation["body"]["id"]] = {n: v for n, v in operation["body"].items() if n != "id"}
            case "PATCH":
                assert row_id in self.rows, "what is gone was changed"
                self.rows[row_id] |= operation["body"]
            case "DELETE":
                self.rows.pop(row_id, None)
        self.done.add(result["id"])


@dataclass
class Phone:
    """A device with its operations that were not answered yet."""

    device: Device
    waiting: list[dict[str, Any]] = field(default_factory=list)


class Play:
    def __init__(self, seed: int, make: Factory, client: FlaskClient, send: Callable[..., Any] | None = None) -> None:
        self.random, self.make, self.model = random.Random(seed), make, Model()
        self.store, self.member, self.support = make.store(), make.user(), make.user()
        self.gold = make.package(self.store)
        sends = [send or sender(client, make.auth(self.member)) for _ in range(2)]
        self.phones = [Phone(Device(each, limit=self.random.choice([1, 3, 50]))) for each in sends]
        self.desk = Device(sender(client, make.auth(self.support)), limit=7)
        self.fresh = lambda: Device(sends[0])
        self.fresh_desk = lambda: Device(sender(client, make.auth(self.support)))

    def step(self) -> None:
        phone = self.random.choice(self.phones)
        kind = self.random.random()
        if kind < 0.45:
            phone.waiting.append(self._tap(phone))
        elif kind < 0.85:
            self._send(phone)
        elif kind < 0.92:
            self._others_write()
        else:
            self._change_rights()

    def _tap(self, phone: Phone) -> dict[str, Any]:
        """Something that the member does, connected or not."""
        known = [(name, id_) for name, id_ in phone.device.rows if name in ("address", "post")]
        kind = self.random.choice(["address", "post", "change", "change", "delete", "payment"])
        if kind == "address" or not known:
            return op("POST", "/v1/me/addresses", {"id": str(new_id()), **ADDRESS})
        if kind == "post":
            return op(
                "POST", "/v1/posts", {"id": str(new_id()), "body": f"Post {self.random.random()}", "privacy": "private"}
            )
        if kind == "payment":
            body = {"amount": 100, "currency": "EUR", "payment_method": "sandbox_ok"}
            return op("POST", f"/v1/stores/{self.store.id}/payments", body)
        name, id_ = self.random.choice(known)
        path = f"/v1/me/addresses/{id_}" if name == "address" else f"/v1/posts/{id_}"
        if kind == "delete":
            return op("DELETE", path)
        text = f"{self.random.random()}"
        body = {self.random.choice(["city", "line1"]): text} if name == "address" else {"body": text}
        behind = {"if_version": phone.device.rows[name, id_]["version"]} if self.random.random() < 0.4 else {}
        earlier = [one["id"] for one in phone.waiting if one["method"] == "POST"][-1:]
        return op("PATCH", path, body, after=earlier, **behind)

    def _send(self, phone: Phone) -> None:
        """Send what waits: in order or not, once or twice; the answer arrives, or is lost, or comes again later."""
        ops = phone.waiting[:20]
        if self.random.random() < 0.2:
            ops = self.random.sample(ops, len(ops))
        if ops and self.random.random() < 0.2:
            ops = [*ops, self.random.choice(ops)]
        answers = []
        for _ in range(self.random.choice([1, 1, 1, 2])):
            answers.append(phone.device.ask(*ops))
            for operation, result in zip(ops, answers[-1]["results"], strict=True):
                self.model.apply(operation, result)
        if self.random.random() < 0.25:
            return
        self.random.shuffle(answers)
        for answer in answers:
            phone.device.apply(answer)
        # 424 and what is in progress is sent again; else the person is told.
        over = {result["id"] for answer in answers for result in answer["results"] if result["status"] != 424}
        phone.waiting = [one for one in phone.waiting if one["id"] not in over]

    def _others_write(self) -> None:
        kind = self.random.randrange(3)
        if kind == 0:
            self.make.payment(self.store)
        elif kind == 1:
            self.make.post(self.member, store=self.store, privacy="members", body="For members")
        else:
            self.make.rows(
                "update packages set name = %(name)s, version = version + 1 where id = %(id)s returning id",
                {"name": f"Gold {self.random.random()}", "id": self.gold.id},
            )
        if self.random.random() < 0.5:
            self.desk.apply(self.desk.ask())

    def _change_rights(self) -> None:
        there = {"store": self.store.id, "user": self.support.id, "member": self.member.id}
        staff = "delete from store_staff where store_id = %(store)s and user_id = %(user)s returning id"
        if not self.make.rows(staff, there):
            self.make.staff(self.store, self.support)
        ended = (
            "update subscriptions set has_access = not has_access, version = version + 1"
            " where user_id = %(member)s returning id"
        )
        if self.random.random() < 0.5 and not self.make.rows(ended, there):
            self.make.subscription(self.store, self.member, package=self.gold)

    def end(self) -> None:
        for phone in self.phones:
            while phone.waiting:
                ops = phone.waiting[:100]
                for operation, result in zip(ops, phone.device.sync(*ops), strict=True):
                    self.model.apply(operation, result)
                phone.waiting = phone.waiting[100:]
        shown = self.fresh()
        shown.sync()
        for phone in self.phones:
            phone.device.sync()
            assert phone.device.rows == shown.rows
        self.desk.sync()
        fresh_desk = self.fresh_desk()
        fresh_desk.sync()
        assert self.desk.rows == fresh_desk.rows
        self._compare(shown)

    def _compare(self, shown: Device) -> None:
        mine = {
            id_: row
            for (name, id_), row in shown.rows.items()
            if name in ("address", "post") and not row.get("store_id")
        }
        assert mine.keys() == self.model.rows.keys()
        for id_, expected in self.model.rows.items():
            assert {name: mine[id_][name] for name in expected} == expected
        assert len(shown.of("payment")) == self.model.payments
        paid = "select count(*) from payments where user_id = %(id)s"
        assert self.make.value(paid, {"id": self.member.id}) == self.model.payments


def played(seed: int, steps: int, make: Factory, client: FlaskClient) -> Play:
    play = Play(seed, make, client)
    for _ in range(steps):
        play.step()
    play.end()
    return play


@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_and_nothing_is_there_twice(make: Factory, client: FlaskClient, seed: int) -> None:
    play = played(seed, 120, make, client)
    assert play.model.payments > 1
    assert len(play.model.rows) > 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_for_ten_thousand_steps(make: Factory, client: FlaskClient) -> None:
    seed = int(os.environ.get("DUES_SYNC_SEED", "7"))
    print(f"seed {seed}")
    for round_ in range(20):
        played(seed + round_, 500, make, client)
