"""Telling a member in time that the card which is charged next will have expired by then.

They are told when the period before begins, so a month ahead for what renews by the month. Whoever is reminded of the
charge anyway, of a trial's end or a yearly renewal, is told then.
"""

from dues.billing.accounts import Account
from dues.billing.posting import Posting
from dues.payments.receipts import method_shown
from dues.subscriptions.subscription import Subscription
from dues.subscriptions.timeline import next_charge, reminder_at


def warn_of_expiry(posting: Posting, one: Subscription, account: Account, *, is_reminded: bool = False) -> None:
    """Part of what begins a period of a subscription; `is_reminded`: of what reminds its member of the next charge."""
    charge, method = next_charge(one), account.method
    if charge is None or method is None or (not is_reminded and reminder_at(one)):
        return
    at, amount = charge
    if amount and method.is_expired_at(at):
        posting.tell(one, "card_expiring", at, method_shown(method.brand, method.last4, method.gateway))
