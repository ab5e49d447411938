"""Reads of a store's gateway, without its secrets, and of the setups of payers' methods."""

from dues.payments.models import PaymentSetup
from dues.payments.reads import NEXT_ACTION
from dues.reads import Computed, Resource
from dues.reads.resource import Schema, links_schema
from dues.stores.models import Store

SETUP_STATUSES = ("pending", "requires_action", "succeeded", "failed")
_TEXT: Schema = {"type": ["string", "null"]}


def _of_account(column: str) -> str:
    return f"(select a.{column} from gateway_accounts a where a.store_id = {{id}} and a.replaced_at is null)"


gateways = Resource(
    "Gateway",
    Store,
    fields={
        "id": Store.id,
        "store_id": Computed("{id}", {"type": "string", "format": "uuid"}),
        "type": Computed(
            f"coalesce({_of_account('type')}, 'sandbox')", {"type": "string", "enum": ["sandbox", "stripe"]}
        ),
        "account": Computed(
            _of_account("reference"), _TEXT | {"description": "the gateway's own name for the store's account"}
        ),
        "secret_key_last4": Computed(_of_account("secret_key_last4"), _TEXT),
        "webhook_secret_last4": Computed(_of_account("webhook_secret_last4"), _TEXT),
        "publishable_key": Computed(_of_account("publishable_key"), _TEXT),
        "links": Computed(
            "json_build_object('self', '/v1/stores/' || {id} || '/gateway', 'webhook', '/v1/gateways/stripe/' || {id})",
            links_schema("self", "webhook"),
        ),
    },
    tags=lambda scope: (f"store:{scope['id']}",),
)

payment_setups = Resource(
    "PaymentSetup",
    PaymentSetup,
    fields={
        "id": PaymentSetup.id,
        "store_id": PaymentSetup.store_id,
        "user_id": PaymentSetup.user_id,
        "status": Computed("{status}", {"type": "string", "enum": list(SETUP_STATUSES)}),
        "is_default": PaymentSetup.is_default,
        "next_action": Computed("{next_action}", NEXT_ACTION),
        "failure_code": PaymentSetup.failure_code,
        "payment_method_id": PaymentSetup.payment_method_id,
        "version": PaymentSetup.version,
        "created_at": PaymentSetup.created_at,
        "updated_at": PaymentSetup.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/stores/' || {store_id} || '/payment-setups/' || {id},"
            " 'job', '/v1/jobs/' || {job_id})",
            links_schema("self", nullable=("job",)),
        ),
    },
    tags=lambda scope: (f"user:{scope['user_id']}",),
)
