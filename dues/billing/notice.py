"""What the mails about a subscription say. Data in, message out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dues.clock import day_in
from dues.mail.message import Message, Templates
from dues.money import format_money

_templates = Templates(Path(__file__).parent / "templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`amount` minor units of `currency`; times are UTC and shown in `timezone`. `of` is the moment that the mail is
    about, `until` when access ends, `next_at` when the member is charged, or tried to be, next."""

    store: str
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

    def day(self, moment: datetime | None) -> str:
        return day_in(moment, self.timezone) if moment else ""


# Why a card was declined, in words for its owner; of all else the bank alone knows.
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


# Of each kind: the subject, and what it says.
_WORDS: dict[str, tuple[Callable[[Facts], str], Callable[[Facts], list[str]]]] = {
    "trial_ending": (
        lambda f: f"Your trial of {f.package} ends on {f.day(f.of)}",
        lambda f: [
            f"Your trial of {f.package} at {f.store} ends on {f.day(f.of)}. From then on it costs {f.price}.",
            "If you would rather not go on, cancel before that day and nothing is charged.",
        ],
    ),
    "renewal": (
        lambda f: f"{f.package} renews on {f.day(f.of)}",
        lambda f: [
            f"Your membership {f.package} at {f.store} renews on {f.day(f.of)} for {f.price}.",
            "There is nothing to do if you would like to go on. If not, cancel before that day.",
        ],
    ),
    "card_expiring": (
        lambda f: f"{f.card} expires before your membership at {f.store} renews",
        lambda f: [
            f"Your membership {f.package} at {f.store} renews on {f.day(f.of)} for {f.price}, and by then {f.card} has"
            " expired.",
            "Please add another payment method before that day, so that it goes on without a break.",
        ],
    ),
    "payment_failed": (
        lambda f: f"Your payment to {f.store} has failed: {f.price}",
        lambda f: [
            f"Your payment of {f.price} for {f.package} at {f.store} has failed: {_reason(f)}.",
            _next_try(f),
        ],
    ),
    "changed": (
        lambda f: f"Your membership at {f.store} is {f.package} now",
        lambda f: [f"From {f.day(f.of)} on your membership at {f.store} is {f.package}, for {f.price}."],
    ),
    "pausing": (
        lambda f: f"Your membership at {f.store} will be paused",
        lambda f: [
            f"Your membership {f.package} at {f.store} is paused from {f.day(f.of)} on. Until then nothing changes.",
            *([f"It goes on by itself on {f.day(f.next_at)}."] if f.next_at else []),
        ],
    ),
    "paused": (
        lambda f: f"Your membership at {f.store} is paused",
        lambda f: [
            f"Your membership {f.package} at {f.store} is paused since {f.day(f.of)}. Nothing is charged meanwhile.",
            *([f"It goes on by itself on {f.day(f.next_at)}."] if f.next_at else []),
        ],
    ),
    "resumed": (
        lambda f: f"Your membership at {f.store} goes on",
        lambda f: [
            f"Your membership {f.package} at {f.store} goes on since {f.day(f.of)}.",
            *([f"The next {f.price} are due on {f.day(f.next_at)}."] if f.next_at else []),
        ],
    ),
    "canceled": (
        lambda f: f"Your membership at {f.store} is canceled",
        lambda f: [
            f"Your membership {f.package} at {f.store} is canceled. You have access until {f.day(f.of)}, and nothing"
            " more is charged.",
        ],
    ),
    "ended": (
        lambda f: f"Your membership at {f.store} has ended",
        lambda f: [f"Your membership {f.package} at {f.store} ended on {f.day(f.of)}. Nothing more is charged."],
    ),
}


def notice_message(kind: str, facts: Facts) -> Message:
    subject, paragraphs = _WORDS[kind]
    return _templates.message(
        "notice",
        subject=subject(facts),
        to_name=facts.member,
        greeting=f"Hello {facts.member}," if facts.member else "Hello,",
        paragraphs=paragraphs(facts),
        store=facts.store,
    )
