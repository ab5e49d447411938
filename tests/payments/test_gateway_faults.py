"""What may go wrong between a gateway and us, on the sandbox and on Stripe: one charge each, and the books are clean.

Stripe's faults are made by the stand-in (stripe_stand_in.py), which does what it is asked and keeps its answer, or does
it late, or tells twice, in another order, or never.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from dues.billing.audit import audit
from dues.payments import processing
from dues.payments.gateway import Dispute
from dues.payments.stripe_gateway import Stripe
from tests.payments.conftest import Shop, Work
from tests.payments.stripe_shop import StripeShop, sweep
from tests.payments.stripe_stand_in import Fault
from tests.servers import Mailbox

INTENTS, REFUNDS = "/v1/payment_intents", "/v1/refunds"


# What becomes of a charge of the sandbox, how often it is made, and how it is disputed in the end.
SANDBOX = {
    "sandbox_lost_answer": ("succeeded", [1500], None),
    "sandbox_timeout": ("failed", [], None),
    "sandbox_disputed": ("succeeded", [1500], "open"),
    "sandbox_dispute_won": ("succeeded", [1500], "won"),
    "sandbox_dispute_lost": ("succeeded", [1500], "lost"),
}


def test_charges_of_the_sandbox(shop: Shop, work: Work, app: Flask) -> None:
    payments = {card: shop.pay(card)["id"] for card in SANDBOX}
    work.drain()
    work.hurry()
    sweep(app, work)
    assert {shop.payment(payments[card])["dispute"]["status"] for card in list(SANDBOX)[2:]} == {"open"}
    sweep(app, work)
    for card, (status, charges, dispute) in SANDBOX.items():
        found = shop.payment(payments[card])
        assert (found["status"], shop.charged(found["id"])) == (status, charges), card
        assert (found["dispute"] and found["dispute"]["status"]) == dispute, card
    assert shop.refund(payments["sandbox_dispute_lost"]).status_code == 409
    assert shop.refund(payments["sandbox_dispute_won"]).status_code == 202
    work.drain()
    with app.app_context():
        assert audit() == []


@pytest.mark.parametrize(
    ("faults", "status", "charges"),
    [
        pytest.param([("POST", INTENTS, "lost")], "succeeded", [1500], id="answer-lost"),
        pytest.param([("POST", INTENTS, "slow")], "succeeded", [1500], id="answer-late"),
        pytest.param([("POST", INTENTS, "away")], "failed", [], id="never-arrived"),
        pytest.param([("POST", INTENTS, "broken")], "failed", [], id="broken"),
        pytest.param([("POST", INTENTS, "busy")], "succeeded", [1500], id="too-many-requests"),
        pytest.param([("POST", INTENTS, "outdated")], "succeeded", [1500], id="no-payers-fault"),
        pytest.param([("POST", INTENTS, "lost"), ("GET", INTENTS, "away")], "succeeded", [1500], id="lost-then-away"),
        pytest.param([("POST", INTENTS, "away"), ("POST", INTENTS, "lost")], "failed", [], id="fence-lost"),
    ],
)
def test_a_charge_of_stripes(
    stripes: StripeShop, faults: list[tuple[str, str, Fault]], status: str, charges: list[int]
) -> None:
    for fault in faults:
        stripes.stripe.fail(*fault)
    payment_id = stripes.pay()
    stripes.hooks()
    for _ in range(3):
        stripes.work.hurry()
    assert (stripes.payment(payment_id)["status"], stripes.charged(payment_id)) == (status, charges)


def test_a_declined_charge_whose_answer_is_lost_stays_declined(stripes: StripeShop) -> None:
    stripes.stripe.fail("POST", INTENTS, "lost")
    payment_id = stripes.pay("insufficient")
    stripes.work.hurry()
    found = stripes.payment(payment_id)
    assert (found["status"], found["failure_code"]) == ("failed", "insufficient_funds")
    assert [one["status"] for one in stripes.intents(payment_id)] == ["canceled"]


def test_a_charge_that_arrives_after_its_key_was_closed_is_refused(stripes: StripeShop) -> None:
    stripes.stripe.fail("POST", INTENTS, "away")
    payment_id = stripes.pay()
    late = next(one for one in stripes.stripe.asked if one.path == INTENTS and one.method == "POST")
    stripes.work.hurry()
    assert stripes.payment(payment_id)["failure_code"] == "gateway_timeout"
    status, answer = stripes.stripe.replay(late)
    assert (status, answer["error"]["type"]) == (400, "idempotency_error")
    assert stripes.charged(payment_id) == []


def _act(stripes: StripeShop, payment_id: str, *, succeeds: bool = True) -> None:
    (intent,) = stripes.intents(payment_id)
    stripes.stripe.act(stripes.account, intent["id"], succeeds=succeeds)


def _by_hook(stripes: StripeShop) -> None:
    stripes.hooks()


def _twice(stripes: StripeShop) -> None:
    stripes.hooks(*(2 * stripes.events()))


def _in_another_order(stripes: StripeShop) -> None:
    stripes.hooks(*reversed(stripes.events()))


def _never(stripes: StripeShop) -> None:
    stripes.sweep()
    stripes.sweep()


def _hook_and_list(stripes: StripeShop) -> None:
    stripes.hooks()
    stripes.sweep()


SLOW = pytest.mark.slow
TELLS = [_by_hook, _twice, _never, *(pytest.param(tell, marks=SLOW) for tell in (_in_another_order, _hook_and_list))]


@pytest.mark.parametrize("tell", TELLS)
@pytest.mark.parametrize(
    ("succeeds", "status"), [(True, "succeeded"), pytest.param(False, "failed", marks=pytest.mark.slow)]
)
def test_news_of_a_payer_who_acted(
    stripes: StripeShop, tell: Callable[[StripeShop], None], succeeds: bool, status: str
) -> None:
    payment_id = stripes.pay("action")
    assert stripes.payment(payment_id)["status"] == "requires_action"
    _act(stripes, payment_id, succeeds=succeeds)
    tell(stripes)
    assert stripes.payment(payment_id)["status"] == status
    assert stripes.charged(payment_id) == ([1500] if succeeds else [])
    assert stripes.shop.events(payment_id).count("succeeded") == int(succeeds)


HOUR = 3600.0


WIDE = pytest.mark.wide


@pytest.mark.parametrize(
    "ahead_s", [-20 * HOUR, 20 * HOUR, *(pytest.param(hours * HOUR, marks=WIDE) for hours in (-1, 1))]
)
def test_whose_clock_is_wrong_does_not_matter(stripes: StripeShop, ahead_s: float) -> None:
    """Charges are found, and news are heard of, however far Stripe's clock is from ours."""
    stripes.make.rows("update gateway_accounts set told_until = now() - interval '1 day'")
    stripes.stripe.ahead_s = ahead_s
    stripes.stripe.fail("POST", INTENTS, "lost")
    lost = stripes.pay()
    # By then Stripe has forgotten the key, so that only listing tells.
    stripes.account.keys.clear()
    stripes.work.hurry()
    assert (stripes.payment(lost)["status"], stripes.charged(lost)) == ("succeeded", [1500])
    for _ in range(2):
        payment_id = stripes.pay("action")
        _act(stripes, payment_id)
        stripes.sweep()
        assert stripes.payment(payment_id)["status"] == "succeeded"
        assert stripes.charged(payment_id) == [1500]


def test_a_hook_that_comes_before_the_answer(stripes: StripeShop) -> None:
    """The charge is made, and its hook arrives while the job that asked for it still waits for the answer."""
    payment_id = str(stripes.shop.pay(stripes.card())["id"])
    stripes.stripe.when_done = lambda: [stripes.hook(event) for event in stripes.events("payment_intent.succeeded")]
    stripes.work.drain()
    stripes.work.hurry()
    assert stripes.shop.events(payment_id) == ["pending", "processing", "succeeded"]
    assert stripes.charged(payment_id) == [1500]
    assert stripes.make.value("select count(*) from gateway_events") == 1
    assert stripes.make.rows("select kind from jobs where status <> 'succeeded'") == []


@pytest.mark.parametrize(
    "fault", ["lost", "busy", *(pytest.param(fault, marks=SLOW) for fault in ("away", "slow", "broken"))]
)
def test_a_refund(stripes: StripeShop, fault: Fault) -> None:
    payment_id = stripes.pay()
    stripes.stripe.fail("POST", REFUNDS, fault)
    assert stripes.shop.refund(payment_id, amount=500).status_code == 202
    stripes.work.drain()
    stripes.work.hurry()
    assert (stripes.payment(payment_id)["refunded_amount"], stripes.refunded()) == (500, 500)


def test_a_refund_whose_key_stripe_has_forgotten_is_found_by_listing(stripes: StripeShop) -> None:
    payment_id = stripes.pay()
    stripes.stripe.fail("POST", REFUNDS, "lost")
    stripes.shop.refund(payment_id, amount=500)
    stripes.work.drain()
    stripes.account.keys.clear()
    stripes.work.hurry()
    assert (stripes.payment(payment_id)["refunded_amount"], stripes.refunded()) == (500, 500)


def test_a_refund_twice_at_once(stripes: StripeShop) -> None:
    payment_id = stripes.pay()
    assert stripes.shop.refund(payment_id).status_code == 202
    assert stripes.shop.refund(payment_id).status_code == 409
    stripes.make.rows("update jobs set attempt = 0, status = 'queued', run_at = now() where kind = 'payment.refund'")
    stripes.work.hurry()
    assert (stripes.payment(payment_id)["status"], stripes.refunded()) == ("refunded", 1500)


@pytest.mark.parametrize(
    ("tell", "ends"),
    [
        (_by_hook, "open"),
        (_twice, "won"),
        (_in_another_order, "lost"),
        (_never, "lost"),
        *(
            pytest.param(tell, ends, marks=SLOW)
            for tell in (_by_hook, _twice, _in_another_order, _never, _hook_and_list)
            for ends in ("open", "won", "lost")
        ),
    ],
)
def test_a_dispute(stripes: StripeShop, tell: Callable[[StripeShop], None], ends: str) -> None:
    payment_id = stripes.pay()
    (intent,) = stripes.intents(payment_id)
    dispute = stripes.stripe.dispute(stripes.account, intent)
    if ends != "open":
        stripes.stripe.decide(stripes.account, dispute, ends)
    tell(stripes)
    shown = stripes.payment(payment_id)
    assert (shown["status"], shown["dispute"]["status"], shown["dispute"]["amount"]) == ("succeeded", ends, 1500)
    told = stripes.make.value("select count(*) from events where type = 'payment.disputed'")
    assert told == (1 if ends == "open" else 2)
    books = stripes.make.rows("select account, sum(amount) as amount from ledger_entries group by account")
    has = {row.account: int(row.amount) for row in books if row.amount}
    stripes_has = {"won": {"gateway:stripe": 1500}, "open": {"disputed": 1500}, "lost": {"losses": 1500}}[ends]
    assert has == stripes_has | {"revenue": -1500}
    # What the bank has taken back cannot be given back once more.
    assert stripes.shop.refund(payment_id).status_code == (202 if ends == "won" else 409)
    stripes.work.drain()


def test_a_dispute_that_is_lost_is_appealed_and_won(stripes: StripeShop) -> None:
    payment_id = stripes.pay()
    (intent,) = stripes.intents(payment_id)
    dispute = stripes.stripe.dispute(stripes.account, intent)
    shown = []
    for status in ("lost", "appeal_needs_response", "appeal_under_review", "won", "lost", "won"):
        stripes.stripe.decide(stripes.account, dispute, status)
        stripes.hooks()
        found = stripes.payment(payment_id)["dispute"]
        shown.append(found["status"])
        assert found["closed_at"] is not None
    assert shown == ["lost", "lost", "lost", "won", "lost", "won"]
    books = stripes.make.rows("select account, sum(amount) as amount from ledger_entries group by account")
    assert {row.account: int(row.amount) for row in books if row.amount} == {"gateway:stripe": 1500, "revenue": -1500}
    # It was opened, lost, won, lost and won.
    assert stripes.make.value("select count(*) from events where type = 'payment.disputed'") == 5


def test_an_answer_about_a_dispute_that_is_older_than_what_is_known_is_not_believed(
    stripes: StripeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id = stripes.pay()
    (intent,) = stripes.intents(payment_id)
    dispute = stripes.stripe.dispute(stripes.account, intent)
    stripes.hooks()
    seen: list[str] = []

    def overtaken(self: Stripe, reference: str) -> Dispute | None:
        """The first who asks is answered, and then others hear more before it can write that down."""
        found = dispute_of(self, reference)
        seen.append(found.status if found else "")
        if len(seen) == 1:
            stripes.stripe.decide(stripes.account, dispute, "won")
            with ThreadPoolExecutor(1) as another:
                another.submit(stripes.hooks, *stripes.events("charge.dispute.closed")).result()
        return found

    dispute_of = Stripe.dispute
    monkeypatch.setattr(Stripe, "dispute", overtaken)
    stripes.hooks(stripes.stripe.tell(stripes.account, "charge.dispute.updated", dispute))
    stripes.work.hurry()
    assert stripes.payment(payment_id)["dispute"]["status"] == "won"
    assert seen == ["open", "won", "won"]


@pytest.mark.parametrize("tell", TELLS)
def test_a_refund_that_the_bank_sends_back_goes_to_the_balance(
    stripes: StripeShop, tell: Callable[[StripeShop], None], mailbox: Mailbox
) -> None:
    payment_id = stripes.pay()
    for amount in (500, 1000):
        stripes.shop.refund(payment_id, amount=amount)
        stripes.work.drain()
    assert stripes.payment(payment_id)["status"] == "refunded"
    first, second = stripes.account.all("refunds").values()
    stripes.stripe.send_back(stripes.account, first)
    tell(stripes)
    found = stripes.payment(payment_id)
    assert (found["status"], found["refunded_amount"]) == ("partially_refunded", 1000)
    assert stripes.make.value("select array_agg(status order by amount) from refunds") == ["failed", "succeeded"]
    assert stripes.make.value("select array_agg(returned_at > settled_at order by amount) from refunds") == [True, None]
    balance = "select sum(amount)::int from credits"
    assert stripes.make.value(balance) == 500
    # It is owed by way of the balance, and not once more by way of the card.
    assert stripes.shop.refund(payment_id, amount=500).status_code == 409
    stripes.stripe.send_back(stripes.account, second)
    tell(stripes)
    assert (stripes.payment(payment_id)["status"], stripes.make.value(balance)) == ("succeeded", 1500)
    told = "select count(*) from events where type = 'refund.failed'"
    assert stripes.make.value(told) == 2
    assert stripes.shop.events(payment_id)[-2:] == ["partially_refunded", "succeeded"]
    came_back = [mail["Subject"] for mail in mailbox.mails() if "came back" in mail["Subject"]]
    assert came_back == [f"Your refund from {stripes.shop.store.name} came back: {amount}.00 EUR" for amount in (5, 10)]


def test_a_refund_that_comes_back_before_its_answer_is_written_down(
    stripes: StripeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that made it is slow: it has been told that the refund was made, and another does the news first."""
    payment_id, reached = stripes.pay(), list[str]()

    def slow(line: str) -> None:
        if line == "payment.after_refund":
            reached.append(line)
            (refund,) = stripes.account.all("refunds").values()
            stripes.stripe.send_back(stripes.account, refund)
            stripes.hooks(*stripes.events("refund.failed"))

    monkeypatch.setattr(processing, "failpoint", slow)
    stripes.shop.refund(payment_id)
    stripes.work.drain()
    stripes.work.hurry()
    assert reached
    (refund,) = stripes.shop.get(f"{stripes.path}/payments/{payment_id}/refunds")["data"]
    assert (refund["status"], refund["returned_at"] is None) == ("failed", False)
    assert (stripes.payment(payment_id)["status"], stripes.payment(payment_id)["refunded_amount"]) == ("succeeded", 0)
