"""What happens when a member chooses another default payment method: any amount owed is charged to it at once, and the
stores get an event."""

from contextlib import suppress

from dues.billing.accounts import lock_subscription
from dues.billing.manage import retry_now
from dues.billing.posting import Posting
from dues.clock import store_now
from dues.errors import Conflict
from dues.events import emit
from dues.payments.gateways import CAN_CHARGE, sandbox_is_open
from dues.payments.methods import when_default
from dues.payments.models import PaymentMethod
from dues.payments.reads import payment_methods
from dues.postgres import db, fetch_row
from dues.subscriptions import state

_CHARGED_TO_DEFAULT = f"""
    select coalesce(json_agg(to_jsonb(k) order by k.store_id), '[]')::text
    from payment_methods m
    join subscriptions k on k.user_id = m.user_id and k.payment_method_id is null and k.uses_default_method
        and k.status in ('trialing', 'active', 'past_due', 'paused')
    join stores s on s.id = k.store_id
    left join gateway_accounts g on g.store_id = s.id and g.replaced_at is null
    where m.user_id = %(user_id)s and m.id = %(id)s and {CAN_CHARGE}
        -- A store's own default is charged before the one for everywhere.
        and (m.store_id is not null or not exists (
            select from payment_methods o
            where o.user_id = m.user_id and o.store_id = k.store_id and o.gateway = m.gateway and o.is_default
                and o.deleted_at is null))
"""


@when_default
def charge_what_is_owed(method: PaymentMethod) -> None:
    """Emit events to the stores that charge this method, and collect what the member owes them."""
    db.session.flush()
    values = {"user_id": method.user_id, "id": method.id, "sandbox_is_open": sandbox_is_open()}
    (document,) = fetch_row(_CHARGED_TO_DEFAULT, values) or ("[]",)
    for found in state.parse_all(document):
        scope = {"user_id": method.user_id, "only_store": found.store_id, "id": method.id}
        emit(found.store_id, "payment_method.updated", payment_methods, scope)
        if found.status != "past_due":
            continue
        subscription = lock_subscription(found.store_id, found.id)
        if subscription.status == "past_due" and subscription.bill and not subscription.bill.is_in_flight:
            posting = Posting(store_now(subscription.store_id), subscription.user_id)
            # A member who has used up their tries waits for the next scheduled try.
            with suppress(Conflict):
                retry_now(posting, subscription, subscription)
            posting.write()
