"""The status document of a job, as `GET /v1/jobs/{id}` answers it and `GET /v1/jobs` lists it."""

from dues.clock import sql_rfc3339
from dues.jobs.kinds import KINDS
from dues.jobs.models import Job
from dues.reads import Computed, Equal, Range, Resource
from dues.reads.resource import Schema, links_schema

STATUSES = ("queued", "running", "succeeded", "failed", "canceled")
DONE = ("succeeded", "failed", "canceled")

_BOOLEAN: Schema = {"type": "boolean"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_OBJECT_OR_NULL: Schema = {"type": ["object", "null"]}
_PROGRESS: Schema = {
    "type": ["object", "null"],
    "properties": {
        "completed": {"type": "integer"},
        "total": {"type": "integer"},
        "unit": {"type": "string"},
        "percent": {"type": "number"},
    },
}
_ERROR: Schema = {
    "type": ["object", "null"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}

_COMPLETED, _TOTAL = "({progress} ->> 'completed')::bigint", "({progress} ->> 'total')::bigint"
_LIVE = "{status} in ('queued', 'running')"

jobs = Resource(
    "Job",
    Job,
    fields={
        "id": Job.id,
        "kind": Job.kind,
        "status": Computed("{status}", {"type": "string", "enum": list(STATUSES)}),
        "done": Computed(f"not ({_LIVE})", _BOOLEAN),
        "attempt": Job.attempt,
        "max_attempts": Job.max_attempts,
        "created_at": Job.created_at,
        "started_at": Job.started_at,
        "finished_at": Job.finished_at,
        # Nobody knows when a circuit will let calls through.
        "next_attempt_at": Computed(
            sql_rfc3339("case when {status} = 'queued' and {waits_for} is null then {run_at} end"), _TIME_OR_NULL
        ),
        "progress": Computed(
            f"case when {{progress}} is not null then json_build_object('completed', {_COMPLETED}, 'total', {_TOTAL},"
            " 'unit', {progress} ->> 'unit', 'percent',"
            f" coalesce(round(100.0 * {_COMPLETED} / nullif({_TOTAL}, 0), 1), 100.0)) end",
            _PROGRESS,
        ),
        # Set when progress is written, not when it is read: one version of a job is one document.
        "eta": Computed("case when {status} = 'running' then {progress} ->> 'eta' end", _TIME_OR_NULL),
        "result": Computed("case when {status} = 'succeeded' then {result} end", _OBJECT_OR_NULL),
        # That of an attempt which will be followed by another is for operators, not for clients.
        "error": Computed("case when {status} = 'failed' then {error} end", _ERROR),
        "cancelable": Computed(f"{{cancelable}} and {_LIVE}", _BOOLEAN),
        "cancel_requested": Computed("{cancel_requested_at} is not null", _BOOLEAN),
        "links": Computed(
            "json_build_object('self', '/v1/jobs/' || {id}, 'events', '/v1/jobs/' || {id} || '/events')",
            links_schema("self", "events"),
        ),
    },
    filters={
        "status": Equal(Job.status, STATUSES),
        "kind": Equal(Job.kind, tuple(KINDS)),
        "created_at": Range(Job.created_at),
    },
    sorts={"created_at": Job.created_at},
    # A job is never kept in a cache: it changes with the clock and with workers.
    tags=lambda scope: (),
)
