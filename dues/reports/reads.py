"""What may be read of reports."""

from dues.reads import Computed, Range, Resource
from dues.reads.resource import links_schema
from dues.reports.models import Report

_SELF = "'/v1/stores/' || {store_id} || '/reports/' || {id}"

reports = Resource(
    "Report",
    Report,
    fields={
        "id": Report.id,
        "store_id": Report.store_id,
        "kind": Report.kind,
        "format": Report.format,
        "from": Report.range_from,
        "to": Report.range_to,
        "timezone": Report.timezone,
        "bom": Report.bom,
        "status": Report.status,
        "rows": Report.rows,
        "bytes": Report.bytes,
        "version": Report.version,
        "created_at": Report.created_at,
        "updated_at": Report.updated_at,
        "links": Computed(
            f"json_build_object('self', {_SELF}, 'job', '/v1/jobs/' || {{job_id}},"
            f" 'file', case when {{status}} = 'succeeded' and {{file_key}} is not null then {_SELF} || '/file' end)",
            links_schema("self", nullable=("job", "file")),
        ),
    },
    filters={"created_at": Range(Report.created_at)},
    sorts={"created_at": Report.created_at},
    tags=lambda scope: (f"store:{scope['store_id']}:reports",),
)
