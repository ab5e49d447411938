"""A stand-in for Stripe's API, in the shapes of its reference (https://docs.stripe.com/api), on loopback.

localstripe, which is a stand-in too, could not be used: it knows no idempotency keys, refuses the filters of lists, has
neither disputes nor lists of events, does not tell a card that needs its payer from others off session, listens on
every address and pickles its state into /tmp. What a test needs of Stripe beyond what is asked here, its own methods
do: a payer who acts, a bank that disputes, a hook as Stripe would send it, a fault.
"""

import hmac
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from tests.payments.stripe_shapes import Document, require_object, wrong_parameters

# lost: done, and the answer never arrives; away: not done; slow: done, after the caller has given up. The others are
# answered at once, and nothing is done.
Fault = Literal["lost", "away", "slow", "busy", "broken", "outdated"]

_REFUSALS: dict[Fault, tuple[int, Document]] = {
    "busy": (429, {"type": "invalid_request_error", "code": "rate_limit"}),
    "broken": (500, {"type": "api_error"}),
    "outdated": (400, {"type": "invalid_request_error", "code": "payment_method_types_no_longer_supported"}),
}

# What becomes of a charge of a card: an error's code and the bank's, or an action.
_DECLINES = {
    "declined": ("card_declined", "generic_decline"),
    "insufficient": ("card_declined", "insufficient_funds"),
    "stolen": ("card_declined", "stolen_card"),
    "expired": ("expired_card", None),
}


class StripeError(Exception):
    def __init__(self, status: int, kind: str, code: str, **members: Any) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"error": {"type": kind, "code": code, "message": f"stand-in: {code}", **members}}


@dataclass
class Asked:
    """A request as it was sent."""

    method: str
    path: str
    headers: dict[str, str]
    params: Document


@dataclass
class Account:
    """What one account of Stripe's has, the newest last."""

    id: str
    objects: dict[str, dict[str, Document]] = field(default_factory=dict)
    keys: dict[str, tuple[str, Document, int, Document]] = field(default_factory=dict)

    def all(self, kind: str) -> dict[str, Document]:
        return self.objects.setdefault(kind, {})


class StripeStandIn:
    """Each secret key that `key()` gives out belongs to an account; others are refused."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self.reset()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in.serve(self)

            def do_POST(self) -> None:
                stand_in.serve(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A caller that has given up is no error."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.asked: list[Asked] = []
        self._faults: list[tuple[str, str, Fault]] = []
        # How far its clock is ahead of ours.
        self.ahead_s = 0.0
        self.release = threading.Event()
        self.when_done: Callable[[], object] = lambda: None

    def key(self, mode: str = "live", account: Account | None = None) -> str:
        """A secret key, of a new account unless one is given."""
        number = next(self._numbers)
        key = f"sk_{mode}_standin{number:08}SECRET{number}"
        self.accounts[key] = account or Account(f"acct_{number:08}")
        return key

    def fail(self, method: str, path: str, fault: Fault) -> None:
        """The next request to what begins with `path` meets a fault."""
        self._faults.append((method, path, fault))

    def replay(self, asked: Asked) -> tuple[int, Document]:
        """What a request that was held up on its way is answered when it arrives."""
        with self._lock:
            return self._answer(asked, None)

    # Answering

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body, url = handler.rfile.read(length).decode(), urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(handler.command, url.path, headers, _nested(parse_qsl(body or url.query, keep_blank_values=True)))
        with self._lock:
            self.asked.append(asked)
            fault = self._fault_of(asked)
            status, answer = (503, {}) if fault == "away" else self._answer(asked, fault)
        if asked.method == "POST":
            self.when_done()
        if fault == "slow":
            self.release.wait(30)
        if fault in ("lost", "away", "slow"):
            handler.close_connection = True
            return
        data = json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Request-Id", f"req_{len(self.asked)}")
        handler.end_headers()
        handler.wfile.write(data)

    def _fault_of(self, asked: Asked) -> Fault | None:
        for found in self._faults:
            method, path, fault = found
            if method == asked.method and asked.path.startswith(path):
                self._faults.remove(found)
                return fault
        return None

    def _answer(self, asked: Asked, fault: Fault | None) -> tuple[int, Document]:
        if fault in _REFUSALS:
            status, error = _REFUSALS[fault]
            return status, {"error": {"message": f"stand-in: {fault}", **error}}
        secret = asked.headers.get("authorization", "").removeprefix("Bearer ")
        account = self.accounts.get(secret)
        if account is None:
            message = f"Invalid API Key provided: {secret}"
            return 401, {"error": {"type": "invalid_request_error", "message": message}}
        key = asked.headers.get("idempotency-key")
        if key and asked.method == "POST" and key in account.keys:
            path, params, status, answer = account.keys[key]
            if (path, params) != (asked.path, asked.params):
                return 400, {"error": {"type": "idempotency_error", "message": "another request under this key"}}
            return status, answer
        try:
            status, answer = 200, self._do(account, asked)
        except StripeError as error:
            status, answer = error.status, error.body
        # Stripe keeps what has begun to execute, refusals of cards among it, and not what was found invalid before.
        if key and status in (200, 402):
            account.keys[key] = asked.path, asked.params, status, json.loads(json.dumps(answer))
        return status, answer

    def _do(self, account: Account, asked: Asked) -> Document:
        parts = asked.path.removeprefix("/v1/").split("/")
        if asked.method == "GET" and parts == ["account"]:
            return {"id": account.id, "object": "account"}
        if wrong := wrong_parameters(asked.method, parts, asked.params):
            raise StripeError(400, "invalid_request_error", "parameter_unknown", param=wrong[0])
        if asked.method == "GET" and len(parts) == 1:
            return self._list(account, parts[0], asked.params)
        if asked.method == "GET" and len(parts) == 2:
            return self._expanded(account, self._get(account, *parts), asked.params)
        does: dict[tuple[str, ...], Callable[[], Document]] = {
            ("customers",): lambda: self.new(account, "customers", "cus", asked.params),
            ("setup_intents",): lambda: self._new_setup(account, asked.params),
            ("payment_intents",): lambda: self._new_intent(account, asked.params),
            ("payment_intents", "cancel"): lambda: self._cancel(account, parts[1]),
            ("payment_methods", "detach"): lambda: self._get(account, "payment_methods", parts[1]) | {"customer": None},
            ("refunds",): lambda: self._new_refund(account, asked.params),
        }
        return does[(parts[0], *parts[2:])]()

    def _list(self, account: Account, kind: str, params: Document) -> Document:
        found = list(reversed(account.all(kind).values()))
        if since := int((params.get("created") or {}).get("gte", 0)):
            found = [one for one in found if one["created"] >= since]
        for name in ("customer", "payment_intent"):
            if name in params:
                found = [one for one in found if one.get(name) == params[name]]
        if "types" in params:
            found = [one for one in found if one["type"] in params["types"]]
        if "starting_after" in params:
            at = next(i for i, one in enumerate(found) if one["id"] == params["starting_after"])
            found = found[at + 1 :]
        limit = int(params.get("limit", 10))
        return {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": f"/v1/{kind}"}

    def _get(self, account: Account, kind: str, name: str) -> Document:
        if name not in account.all(kind):
            raise StripeError(404, "invalid_request_error", "resource_missing")
        return account.all(kind)[name]

    def _expanded(self, account: Account, found: Document, params: Document) -> Document:
        expand = [name for name in params.get("expand", []) if found.get(name)]
        return found | {name: self._get(account, f"{name}s", found[name]) for name in expand}

    def new(self, account: Account, kind: str, prefix: str, columns: Document) -> Document:
        name = f"{prefix}_{next(self._numbers):08}"
        created = int(time.time() + self.ahead_s)
        found = {"id": name, "object": kind[:-1], "created": created, "metadata": {}, **columns}
        if kind == "events":
            del found["metadata"]
        require_object(found)
        account.all(kind)[name] = found
        return found

    def _new_setup(self, account: Account, params: Document) -> Document:
        self._get(account, "customers", params["customer"])
        columns = {"status": "requires_payment_method", "payment_method": None, "client_secret": "", **params}
        found = self.new(account, "setup_intents", "seti", columns)
        found["client_secret"] = f"{found['id']}_secret_standin"
        return found

    def _new_intent(self, account: Account, params: Document) -> Document:
        columns = {
            "amount": int(params["amount"]),
            "amount_received": 0,
            "currency": params["currency"],
            "customer": params.get("customer"),
            "payment_method": params.get("payment_method"),
            "metadata": params.get("metadata", {}),
            "status": "requires_confirmation",
            "last_payment_error": None,
        }
        is_confirmed = params.get("confirm") == "true"
        card = self._get(account, "payment_methods", params["payment_method"]) if is_confirmed else None
        if card and card["customer"] != params.get("customer"):
            raise StripeError(400, "invalid_request_error", "payment_method_customer_mismatch")
        found = self.new(account, "payment_intents", "pi", columns)
        found["client_secret"] = f"{found['id']}_secret_standin"
        if card:
            self._pay(account, found, card["stand_in"], off_session=params.get("off_session") == "true")
        return found

    def _pay(self, account: Account, intent: Document, how: str, *, off_session: bool) -> None:
        if how == "action" and not off_session:
            intent["status"] = "requires_action"
            intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
            self.tell(account, "payment_intent.requires_action", intent)
            return
        code, decline = ("authentication_required", "authentication_required") if how == "action" else ("", None)
        code, decline = _DECLINES.get(how, (code, decline))
        if not code:
            self._succeed(account, intent)
            return
        error = {"type": "card_error", "code": code, "decline_code": decline}
        intent["status"], intent["last_payment_error"] = "requires_payment_method", error
        self.tell(account, "payment_intent.payment_failed", intent)
        raise StripeError(402, "card_error", code, decline_code=decline, payment_intent=dict(intent))

    def _succeed(self, account: Account, intent: Document) -> None:
        intent["status"], intent["amount_received"] = "succeeded", intent["amount"]
        intent["latest_charge"] = intent["id"].replace("pi_", "ch_")
        self.tell(account, "payment_intent.succeeded", intent)

    def _cancel(self, account: Account, name: str) -> Document:
        intent = self._get(account, "payment_intents", name)
        if intent["status"] in ("succeeded", "canceled"):
            raise StripeError(400, "invalid_request_error", "payment_intent_unexpected_state")
        intent["status"] = "canceled"
        self.tell(account, "payment_intent.canceled", intent)
        return intent

    def _new_refund(self, account: Account, params: Document) -> Document:
        intent = self._get(account, "payment_intents", params["payment_intent"])
        given = sum(one["amount"] for one in account.all("refunds").values() if one["payment_intent"] == intent["id"])
        if intent["status"] != "succeeded" or given + int(params["amount"]) > intent["amount"]:
            raise StripeError(400, "invalid_request_error", "charge_already_refunded")
        columns = {**params, "amount": int(params["amount"]), "currency": intent["currency"], "status": "succeeded"}
        return self.new(account, "refunds", "re", columns)

    # What others do

    def card(self, account: Account, customer: str, how: str = "ok") -> str:
        """A card of a customer's that does as it is called: ok, declined, insufficient, stolen, expired, action."""
        card = {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2099}
        columns = {"type": "card", "card": card, "customer": customer, "stand_in": how}
        return str(self.new(account, "payment_methods", "pm", columns)["id"])

    def finish_setup(self, account: Account, name: str, how: str = "ok") -> None:
        """The payer enters a card."""
        found = account.all("setup_intents")[name]
        found["payment_method"], found["status"] = self.card(account, found["customer"], how), "succeeded"
        self.tell(account, "setup_intent.succeeded", found)

    def act(self, account: Account, name: str, *, succeeds: bool = True) -> None:
        """The payer does what their bank asks for, or fails to."""
        intent = account.all("payment_intents")[name]
        if succeeds:
            self._succeed(account, intent)
        else:
            code = "payment_intent_authentication_failure"
            intent["status"] = "requires_payment_method"
            intent["last_payment_error"] = {"type": "card_error", "code": code}
            self.tell(account, "payment_intent.payment_failed", intent)

    def dispute(self, account: Account, intent: Document, amount: int | None = None) -> Document:
        """The payer's bank takes the money back."""
        columns = {
            "payment_intent": intent["id"],
            "amount": intent["amount"] if amount is None else amount,
            "currency": intent["currency"],
            "reason": "fraudulent",
            "status": "needs_response",
        }
        found = self.new(account, "disputes", "dp", columns)
        self.tell(account, "charge.dispute.created", found)
        return found

    def send_back(self, account: Account, refund: Document) -> None:
        """The payer's bank takes no refund: their card is no more, say."""
        refund["status"], refund["failure_reason"] = "failed", "expired_or_canceled_card"
        self.tell(account, "refund.failed", refund)

    def decide(self, account: Account, dispute: Document, status: str) -> None:
        dispute["status"] = status
        self.tell(account, "charge.dispute.closed", dispute)

    def tell(self, account: Account, kind: str, found: Document) -> Document:
        """Have an event of what has happened."""
        if "object" in found:
            require_object(found)
        data = {"object": json.loads(json.dumps(found))}
        return self.new(account, "events", "evt", {"type": kind, "data": data, "livemode": True})


def signed(event: Document, secret: str, at: float | None = None) -> tuple[bytes, dict[str, str]]:
    """A hook as Stripe sends it: its body and header fields."""
    body, moment = json.dumps(event).encode(), int(time.time() if at is None else at)
    signature = hmac.new(secret.encode(), f"{moment}.".encode() + body, sha256).hexdigest()
    return body, {"Stripe-Signature": f"t={moment},v1={signature}", "Content-Type": "application/json"}


def _nested(pairs: list[tuple[str, str]]) -> Document:
    """`a[b]=1` as {"a": {"b": "1"}}; lists are numbered, or have empty brackets."""
    found: Document = {}
    for name, value in pairs:
        first, _, rest = name.partition("[")
        if not rest:
            found[first] = value
            continue
        inner = rest.removesuffix("]")
        if inner == "" or inner.isdigit():
            found.setdefault(first, []).append(value)
        else:
            found.setdefault(first, {})[inner] = value
    return found
