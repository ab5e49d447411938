"""What the routes of imports are tried with."""

from typing import Any

from dues.ids import new_id
from dues.reports.files import file_store
from tests.api.samples.declared import FileBody, Row, Samples, Target


def _finished_import(target: Target) -> Row:
    world, one = target.world, new_import(target)
    key = f"imports/{one['store_id']}/{one['id']}/refused/1.csv"
    with world.app.app_context(), file_store().create(key) as draft:
        draft.write(b"line\n")
        file = {"status": "succeeded", "file_key": key, "file_bytes": draft.size, "sha256": draft.sha256()}
    return world.make.insert("imports", one | file)


def new_import(target: Target) -> dict[str, Any]:
    return {
        "store_id": target.world.store.id,
        "id": new_id(),
        "requested_by": target.world.owner.id,
        "kind": "customers",
        "format": "csv",
        "bytes": 60,
    }


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/imports                  imports:read   401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/imports                  imports:write  401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/imports/{import_id}      imports:read   401 403 403 403 200 200 403 403
GET    /v1/stores/{store_id}/imports/{import_id}/file imports:read   401 403 403 403 200 200 403 403
""",
    bodies={
        "POST /v1/stores/{store_id}/imports": FileBody(
            "external_id,email,name\n{caller},{caller}@example.com,Ada\n", "text/csv", "kind=customers"
        ),
    },
    reads=[
        "/v1/stores/{store_id}/imports",
        "/v1/stores/{store_id}/imports/{import_id}",
    ],
    finished=[
        "/v1/stores/{store_id}/imports/{import_id}",
    ],
    rows={"import_id": _finished_import},
)
