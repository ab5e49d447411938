"""Warning members in time that the card to be charged next will have expired by then.

The warning is sent when the period before that charge begins, so a month ahead for a monthly subscription. Members who
get a reminder of the charge anyway (at the end of a trial, or before a yearly renewal) are warned along with that.
"""

from dues.billing.accounts import Account
from dues.billing.posting import Posting
from dues.payments.receipts import method_shown
from dues.subscriptions.subscription import Subscription
from dues.subscriptions.timeline import next_charge, reminder_at


def warn_of_expiry(
    posting: Posting, subscription: Subscription, account: Account, *, is_reminded: bool = False
) -> None:
    """Queue the warning if the next charge comes after the card has expired. Called when a period of the subscription
    begins, and with `is_reminded` when its member is reminded of the next charge."""
    charge, method = next_charge(subscription), account.method
    if charge is None or method is None or (not is_reminded and reminder_at(subscription)):
        return
    at, amount = charge
    if amount and method.is_expired_at(at):
        posting.notify(subscription, "card_expiring", at, method_shown(method.brand, method.last4, method.gateway))
