"""What follows from another default payment method: what is owed is charged to it at once, and the stores are told."""

from contextlib import suppress

from dues.billing.accounts import lock_subscription
from dues.billing.manage import retry_now
from dues.billing.posting import Posting
from dues.clock import store_now
from dues.errors import Conflict
from dues.events import emit
from dues.payments.methods import when_default
from dues.payments.models import PaymentMethod
from dues.payments.reads import payment_methods
from dues.postgres import db, fetch_row
from dues.subscriptions import state

_CHARGED_TO_DEFAULT = """
    select coalesce(json_agg(to_jsonb(s) order by s.store_id), '[]')::text from subscriptions s
    where s.user_id = %(user_id)s and s.payment_method_id is null and s.uses_default_method
        and s.status in ('trialing', 'active', 'past_due', 'paused')
"""


@when_default
def charge_what_is_owed(method: PaymentMethod) -> None:
    db.session.flush()
    (document,) = fetch_row(_CHARGED_TO_DEFAULT, {"user_id": method.user_id}) or ("[]",)
    for found in state.parse_all(document):
        emit(found.store_id, "payment_method.updated", payment_methods, {"user_id": method.user_id, "id": method.id})
        if found.status != "past_due":
            continue
        one = lock_subscription(found.store_id, found.id)
        if one.status == "past_due" and one.bill and not one.bill.is_in_flight:
            posting = Posting(store_now(one.store_id), one.user_id)
            # Who has tried too often waits for the next try that is due.
            with suppress(Conflict):
                retry_now(posting, one, one)
            posting.write()
