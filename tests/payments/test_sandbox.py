"""The sandbox as a gateway: its books are its own, and what is asked for twice is done once."""

from contextlib import closing, suppress
from uuid import UUID

import psycopg2
import pytest
from flask import Flask

from dues.app import create_base
from dues.ids import new_id
from dues.payments.gateway import Charge, GatewayTimeout
from dues.payments.sandbox import Sandbox
from dues.postgres import transaction
from tests.factory import Factory
from tests.servers import Servers


def charge(key: str, method: str = "sandbox_ok", *, off_session: bool = False) -> Charge:
    return Charge(key=key, amount=100, currency="EUR", method=method, off_session=off_session)


def test_the_gateways_books_outlast_a_rollback(in_app: Flask) -> None:
    key = str(new_id())
    with suppress(ZeroDivisionError), transaction():
        Sandbox().charge(charge(key))
        raise ZeroDivisionError
    assert Sandbox().find(charge(key)) is not None


def test_books_that_do_not_answer_in_time_are_a_gateway_that_does_not(
    servers: Servers, clean: None, make: Factory
) -> None:
    app = create_base(servers.settings(gateway_timeout_s=0.2))
    with closing(psycopg2.connect(servers.database_url)) as other, other.cursor() as cursor, app.app_context():
        cursor.execute("lock table sandbox_gateway.operations")
        with pytest.raises(GatewayTimeout):
            Sandbox().charge(charge(str(new_id())))
        other.rollback()
        assert make.value("select count(*) from sandbox_gateway.operations") == 0
        app.extensions["payments.sandbox"].dispose()


def test_the_sandbox_does_the_same_thing_once(in_app: Flask) -> None:
    gateway, key = Sandbox(), str(UUID(int=1))
    assert gateway.find(charge(key)) is None
    first = gateway.charge(charge(key))
    assert gateway.charge(charge(key)) == first == gateway.find(charge(key)) == gateway.close(charge(key))
    refund = gateway.refund("refund", charge(key), 60)
    assert refund.outcome == "succeeded"
    assert gateway.refund("refund", charge(key), 60) == refund
    assert gateway.refund("too much", charge(key), 101).outcome == "declined"
    assert gateway.refund("of nothing", charge("no such charge"), 1).outcome == "declined"


def test_the_sandbox_closes_what_waits_for_its_payer(in_app: Flask) -> None:
    gateway, key = Sandbox(), str(new_id())
    assert gateway.charge(charge(key, "sandbox_action")).outcome == "requires_action"
    closed = gateway.close(charge(key))
    assert closed
    assert closed.outcome == "declined"
    assert gateway.confirm(charge(key), succeeds=True).outcome == "declined"


@pytest.mark.parametrize(
    ("token", "off_session", "outcome", "failure_code"),
    [
        ("sandbox_ok", False, "succeeded", None),
        ("sandbox_ok", True, "succeeded", None),
        ("sandbox_declined", True, "declined", "card_declined"),
        ("sandbox_insufficient", True, "declined", "insufficient_funds"),
        ("sandbox_stolen", True, "declined", "stolen_card"),
        ("sandbox_action", False, "requires_action", None),
        ("sandbox_action", True, "declined", "authentication_required"),
        ("sandbox_fail_after:0", True, "declined", "card_declined"),
        # A token that is not stored has been charged no other time.
        ("sandbox_fail_after:1", False, "succeeded", None),
    ],
)
def test_what_becomes_of_a_charge(
    in_app: Flask, token: str, off_session: bool, outcome: str, failure_code: str | None
) -> None:
    found = Sandbox().charge(charge(str(new_id()), token, off_session=off_session))
    assert (found.outcome, found.failure_code) == (outcome, failure_code)


def test_a_stored_card_fails_after_so_many_charges(in_app: Flask) -> None:
    gateway = Sandbox()
    cards = [gateway.describe(str(new_id()), "sandbox_fail_after:2").reference for _ in range(2)]
    keys = [str(new_id()) for _ in range(4)]
    for card in cards:
        outcomes = [gateway.charge(charge(f"{card} {key}", card)).outcome for key in keys]
        assert outcomes == ["succeeded", "succeeded", "declined", "declined"]
    # What is asked again is no further charge.
    assert [gateway.charge(charge(f"{cards[0]} {key}", cards[0])).outcome for key in keys[:2]] == ["succeeded"] * 2
