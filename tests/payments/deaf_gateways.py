"""Gateways of the sandbox that do not answer."""

from dues.payments.gateway import Charge, GatewayTimeout, Operation
from dues.payments.sandbox import Sandbox


class Deaf(Sandbox):
    """Does nothing and answers nothing."""

    def close(self, charge: Charge) -> Operation | None:
        raise GatewayTimeout("no answer")

    def refund(self, key: str, charge: Charge, amount: int) -> Operation:
        raise GatewayTimeout("no answer")


class Forgetful(Sandbox):
    """Makes each refund, and loses the first answer."""

    def __init__(self) -> None:
        self.asked = 0

    def refund(self, key: str, charge: Charge, amount: int) -> Operation:
        operation = super().refund(key, charge, amount)
        self.asked += 1
        if self.asked == 1:
            raise GatewayTimeout("the answer was lost")
        return operation
