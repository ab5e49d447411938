"""The part of the fault matrix about gateways: the sandbox, and Stripe by its stand-in. Whoever dies, and whatever is
lost, doubled or forged between them and us, each payment is charged once, and each refund made once."""

from functools import partial
from typing import Any

from tests.faults.matrix import Act, Row
from tests.faults.play import GatewayName, Play
from tests.payments.stripe_stand_in import Fault, signed
from tests.servers import wait_until

INTENTS, REFUNDS = "/v1/payment_intents", "/v1/refunds"
BOTH: tuple[GatewayName, ...] = ("sandbox", "stripe")

GATEWAY_ROWS: list[Row] = []


def _enter(fault: str, moment: str, act: Act, **columns: Any) -> None:
    GATEWAY_ROWS.append(Row(fault, moment, act, **columns))


# Workers that die on the way of a charge, of a refund, and of a gateway's news.


def _pay_at_line(line: str, play: Play) -> None:
    play.pay()
    play.wait_for_line(line)


def _refund_at_line(line: str, play: Play) -> None:
    paid = play.pay()
    play.settle()
    for accepted in paid:
        play.refund(accepted, 500)
    play.wait_for_line(line)


def _news_at_line(line: str, play: Play) -> None:
    """The payer acts, and Stripe tells of it."""
    play.customer.use_card("action")
    paid = play.pay()
    for accepted in paid:
        wait_until(partial(_is, play, accepted.id, "requires_action"), 20, "a payment that waits for its payer")
        play.customer.act(accepted.id)
    for event in play.customer.stripe_events("payment_intent.succeeded"):
        play.customer.hook(event)
    play.wait_for_line(line)
    for accepted in paid:
        wait_until(partial(_is, play, accepted.id, "succeeded"), 60, "what the payer has done to be written down")
    # What would remind the payer in ten minutes finds now that there is nothing to remind them of.
    play.make.rows(
        "update jobs set run_at = now() where kind = 'payment.notice' and status = 'queued' and store_id = %(store)s",
        {"store": play.customer.store.id},
    )


def _is(play: Play, payment_id: str, status: str) -> bool:
    return bool(play.make.value("select status from payments where id = %(id)s", {"id": payment_id}) == status)


for gateway in BOTH:
    for line, moment in (
        ("payment.before_charge", "before the charge"),
        ("payment.after_charge", "after the charge, before it is written down"),
        ("payment.before_commit", "before the charge's commit"),
        ("payment.after_commit", "after the charge's commit"),
    ):
        _enter(
            f"worker -9, {gateway}",
            moment,
            partial(_pay_at_line, line),
            lines={"critical": {line: "kill"}},
            gateway=gateway,
        )
    for line, moment in (
        ("payment.before_refund", "before a refund"),
        ("payment.after_refund", "after a refund, before it is written down"),
        ("payment.before_refund_commit", "before a refund's commit"),
    ):
        _enter(
            f"worker -9, {gateway}",
            moment,
            partial(_refund_at_line, line),
            lines={"critical": {line: "kill"}},
            gateway=gateway,
        )
for line, moment in (
    ("payment.after_news", "after Stripe was asked about its news"),
    ("payment.before_news_commit", "before the commit of what it said"),
):
    _enter(
        "worker -9, stripe", moment, partial(_news_at_line, line), lines={"critical": {line: "kill"}}, gateway="stripe"
    )


# What is lost, refused, doubled and forged on the way.


Faults = tuple[tuple[str, str, Fault], ...]


def _fail(faults: Faults, play: Play) -> None:
    for fault in faults:
        play.house.stripe.fail(*fault)
    play.strike()
    for accepted in play.pay():
        wait_until(partial(_is, play, accepted.id, "succeeded"), 60, "a charge that was found out about")
        play.refund(accepted, 500)


_FAULTS: tuple[tuple[str, Faults], ...] = (
    ("answers to charges are lost", (("POST", INTENTS, "lost"),) * 3),
    ("answers to charges and to questions are lost", (("POST", INTENTS, "lost"), ("GET", INTENTS, "away")) * 2),
    ("takes no requests", (("POST", INTENTS, "busy"),) * 3),
    ("answers to refunds are lost", (("POST", REFUNDS, "lost"),) * 3),
    ("breaks at refunds", (("POST", REFUNDS, "broken"), ("GET", REFUNDS, "away")) * 2),
)
for moment, faults in _FAULTS:
    _enter("Stripe", moment, partial(_fail, faults), gateway="stripe")


def _hooks_about(play: Play) -> None:
    """Each hook twice, the last first, before the charge is written down; and forged ones between them."""
    play.pay()
    play.wait_for_line("payment.before_commit")
    for event in reversed(2 * play.customer.stripe_events()):
        assert play.customer.hook(event) == 204
        body, headers = signed(event, "whsec_another0123456789")
        assert play.customer.send_hook(body, headers) == 400


_enter(
    "Stripe",
    "hooks come twice, in another order, forged, before the answer",
    _hooks_about,
    lines={"critical": {"payment.before_commit": "kill"}},
    gateway="stripe",
)
