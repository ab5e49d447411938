"""The rows of the fault matrix that concern renewals: workers that die while members' subscriptions are renewed."""

import json
from functools import partial

import urllib3

from dues.ids import new_id
from tests.billing.conftest import age
from tests.faults.matrix import Row
from tests.faults.play import Play
from tests.servers import wait_until

_AMOUNT = 5000
_PATIENCE_S = 90.0
_OWE_NOTHING = "select bool_and(status = 'active' and bill is null) from subscriptions where store_id = %(store)s"
_CHARGED = """
    select array_agg(charges order by charges) from (
        select count(o.key)::int as charges from subscriptions s
        left join payments p on p.subscription_id = s.id
        left join sandbox_gateway.operations o
            on o.key = p.id::text and o.kind = 'charge' and o.outcome = 'succeeded' and o.amount = %(amount)s
        where s.store_id = %(store)s group by s.id) c
"""
_COUNTS = """
    select array[(select count(*) from subscription_periods where store_id = %(store)s),
        (select count(*) from invoices where store_id = %(store)s and status = 'paid'),
        (select count(*) from ledger_transactions where store_id = %(store)s and kind = 'invoice')]
"""


class Members:
    """Members of a play's store, each with a subscription by the week that is paid."""

    def __init__(self, play: Play, count: int) -> None:
        self._make, self._url, self._count = play.make, play.house.web.url, count
        self._store = {"store": play.customer.store.id}
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=15))
        package = play.make.package(play.customer.store, amount=_AMOUNT, interval="week")
        for _ in range(count):
            auth = play.make.auth(play.make.user())
            self._post("/v1/me/payment-methods", {"token": "sandbox_ok"}, auth)
            self._post(f"/v1/stores/{play.customer.store.id}/subscriptions", {"package_id": str(package.id)}, auth)
        self.wait_for_charges(1)

    def _post(self, path: str, body: dict[str, str], auth: dict[str, str]) -> None:
        headers = {**auth, "Content-Type": "application/json", "Idempotency-Key": new_id().hex}
        answer = self._http.request("POST", self._url + path, body=json.dumps(body), headers=headers)
        assert answer.status in (201, 202), answer.data

    def wait_for_charges(self, count: int) -> None:
        """Until each was charged so often, and owes nothing."""

        def all_are() -> bool:
            charges = self._make.value(_CHARGED, {**self._store, "amount": _AMOUNT})
            return bool(charges == [count] * self._count and self._make.value(_OWE_NOTHING, self._store))

        wait_until(all_are, _PATIENCE_S, f"{count} charges of each member")

    def check(self, periods: int) -> None:
        """Each period was billed, charged, invoiced and booked once."""
        self.wait_for_charges(periods)
        assert self._make.value(_COUNTS, self._store) == [self._count * periods] * 3


def _renew_at_line(line: str, play: Play) -> None:
    members = Members(play, 3)
    age(play.make, play.customer.store, 8)
    play.wait_for_line(line)
    members.check(2)
    play.settle()
    members.check(2)


MEMBERS = [
    Row("worker -9, renewals", moment, partial(_renew_at_line, line), lines={"default": {line: "kill"}})
    for line, moment in (
        ("renewal.after_claim", "after claim"),
        ("renewal.before_commit", "before commit"),
        ("renewal.after_commit", "after commit"),
    )
]
