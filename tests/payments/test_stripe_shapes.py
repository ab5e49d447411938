"""Dues and the stand-in against what Stripe's own package says of its API: nothing is sent that Stripe would refuse,
and nothing that it may answer is unknown."""

import stripe

from dues.payments.stripe_client import API_VERSION
from dues.payments.stripe_events import EVENT_TYPES
from dues.payments.stripe_gateway import _DISPUTES
from tests.payments.stripe_shapes import event_types, statuses_of, wrong_parameters


def test_the_version_that_is_asked_for_is_the_one_that_the_types_are_of() -> None:
    """Whoever takes a newer package has mypy and the stand-in find what that version takes no more."""
    assert stripe.api_version == API_VERSION


def test_every_status_of_a_dispute_is_known_but_those_in_which_no_money_has_moved() -> None:
    known = statuses_of("dispute")
    assert known - _DISPUTES.keys() == {one for one in known if one.startswith("warning_")}
    assert _DISPUTES.keys() <= known


def test_every_event_that_is_listened_for_is_sent() -> None:
    assert set(EVENT_TYPES) <= event_types()


def test_what_stripe_refuses_is_told_from_what_it_takes() -> None:
    charge = {"amount": "1", "currency": "eur", "automatic_payment_methods": {"enabled": "true"}}
    assert wrong_parameters("POST", ["payment_intents"], charge) == []
    removed = charge | {"payment_method_types": ["card"]}
    assert wrong_parameters("POST", ["payment_intents"], removed) == ["payment_method_types"]
    assert wrong_parameters("POST", ["payment_intents"], {"currency": "eur"}) == ["-amount"]
    misspelt = charge | {"automatic_payment_methods": {"enabled": "true", "redirects": "never"}}
    assert wrong_parameters("POST", ["payment_intents"], misspelt) == ["automatic_payment_methods.redirects"]
    assert wrong_parameters("GET", ["events"], {"created": {"since": "1"}}) == ["created.since"]
