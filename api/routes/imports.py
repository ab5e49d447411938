"""Imports: files of customers, packages and subscriptions that a store brings along."""

from uuid import UUID

from api.downloads import FILE_PARAMETERS, download, file_responses
from api.reply import Reply
from api.request import parameters_of
from api.routing import Call, Routes
from api.uploads import media_type, saving
from dues.imports import service
from dues.imports.reads import imports
from dues.imports.rows import Kind
from dues.imports.upload import FORMATS, Upload, check_file
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.reports.files import file_store

routes = Routes(
    "imports",
    examples={
        "Import.kind": "subscriptions",
        "Import.format": "csv",
        "Import.rows": 340,
        "created": 337,
        "updated": 0,
        "unchanged": 0,
        "refused": 3,
    },
)
LIST, ONE = "/v1/stores/{store_id}/imports", "/v1/stores/{store_id}/imports/{import_id}"

_EXAMPLES = {
    "csv": "external_id,email,name\r\nC-1,ada@example.com,Ada Lovelace\r\nC-2,alan@example.com,Alan Turing\r\n",
    "ndjson": '{"external_id":"C-1","email":"ada@example.com","name":"Ada Lovelace"}\n'
    '{"external_id":"C-2","email":"alan@example.com","name":"Alan Turing"}\n',
}
_KIND = {
    "name": "kind",
    "in": "query",
    "required": True,
    "description": "What the rows are.",
    "schema": {"type": "string", "enum": ["customers", "packages", "subscriptions"]},
}


def _import(call: Call, import_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "id": import_id}


def _kind(call: Call) -> Kind:
    kind: Kind = dict(parameters_of(call.request.query))["kind"]  # type: ignore[assignment]
    return kind


def _check(call: Call) -> Upload:
    return check_file(call.data, FORMATS[media_type(call.request)], _kind(call))


@routes.get(LIST, "imports:read", role="manager", lists=imports)
def list_imports(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(imports, {"store_id": store_id})


@routes.post(
    LIST,
    "imports:write",
    role="manager",
    uploads={media_type: _EXAMPLES[form] for media_type, form in FORMATS.items()},
    prepare=_check,
    returns=imports,
    slow=_import,
    statuses=(202, 201),
    parameters=(_KIND,),
)
def create_import(call: Call, store_id: UUID) -> Reply:
    """Import customers, packages or subscriptions

    The body is a file: CSV with a first line of columns, or a JSON object on each line. Each row has an `external_id`,
    by which the store knows it: the same row again changes nothing. Nobody is charged or mailed for it.

    The import's `file` has a line for each row that was refused, and why.
    """
    with saving():
        one = service.request_import(store_id, call.actor.user_id, _kind(call), call.prepared)
    assert one.job_id
    return call.accepted(one.id, one.job_id)


@routes.get(ONE, "imports:read", role="manager", reads=imports)
def get_import(call: Call, store_id: UUID, import_id: UUID) -> ReadPlan:
    return call.one(imports, {"store_id": store_id, "id": import_id})


@routes.get(
    f"{ONE}/file",
    "imports:read",
    role="manager",
    statuses=(200, 206),
    responses=file_responses("text/csv"),
    parameters=FILE_PARAMETERS,
)
def download_import(call: Call, store_id: UUID, import_id: UUID) -> Reply:
    """Download what an import has refused

    A CSV with the columns `line` (of the file that was sent), `external_id`, `code`, `pointer` (of the row's field) and
    `detail`.
    """
    return download(file_store(), service.get_refusals_file(store_id, import_id), call.request)
