"""The payment's state machine: every move, allowed or not, and two at once."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from flask import Flask

from dues.errors import InvalidTransition, NotFound
from dues.ids import new_id
from dues.payments.models import PAYMENT_STATUSES, PaymentStatus
from dues.payments.service import customer_tags, get_payment
from dues.payments.state import move, settle_refund
from dues.postgres import transaction, unit_of_work
from tests.factory import Factory
from tests.payments.conftest import Shop

# As the design writes it, plus the further partial refund, which is logged like a change.
ALLOWED = {
    ("pending", "processing"),
    ("processing", "succeeded"),
    ("processing", "failed"),
    ("processing", "requires_action"),
    ("processing", "unknown"),
    ("requires_action", "processing"),
    ("requires_action", "failed"),
    ("unknown", "succeeded"),
    ("unknown", "failed"),
    ("succeeded", "partially_refunded"),
    ("succeeded", "refunded"),
    ("partially_refunded", "partially_refunded"),
    ("partially_refunded", "refunded"),
}


@pytest.mark.parametrize("came_from", PAYMENT_STATUSES)
def test_only_the_designed_moves_are_possible(in_app: Flask, shop: Shop, make: Factory, came_from: str) -> None:
    for to in PAYMENT_STATUSES:
        payment = make.payment(shop.store, shop.customer, status=came_from)
        if (came_from, to) in ALLOWED:
            with transaction():
                move(payment.store_id, payment.id, to, "a test")
            expected, version, events = str(to), 2, [(came_from, to, "a test")]
        else:
            with pytest.raises(InvalidTransition, match=f"is {came_from} cannot become {to}"), transaction():
                move(payment.store_id, payment.id, to, "a test")
            expected, version, events = came_from, 1, []
        (row,) = make.rows("select status, version from payments where id = %(id)s", {"id": payment.id})
        assert (row.status, row.version) == (expected, version)
        logged = make.rows("select * from payment_events where payment_id = %(id)s", {"id": payment.id})
        assert [(e.from_status, e.to_status, e.reason) for e in logged] == events


def test_every_move_is_known() -> None:
    assert len(list(product(PAYMENT_STATUSES, repeat=2))) == 64
    assert {status for pair in ALLOWED for status in pair} == set(PAYMENT_STATUSES)


def test_a_move_carries_what_goes_along(in_app: Flask, shop: Shop, make: Factory) -> None:
    payment = make.payment(shop.store, shop.customer, status="processing")
    with transaction():
        move(payment.store_id, payment.id, "requires_action", "3-D Secure", next_action={"type": "confirm"})
    (row,) = make.rows("select * from payments where id = %(id)s", {"id": payment.id})
    assert row.next_action == {"type": "confirm"}
    job_id = new_id()
    with transaction():
        move(payment.store_id, payment.id, "processing", "confirmed", gateway_ref="ref", job_id=job_id)
    (row,) = make.rows("select * from payments where id = %(id)s", {"id": payment.id})
    assert (row.next_action, row.gateway_ref, row.job_id) == (None, "ref", job_id)
    with transaction():
        move(payment.store_id, payment.id, "failed", "declined", failure_code="card_declined")
    (row,) = make.rows("select * from payments where id = %(id)s", {"id": payment.id})
    assert (row.gateway_ref, row.job_id, row.failure_code) == ("ref", job_id, "card_declined")
    assert row.updated_at > row.created_at


def test_a_move_names_the_tags_of_what_shows_the_payment(in_app: Flask, shop: Shop, make: Factory) -> None:
    payment = make.payment(shop.store, shop.customer, status="pending")
    with transaction():
        move(payment.store_id, payment.id, "processing", "a test")
        assert unit_of_work().tags == {f"store:{shop.store.id}:payments", f"user:{shop.customer.id}"}


def test_a_new_name_is_shown_in_the_stores_where_its_bearer_pays(in_app: Flask, shop: Shop, make: Factory) -> None:
    other = make.store()
    for store in (shop.store, shop.store, other):
        make.payment(store, shop.customer)
    make.payment(make.store())
    assert set(customer_tags(shop.customer.id)) == {f"store:{store.id}:customers" for store in (shop.store, other)}


def test_a_payment_that_is_not_there(in_app: Flask, shop: Shop) -> None:
    with pytest.raises(NotFound), transaction():
        move(shop.store.id, new_id(), "processing", "a test")


def test_a_move_needs_a_transaction_around_it(in_app: Flask, shop: Shop, make: Factory) -> None:
    payment = make.payment(shop.store, shop.customer, status="pending")
    with pytest.raises(RuntimeError, match="transaction"):
        move(payment.store_id, payment.id, "processing", "a test")


@pytest.mark.parametrize("targets", [("succeeded", "failed"), ("succeeded", "succeeded")])
def test_of_two_moves_at_once_one_is_refused(
    app: Flask, shop: Shop, make: Factory, targets: tuple[PaymentStatus, PaymentStatus]
) -> None:
    for _ in range(5):
        payment = make.payment(shop.store, shop.customer, status="processing")

        def attempt(to: PaymentStatus, payment_id: object = payment.id) -> str:
            with app.app_context():
                try:
                    with transaction():
                        move(shop.store.id, payment_id, to, "a race")  # type: ignore[arg-type]
                except InvalidTransition:
                    return "refused"
                return to

        with ThreadPoolExecutor(2) as threads:
            results = list(threads.map(attempt, targets))
        assert results.count("refused") == 1
        (winner,) = [result for result in results if result != "refused"]
        logged = make.rows("select to_status from payment_events where payment_id = %(id)s", {"id": payment.id})
        assert [event.to_status for event in logged] == [winner]
        assert make.value("select status from payments where id = %(id)s", {"id": payment.id}) == winner


def test_a_refund_is_settled_once(in_app: Flask, shop: Shop, make: Factory) -> None:
    row = make.payment(shop.store, shop.customer)
    refund = make.refund(row, status="pending")
    with transaction():
        settle_refund(get_payment(row.store_id, row.id), refund.id, "succeeded", gateway_ref="ref")
    with pytest.raises(InvalidTransition), transaction():
        settle_refund(get_payment(row.store_id, row.id), refund.id, "failed")
    (row,) = make.rows("select * from refunds where id = %(id)s", {"id": refund.id})
    assert (row.status, row.gateway_ref, row.version) == ("succeeded", "ref", 2)
