"""What may be read of imports."""

from dues.imports.models import Import
from dues.reads import Computed, Range, Resource
from dues.reads.resource import links_schema

_SELF = "'/v1/stores/' || {store_id} || '/imports/' || {id}"

imports = Resource(
    "Import",
    Import,
    fields={
        "id": Import.id,
        "store_id": Import.store_id,
        "kind": Computed("{kind}", {"type": "string", "enum": ["customers", "packages", "subscriptions"]}),
        "format": Computed("{format}", {"type": "string", "enum": ["csv", "ndjson"]}),
        "status": Import.status,
        "bytes": Import.bytes,
        "rows": Import.rows,
        "created": Import.created,
        "updated": Import.updated,
        "unchanged": Import.unchanged,
        "refused": Import.refused,
        "version": Import.version,
        "created_at": Import.created_at,
        "updated_at": Import.updated_at,
        "links": Computed(
            f"json_build_object('self', {_SELF}, 'job', '/v1/jobs/' || {{job_id}},"
            f" 'file', case when {{status}} = 'succeeded' and {{file_key}} is not null then {_SELF} || '/file' end)",
            links_schema("self", nullable=("job", "file")),
        ),
    },
    filters={"created_at": Range(Import.created_at)},
    sorts={"created_at": Import.created_at},
    tags=lambda scope: (f"store:{scope['store_id']}:imports",),
)
