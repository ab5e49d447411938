"""The gateways there are, by the name that a payment carries."""

from collections.abc import Mapping

from dues.payments.gateway import Gateway
from dues.payments.sandbox import Sandbox

SANDBOX = "sandbox"

GATEWAYS: Mapping[str, Gateway] = {SANDBOX: Sandbox()}
