"""A mail server or a gateway that is away for long: each job that needs it looks once, however long that is."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from dues import breaker
from dues.jobs.turns import Turns
from dues.mail import smtp
from dues.mail.service import _circuit
from dues.payments.gateway import GatewayTimeout
from dues.payments.sandbox import Sandbox
from tests.factory import Factory
from tests.payments.conftest import Shop, Work
from tests.servers import Mailbox

COUNT = 12


@pytest.fixture(autouse=True)
def no_circuit_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_trusted_until", {})


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The jobs that were claimed."""
    found: list[UUID] = []
    claim = Turns.claim

    def noted(self: Turns, *args: Any) -> Any:
        if begun := claim(self, *args):
            found.append(begun[0].job_id)
        return begun

    monkeypatch.setattr(Turns, "claim", noted)
    return found


def _no_mail_server(patch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> str:
        raise smtp.ConnectionLost("nobody answers")

    patch.setattr(smtp, "deliver", away)


def _no_gateway(patch: pytest.MonkeyPatch) -> None:
    def silent(*args: object) -> None:
        raise GatewayTimeout("no answer")

    patch.setattr(Sandbox, "charge", silent)


@pytest.mark.parametrize(
    ("name", "kind", "go_away"),
    [
        (lambda: _circuit().name, "payment.confirmation", _no_mail_server),
        (lambda: "gateway:sandbox", "payment.charge", _no_gateway),
    ],
    ids=["mail server", "gateway"],
)
def test_each_job_looks_once(
    name: Callable[[], str],
    kind: str,
    go_away: Callable[[pytest.MonkeyPatch], None],
    app: Flask,
    shop: Shop,
    work: Work,
    make: Factory,
    mailbox: Mailbox,
    claims: list[UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def claimed() -> list[UUID]:
        """The jobs of the kind that were claimed since the last question, each as often as it was."""
        found = make.rows(
            "select id from unnest(%(ids)s::uuid[]) claimed(id) join jobs using (id) where kind = %(kind)s",
            {"ids": [str(job_id) for job_id in claims], "kind": kind},
        )
        claims.clear()
        return [job.id for job in found]

    with app.app_context():
        circuit = name()
    make.rows("insert into circuit_breakers values (%(name)s, 20, now() + interval '1 hour', now())", {"name": circuit})
    payments = [shop.pay()["id"] for _ in range(COUNT)]
    work.drain()
    assert len(claimed()) == COUNT
    work.drain()
    assert claimed() == []
    with monkeypatch.context() as outage:
        go_away(outage)
        looked = set[UUID]()
        for number in range(3):
            make.rows("update circuit_breakers set open_until = now()")
            work.drain()
            looked.update(claimed())
            assert len(looked) == number + 1
    make.rows("delete from circuit_breakers")
    work.drain()
    # Those that have looked come again when their own time is over, which may be by now.
    assert len([job_id for job_id in claimed() if job_id not in looked]) == COUNT - 3
    work.hurry()
    settled = [shop.payment(payment)["status"] for payment in payments]
    # What the gateway was asked about and never charged has failed.
    failed = 3 if kind == "payment.charge" else 0
    assert sorted(settled) == ["failed"] * failed + ["succeeded"] * (COUNT - failed)
    assert len(mailbox.mails()) == COUNT
