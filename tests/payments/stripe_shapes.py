"""What Stripe takes and gives, by the types of its own package, which are generated from its description of the API for
the version that the package is of. The stand-in asks here, so that it can agree to nothing that Stripe would refuse.
"""

from typing import Any, get_args

import stripe
from stripe import RequestOptions, params

Document = dict[str, Any]

_PARAMS: dict[tuple[str, ...], str] = {
    ("POST", "customers"): "CustomerCreateParams",
    ("POST", "setup_intents"): "SetupIntentCreateParams",
    ("POST", "payment_intents"): "PaymentIntentCreateParams",
    ("POST", "payment_intents", "cancel"): "PaymentIntentCancelParams",
    ("POST", "payment_methods", "detach"): "PaymentMethodDetachParams",
    ("POST", "refunds"): "RefundCreateParams",
    ("GET", "payment_intents"): "PaymentIntentListParams",
    ("GET", "refunds"): "RefundListParams",
    ("GET", "disputes"): "DisputeListParams",
    ("GET", "events"): "EventListParams",
    ("GET", "setup_intents", "one"): "SetupIntentRetrieveParams",
    ("GET", "payment_intents", "one"): "PaymentIntentRetrieveParams",
    ("GET", "disputes", "one"): "DisputeRetrieveParams",
}
_OBJECTS: dict[str, type] = {
    "customer": stripe.Customer,
    "setup_intent": stripe.SetupIntent,
    "payment_intent": stripe.PaymentIntent,
    "payment_method": stripe.PaymentMethod,
    "refund": stripe.Refund,
    "dispute": stripe.Dispute,
    "event": stripe.Event,
}


def wrong_parameters(method: str, parts: list[str], given: Document) -> list[str]:
    """The names in a request that Stripe knows nothing of; `automatic_payment_methods.x` where it is an inner one. A
    request that must have another parameter lacks that one, as `-amount`."""
    what = (method, parts[0], *parts[2:]) if method == "POST" or len(parts) != 2 else (method, parts[0], "one")
    return _unknown(_PARAMS[what], given)


def _unknown(name: str, given: Document, within: str = "") -> list[str]:
    known = getattr(params, name)
    options = RequestOptions.__annotations__.keys()
    found = [f"{within}{one}" for one in given if one not in known.__annotations__.keys() - options]
    found += [f"-{within}{one}" for one in known.__required_keys__ - given.keys() - options]
    for one, value in given.items():
        inner = name + "".join(part.capitalize() for part in one.split("_"))
        if isinstance(value, dict) and hasattr(params, inner):
            found += _unknown(inner, value, f"{within}{one}.")
    return found


def require_object(found: Document) -> None:
    """Hold an object of the stand-in against what Stripe gives. Raises: AssertionError for a member or a status that
    Stripe's do not have."""
    known = _OBJECTS[found["object"]].__annotations__
    unknown = found.keys() - known.keys() - {"stand_in"}
    assert not unknown, f"Stripe's {found['object']} has no {unknown}"
    statuses = _literals(known.get("status"))
    assert not statuses or found["status"] in statuses, f"Stripe's {found['object']} is never {found['status']}"


def statuses_of(kind: str) -> set[str]:
    """Each status that such an object may have."""
    return _literals(_OBJECTS[kind].__annotations__["status"])


def event_types() -> set[str]:
    """What endpoints for webhooks may ask for."""
    return _literals(params.WebhookEndpointCreateParams.__annotations__["enabled_events"])


def _literals(hint: Any) -> set[str]:
    found = {one for one in get_args(hint) if isinstance(one, str)}
    return found.union(*(_literals(one) for one in get_args(hint) if not isinstance(one, str)))
