"""What may be read of stores, their staff and the clocks of test stores."""

from typing import get_args

from dues.pdf.language import Language, Paper
from dues.reads import Computed, Equal, Resource
from dues.reads.resource import Scope, links_schema
from dues.stores.models import Clock, Staff, Store
from dues.stores.seller import ADDRESS_SCHEMA


def _store_tags(scope: Scope) -> tuple[str, ...]:
    return (f"store:{scope['id']}",) if "id" in scope else ("stores",)


stores = Resource(
    "Store",
    Store,
    fields={
        "id": Store.id,
        "owner_id": Store.owner_id,
        "name": Store.name,
        "slug": Store.slug,
        "currency": Store.currency,
        "currencies": Computed(
            "array[{currency}] || array_remove({currencies}, {currency})",
            {
                "type": "array",
                "items": {"type": "string"},
                "description": "in which prices and payments may be, the store's own first",
            },
        ),
        "timezone": Store.timezone,
        "test": Store.test,
        "dunning": Computed("{dunning}", {"type": "string", "enum": ["cancel", "stay"]}),
        "grace_days": Store.grace_days,
        "legal_name": Store.legal_name,
        "address": Computed("{address}", ADDRESS_SCHEMA),
        "country": Store.country,
        "tax_id": Store.tax_id,
        "contact_email": Store.contact_email,
        "website": Store.website,
        "invoice_prefix": Store.invoice_prefix,
        "invoice_note": Store.invoice_note,
        "notify_new_payment": Store.notify_new_payment,
        "language": Computed("{language}", {"type": "string", "enum": list(get_args(Language))}),
        "paper": Computed("{paper}", {"type": ["string", "null"], "enum": [*get_args(Paper), None]}),
        "tax_rate": Computed("{tax_rate}", {"type": "integer", "description": "in parts per million: 190000 is 19 %"}),
        "version": Store.version,
        "created_at": Store.created_at,
        "updated_at": Store.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/stores/' || {id}, 'packages', '/v1/stores/' || {id} || '/packages',"
            " 'logo', case when {logo_sha256} is not null then '/v1/stores/' || {id} || '/logo' end)",
            links_schema("self", "packages", nullable=("logo",)),
        ),
    },
    filters={"slug": Equal(Store.slug), "owner_id": Equal(Store.owner_id)},
    sorts={"created_at": Store.created_at},
    tags=_store_tags,
)

staff = Resource(
    "Staff",
    Staff,
    fields={
        "id": Staff.id,
        "user_id": Staff.user_id,
        "name": Computed("(select u.name from users u where u.id = {user_id})", {"type": "string"}),
        "role": Staff.role,
        "version": Staff.version,
        "created_at": Staff.created_at,
        "updated_at": Staff.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/stores/' || {store_id} || '/staff/' || {user_id},"
            " 'user', '/v1/users/' || {user_id})",
            links_schema("self", "user"),
        ),
    },
    sorts={"created_at": Staff.created_at},
    tags=lambda scope: (f"store:{scope['store_id']}",),
)

clocks = Resource(
    "Clock",
    Clock,
    fields={
        "id": Clock.store_id,
        "store_id": Clock.store_id,
        "now": Clock.moment,
        "advancing_to": Clock.advancing_to,
        "version": Clock.version,
        "created_at": Clock.created_at,
        "updated_at": Clock.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/stores/' || {store_id} || '/clock', 'job', '/v1/jobs/' || {job_id})",
            links_schema("self", nullable=("job",)),
        ),
    },
    tags=lambda scope: (f"store:{scope['store_id']}:clock",),
)
