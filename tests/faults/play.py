"""One fault, played: customers pay while it strikes, and in the end every payment is held to what was promised."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace as Columns
from typing import Any, Literal

import urllib3

from dues.ids import new_id
from tests.faults.house import Crew, House, Mode
from tests.payments.stripe_shapes import Document
from tests.payments.stripe_stand_in import Account, signed
from tests.servers import wait_until

GatewayName = Literal["sandbox", "stripe"]
WEBHOOK_SECRET = "whsec_standinSECRET0123456789"

# How long a client goes on trying to have a payment accepted, and how long all may take to end after a fault.
_PATIENCE_S = 90.0
_LIVE = "select id from jobs where store_id = %(store)s and status in ('queued', 'running')"
_LAST_END = "select extract(epoch from max(finished_at))::float from jobs where store_id = %(store)s"


@dataclass(frozen=True)
class Accepted:
    """A payment as a client knows it: when it was accepted, and how long and how many attempts that took."""

    id: str
    job: str
    at: float
    seconds: float
    attempts: int


class Customer:
    """Somebody who pays one store, as a careful client does: with an Idempotency-Key, until there is an answer. The
    store is charged by the sandbox, or has an account at the stand-in for Stripe."""

    def __init__(self, house: House, gateway: GatewayName = "sandbox") -> None:
        owner, self.row = house.make.user(), house.make.user()
        self.store = house.make.store(owner)
        self.url = house.web.url
        self._owner_auth, self._auth = house.make.auth(owner), house.make.auth(self.row)
        self._http = urllib3.PoolManager(maxsize=16, retries=False, timeout=urllib3.Timeout(total=15))
        self._house, self.method = house, "sandbox_ok"
        self._account: Account | None = None
        if gateway == "stripe":
            self._open_account()

    def _open_account(self) -> None:
        key = self._house.stripe.key()
        self._account = self._house.stripe.accounts[key]
        body = {"type": "stripe", "secret_key": key, "webhook_secret": WEBHOOK_SECRET}
        answer = self._send("PUT", f"/v1/stores/{self.store.id}/gateway", body, self._owner_auth)
        assert answer.status == 200, answer.data
        self._at_stripe = self._house.stripe.new(self.account, "customers", "cus", {})["id"]
        self.use_card("ok")

    @property
    def account(self) -> Account:
        assert self._account
        return self._account

    def use_card(self, how: str) -> None:
        """Pay with a card at Stripe that does as it is called (stripe_stand_in.py)."""
        columns = {"store_id": self.store.id, "gateway": "stripe", "gateway_customer": self._at_stripe}
        reference = self._house.stripe.card(self.account, self._at_stripe, how)
        self.method = str(self._house.make.payment_method(self.row, gateway_ref=reference, **columns).id)

    def act(self, payment_id: str) -> None:
        """Do what the bank asks for."""
        (intent,) = self._intents(payment_id)
        self._house.stripe.act(self.account, intent["id"])

    def _intents(self, payment_id: str) -> list[Document]:
        found = list(self.account.all("payment_intents").values())
        return [intent for intent in found if intent["metadata"].get("dues_payment") == payment_id]

    def stripe_events(self, *types: str) -> list[Document]:
        """What Stripe has to tell, of these types if any are given."""
        return [one for one in list(self.account.all("events").values()) if not types or one["type"] in types]

    def hook(self, event: Document) -> int:
        """Stripe sends a hook. Returns: the status of the answer."""
        return self.send_hook(*signed(event, WEBHOOK_SECRET))

    def send_hook(self, body: bytes, headers: dict[str, str]) -> int:
        path = f"{self.url}/v1/gateways/stripe/{self.store.id}"
        return int(self._http.request("POST", path, body=body, headers=headers).status)

    def charged(self, payment_id: str) -> list[int]:
        """What the gateway has on record of a payment."""
        if self._account:
            return [one["amount_received"] for one in self._intents(payment_id) if one["status"] == "succeeded"]
        return [row.amount for row in self._operations("charge", payment_id)]

    def given_back(self, refund_id: str) -> list[int]:
        if self._account:
            made = list(self.account.all("refunds").values())
            return [one["amount"] for one in made if one["metadata"].get("dues_refund") == refund_id]
        return [row.amount for row in self._operations("refund", refund_id)]

    def _operations(self, kind: str, key: str) -> list[Columns]:
        return self._house.make.rows(
            "select amount from sandbox_gateway.operations"
            " where key = %(key)s and kind = %(kind)s and outcome = 'succeeded'",
            {"key": key, "kind": kind},
        )

    def refund(self, payment_id: str, amount: int) -> str:
        """The owner gives something back. Returns: the refund's id."""
        path = f"/v1/stores/{self.store.id}/payments/{payment_id}/refunds"
        headers = {**self._owner_auth, "Idempotency-Key": new_id().hex}
        answer = self._send("POST", path, {"amount": amount}, headers)
        assert answer.status == 202, answer.data
        return str(answer.json()["id"])

    def pay(self) -> Accepted:
        """Returns: the payment once it is accepted. Raises: AssertionError for an answer that should not be."""
        body = {"amount": 1500, "currency": "EUR", "payment_method": self.method}
        started, attempts, last = time.monotonic(), 0, ""
        key, path = new_id().hex, f"/v1/stores/{self.store.id}/payments"
        while time.monotonic() - started < _PATIENCE_S:
            attempts += 1
            try:
                answer = self._send("POST", path, body, {"Idempotency-Key": key})
            except urllib3.exceptions.HTTPError as error:
                last = str(error)
            else:
                if answer.status == 202:
                    document = answer.json()
                    job = answer.headers["Location"]
                    assert document["links"]["job"] == job
                    return Accepted(document["id"], job, time.time(), time.monotonic() - started, attempts)
                last = answer.data.decode()
                assert answer.status in (409, 503), last
            time.sleep(0.1)
        raise AssertionError(f"a payment was not accepted in {attempts} attempts, of which the last got: {last}")

    def get(self, path: str) -> dict[str, Any]:
        """A document, asked for until the web server gives it."""
        found: list[dict[str, Any]] = []

        def ask() -> bool:
            with suppress(urllib3.exceptions.HTTPError):
                answer = self._send("GET", path)
                assert answer.status in (200, 503), answer.data
                if answer.status == 200:
                    found.append(answer.json())
            return bool(found)

        wait_until(ask, _PATIENCE_S, f"GET {path}")
        return found[0]

    def request_report(self) -> str:
        """The owner asks for one. Returns: its path."""
        body = {"kind": "payments", "format": "csv", "from": "2020-01-01T00:00:00Z", "to": "2040-01-01T00:00:00Z"}
        answer = self._send("POST", f"/v1/stores/{self.store.id}/reports", body, self._owner_auth)
        assert answer.status == 202, answer.data
        return str(answer.json()["links"]["self"])

    def get_as_owner(self, path: str) -> dict[str, Any]:
        document: dict[str, Any] = self._send("GET", path, None, self._owner_auth).json()
        return document

    def _send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        sent = {"Content-Type": "application/json", **self._auth, **(headers or {})}
        return self._http.request(
            method, self.url + path, body=None if body is None else json.dumps(body), headers=sent
        )


class Play:
    """What a row of the matrix has to do with: the house, the crew, a customer, and the moment of the fault."""

    def __init__(self, house: House, crew: Crew, mode: Mode, folder: Path, gateway: GatewayName = "sandbox") -> None:
        self.house, self.crew, self.mode = house, crew, mode
        self.make = house.make
        self.customer = Customer(house, gateway)
        self.accepted: list[Accepted] = []
        self.refunds: dict[str, str] = {}
        self.struck_at = 0.0
        self.figures = ""
        self._folder = folder
        self._lock = threading.Lock()

    def pay(self, count: int = 3) -> list[Accepted]:
        """So many payments, one after the other."""
        made = [self.customer.pay() for _ in range(count)]
        with self._lock:
            self.accepted += made
        return made

    def refund(self, accepted: Accepted, amount: int) -> None:
        """Some of a payment is given back, once."""
        self.refunds[accepted.id] = self.customer.refund(accepted.id, amount)

    def pay_during(self, count: int, fault: Callable[[], object], after: int = 0) -> list[Accepted]:
        """So many payments from eight clients; `fault` comes when `after` of them are accepted."""
        with ThreadPoolExecutor(8) as clients:
            futures = [clients.submit(self.pay, 1) for _ in range(count)]
            wait_until(lambda: sum(future.done() for future in futures) >= after, _PATIENCE_S, "the first payments")
            fault()
            return [accepted for future in futures for accepted in future.result()]

    @contextmanager
    def traffic(self, clients: int, pause_s: float) -> Iterator[None]:
        """While the block runs, clients pay, each a while after its last payment was accepted."""
        over = threading.Event()

        def keep_paying() -> None:
            while not over.wait(pause_s):
                self.pay(1)

        with ThreadPoolExecutor(clients) as pool:
            paying = [pool.submit(keep_paying) for _ in range(clients)]
            try:
                yield
            finally:
                over.set()
            for client in paying:
                client.result()

    def strike(self, marker: Path | None = None) -> None:
        """From here the time to recovery counts: from now, or since a failpoint made its marker."""
        self.struck_at = marker.stat().st_mtime if marker else time.time()

    def wait_for_line(self, line: str) -> None:
        """Until a process has come to a failpoint."""
        marker = self._folder / line
        wait_until(marker.exists, _PATIENCE_S, f"a process at {line}")
        self.strike(marker)

    def jobs(self) -> list[Columns]:
        return self.make.rows(
            "select * from jobs where store_id = %(store)s order by id", {"store": self.customer.store.id}
        )

    def settle(self, patience_s: float = _PATIENCE_S, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until no job of this store is left to do."""
        store = {"store": self.customer.store.id}

        def all_is_done() -> bool:
            meanwhile()
            return not self.house.rows_by_and_by(_LIVE, store)

        wait_until(all_is_done, patience_s, "all jobs to end")

    def recovery_s(self) -> float:
        """How long after the fault the last job ended."""
        last_end = self.make.value(_LAST_END, {"store": self.customer.store.id})
        return max(float(last_end) - self.struck_at, 0.0)

    def copies(self) -> Counter[str]:
        """How many mails with each Message-ID lie at the sink, of those to this customer."""
        mails = [mail for mail in self.house.mailbox.mails() if mail["Delivered-To"] == self.customer.row.email]
        return Counter(str(mail["Message-ID"]).strip("<>").partition("@")[0] for mail in mails)

    def check(self, *, in_doubt: int = 0, rejected: int = 0) -> None:
        """Hold every payment to what was promised: of their mails `in_doubt` are `unknown` (or would be: a provider
        that can be asked has settled it), and `rejected` were refused by the mail server."""
        ids = [accepted.id for accepted in self.accepted]
        assert sorted(self._known_payments()) == sorted(ids), "accepted and recorded payments differ"
        copies = self.copies()
        states = Counter(self._check_payment(accepted, copies) for accepted in self.accepted)
        assert not copies, f"mails that belong to no payment: {copies}"
        unknown = in_doubt if self.mode == "plain" else 0
        assert states == Counter(sent=len(ids) - unknown - rejected, unknown=unknown, rejected=rejected) + Counter()
        if unknown:
            self._check_operators_are_told()

    def _known_payments(self) -> Iterable[str]:
        rows = self.make.rows(
            "select id::text from payments where store_id = %(store)s and subscription_id is null",
            {"store": self.customer.store.id},
        )
        return [row.id for row in rows]

    def _check_payment(self, accepted: Accepted, copies: Counter[str]) -> str:
        """Returns: the state of the payment's mail; its copies are taken out of `copies`."""
        payment = self.customer.get(f"/v1/stores/{self.customer.store.id}/payments/{accepted.id}")
        refund_id = self.refunds.get(accepted.id)
        assert payment["status"] == ("partially_refunded" if refund_id else "succeeded")
        if refund_id:
            assert self.customer.given_back(refund_id) == [payment["refunded_amount"]] == [500]
            told = {"mail": f"%:{refund_id}"}
            [of_refund] = self.make.rows("select id::text from email_sends where dedupe_key like %(mail)s", told)
            assert copies.pop(of_refund.id, 0) == 1
        key = {"id": accepted.id, "mail": f"payment-confirmation:{accepted.id}"}
        assert self.customer.charged(accepted.id) == [1500]
        [mail] = self.make.rows("select id::text, state from email_sends where dedupe_key = %(mail)s", key)
        count = copies.pop(mail.id, 0)
        assert count == {"sent": 1, "rejected": 0}.get(mail.state, min(count, 1)), (
            f"{count} copies of a {mail.state} mail"
        )
        self._check_status(accepted.job, "succeeded")
        self._check_status(payment["links"]["confirmation"], "succeeded" if mail.state == "sent" else "failed")
        return str(mail.state)

    def _check_status(self, path: str, status: str) -> None:
        """The status URL says what the row says."""
        document = self.customer.get(path)
        assert (document["status"], document["done"]) == (status, True), document
        [row] = self.make.rows("select * from jobs where id = %(id)s", {"id": document["id"]})
        assert (row.status, row.attempt) == (document["status"], document["attempt"])
        assert (row.lease_token, row.finished_at is None) == (None, False)

    def _check_operators_are_told(self) -> None:
        held = self.make.rows("select id::text from email_sends where state = 'unknown'")
        lines = [json.loads(line) for line in self.crew.log().splitlines()]
        errors = [line["message"] for line in lines if line["level"] == "error"]
        ours = self.make.rows(
            "select e.id::text from email_sends e where state = 'unknown' and recipient = %(email)s",
            {"email": self.customer.row.email},
        )
        for mail in ours:
            assert any(message.startswith(f"mail {mail.id} is unknown") for message in errors), errors
        metrics = urllib3.PoolManager().request("GET", f"{self.customer.url}/metrics").data.decode()
        assert f"dues_mails_unknown {len(held)}.0" in metrics
