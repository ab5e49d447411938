"""All gateways, by the name that is stored with a payment."""

from collections.abc import Mapping

from dues.payments.gateway import Gateway
from dues.payments.sandbox import Sandbox

SANDBOX = "sandbox"

GATEWAYS: Mapping[str, Gateway] = {SANDBOX: Sandbox()}
