"""What may be read of packages."""

from dues.packages.models import INTERVALS, Package
from dues.reads import Computed, Equal, Flag, Range, Resource
from dues.reads.resource import links_schema

packages = Resource(
    "Package",
    Package,
    fields={
        "id": Package.id,
        "store_id": Package.store_id,
        "name": Package.name,
        "description": Package.description,
        "amount": Package.amount,
        "currency": Package.currency,
        "interval": Package.interval,
        "interval_count": Package.interval_count,
        "trial_days": Package.trial_days,
        "archived_at": Package.archived_at,
        "version": Package.version,
        "created_at": Package.created_at,
        "updated_at": Package.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/stores/' || {store_id} || '/packages/' || {id})", links_schema("self")
        ),
    },
    filters={
        "interval": Equal(Package.interval, INTERVALS),
        "amount": Range(Package.amount),
        "archived": Flag("{archived_at} is not null", "{archived_at} is null", default=False),
    },
    sorts={"created_at": Package.created_at},
    tags=lambda scope: (f"store:{scope['store_id']}:packages",),
)
