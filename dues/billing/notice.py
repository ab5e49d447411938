"""The texts of the mails about a subscription: data in, message out.

Names were typed by a store or a member. They are sent to verified addresses only, as in the mails about payments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from dues.clock import day_in
from dues.mail.message import Message, Templates, unverified_message
from dues.mail.wording import Words
from dues.money import format_money

_templates = Templates(Path(__file__).parent / "templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a mail says. `amount` is in minor units of `currency`; times are UTC, shown in `timezone`. `of` is the
    moment that the mail is about, `until` is when access ends, and `next_at` is when the member is charged next."""

    subscription_id: UUID
    store: str
    contact_email: str
    member: str
    package: str
    amount: int
    currency: str
    timezone: str
    of: datetime
    until: datetime | None
    next_at: datetime | None
    failure_code: str | None
    card: str = ""

    @property
    def price(self) -> str:
        return format_money(self.amount, self.currency)

    @property
    def shop(self) -> Words:
        return Words(self.store)

    @property
    def membership(self) -> Words:
        return Words(self.package)

    def day(self, moment: datetime | None) -> str:
        return day_in(moment, self.timezone) if moment else ""


# Why a card was declined, in words for its owner. Other reasons are known to the bank only.
_REASONS = {
    "insufficient_funds": "there was not enough money on the account",
    "stolen_card": "the card was reported as stolen",
    "lost_card": "the card was reported as lost",
    "expired_card": "the card has expired",
    "authentication_required": "the bank wants you to confirm the payment",
    "no_payment_method": "there is no payment method to charge",
    "gateway_timeout": "the payment could not be made",
}


def _reason(facts: Facts) -> str:
    return _REASONS.get(facts.failure_code or "", "the bank declined the payment")


def _next_try(facts: Facts) -> str:
    if facts.next_at is None:
        return "It is not tried again by itself: please add another payment method."
    return f"It is tried again on {facts.day(facts.next_at)}. You can also add another payment method."


# The subject and the paragraphs of each kind of mail.
_WORDS: dict[str, tuple[Callable[[Facts], str], Callable[[Facts], list[str]]]] = {
    "trial_ending": (
        lambda f: f"Your trial of {f.membership} ends on {f.day(f.of)}",
        lambda f: [
            f"Your trial of {f.membership} at {f.shop} ends on {f.day(f.of)}. From then on it costs {f.price}.",
            "If you would rather not go on, cancel before that day and nothing is charged.",
        ],
    ),
    "renewal": (
        lambda f: f"{f.membership} renews on {f.day(f.of)}",
        lambda f: [
            f"Your membership {f.membership} at {f.shop} renews on {f.day(f.of)} for {f.price}.",
            "There is nothing to do if you would like to go on. If not, cancel before that day.",
        ],
    ),
    "card_expiring": (
        lambda f: f"{f.card} expires before your membership at {f.shop} renews",
        lambda f: [
            f"Your membership {f.membership} at {f.shop} renews on {f.day(f.of)} for {f.price}, and by then {f.card}"
            " has expired.",
            "Please add another payment method before that day, so that it goes on without a break.",
        ],
    ),
    "payment_failed": (
        lambda f: f"Your payment to {f.shop} has failed: {f.price}",
        lambda f: [
            f"Your payment of {f.price} for {f.membership} at {f.shop} has failed: {_reason(f)}.",
            _next_try(f),
        ],
    ),
    "changed": (
        lambda f: f"Your membership at {f.shop} is {f.membership} now",
        lambda f: [f"From {f.day(f.of)} on your membership at {f.shop} is {f.membership}, for {f.price}."],
    ),
    "pausing": (
        lambda f: f"Your membership at {f.shop} will be paused",
        lambda f: [
            f"Your membership {f.membership} at {f.shop} is paused from {f.day(f.of)} on. Until then nothing changes.",
            *([f"It goes on by itself on {f.day(f.next_at)}."] if f.next_at else []),
        ],
    ),
    "paused": (
        lambda f: f"Your membership at {f.shop} is paused",
        lambda f: [
            f"Your membership {f.membership} at {f.shop} is paused since {f.day(f.of)}. Nothing is charged meanwhile.",
            *([f"It goes on by itself on {f.day(f.next_at)}."] if f.next_at else []),
        ],
    ),
    "resumed": (
        lambda f: f"Your membership at {f.shop} goes on",
        lambda f: [
            f"Your membership {f.membership} at {f.shop} goes on since {f.day(f.of)}.",
            *([f"The next {f.price} are due on {f.day(f.next_at)}."] if f.next_at else []),
        ],
    ),
    "canceled": (
        lambda f: f"Your membership at {f.shop} is canceled",
        lambda f: [
            f"Your membership {f.membership} at {f.shop} is canceled. You have access until {f.day(f.of)}, and nothing"
            " more is charged.",
        ],
    ),
    "ended": (
        lambda f: f"Your membership at {f.shop} has ended",
        lambda f: [f"Your membership {f.membership} at {f.shop} ended on {f.day(f.of)}. Nothing more is charged."],
    ),
}


# The same for unverified addresses, without any text that customers have typed.
_PLAIN: dict[str, tuple[str, Callable[[Facts], str]]] = {
    "trial_ending": (
        "Your trial ends soon",
        lambda f: f"The trial of a membership ends on {f.day(f.of)}. From then on it costs {f.price}.",
    ),
    "renewal": (
        "Your membership renews soon",
        lambda f: f"A membership renews on {f.day(f.of)} for {f.price}.",
    ),
    "card_expiring": (
        "A card expires before your membership renews",
        lambda f: f"A membership renews on {f.day(f.of)} for {f.price}, and by then {f.card} has expired.",
    ),
    "payment_failed": (
        "A payment has failed",
        lambda f: f"A payment of {f.price} for a membership has failed: {_reason(f)}. {_next_try(f)}",
    ),
    "changed": (
        "Your membership has changed",
        lambda f: f"From {f.day(f.of)} on a membership is another one, for {f.price}.",
    ),
    "pausing": ("Your membership will be paused", lambda f: f"A membership is paused from {f.day(f.of)} on."),
    "paused": ("Your membership is paused", lambda f: f"A membership is paused since {f.day(f.of)}."),
    "resumed": ("Your membership goes on", lambda f: f"A membership goes on since {f.day(f.of)}."),
    "canceled": (
        "Your membership is canceled",
        lambda f: f"A membership is canceled. It gives access until {f.day(f.of)}, and nothing more is charged.",
    ),
    "ended": (
        "Your membership has ended",
        lambda f: f"A membership ended on {f.day(f.of)}. Nothing more is charged.",
    ),
}


def plain_message(kind: str, facts: Facts, *, site: str) -> Message:
    """The mail for an address that is not verified. `site` is the name of the operator's service."""
    title, sentence = _PLAIN[kind]
    known: list[tuple[str, object, bool]] = [("Subscription", str(facts.subscription_id), False)]
    return unverified_message(title, sentence(facts), known, site=site, left_out="Names are")


def notice_message(kind: str, facts: Facts) -> Message:
    """The mail for a verified address."""
    subject, paragraphs = _WORDS[kind]
    return _templates.message(
        "notice",
        subject=subject(facts),
        to_name=facts.member,
        from_name=facts.store,
        reply_to=facts.contact_email,
        greeting=f"Hello {Words(facts.member)}," if facts.member else "Hello,",
        paragraphs=paragraphs(facts),
        store=facts.shop,
    )
