"""Status URLs: the slow work that a caller has asked for, and that of the stores that the caller manages."""

import re
from typing import Any
from uuid import UUID

from api.auth import bearer_token, require_binding
from api.http import matches, read_headers
from api.long_poll import COMMENT_EVERY_S, event, wanted_wait
from api.reply import Reply, Waiting
from api.routing import Call, Routes
from dues.errors import NotFound
from dues.jobs import service
from dues.jobs.service import Status
from dues.jobs.status import jobs
from dues.reads import Answer, ReadPlan
from dues.stores.access import access_of

routes = Routes(
    "jobs",
    examples={
        "attempt": 1,
        "completed": 340,
        "done": False,
        "error": None,
        "eta": "2026-11-20T14:40:10.000000+00:00",
        "finished_at": None,
        "Job.kind": "report.build",
        "max_attempts": 5,
        "percent": 34.0,
        "progress": {"completed": 340, "total": 1000, "unit": "rows", "percent": 34.0},
        "result": None,
        "Job.status": "running",
        "unit": "rows",
    },
)
LIST, ONE = "/v1/jobs", "/v1/jobs/{job_id}"
EVENTS = ONE + "/events"

_VERSION = re.compile(r'(?:W/)?"(0|[1-9][0-9]{0,17})"')

# When a client that does not wait is to ask again.
_RETRY_AFTER_S = "1"

_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that was seen: only what is newer is sent.",
    "schema": {"type": "string"},
}
_EVENTS: dict[int, dict[str, Any]] = {
    200: {
        "description": "Events: `id` is the job's version, `event` is `status`, `data` the status document",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "examples": {"running": {"value": 'id: 3\nevent: status\ndata: {"status":"running","done":false}\n\n'}},
            }
        },
    },
    204: {"description": "The job is done and its last event was seen: do not come back"},
}


def _find(call: Call) -> Status:
    """The job that the path names, for its owner and for managers and owners of its store. Raises: NotFound."""
    status = service.get_status(call.ids["job_id"], call.query)
    if status.owner_id != call.actor.user_id and not _manages(call, status.store_id):
        raise NotFound("there is no such job")
    require_binding(call.actor, status.store_id, unbound=status.store_id is None)
    return status


def _manages(call: Call, store_id: UUID | None) -> bool:
    if store_id is None:
        return False
    access = access_of(bearer_token(call.request), store_id)
    call.right = access
    return access.has_role("manager")


def _reply(call: Call, status: Status) -> Reply:
    answer = Answer(status.document.encode(), status.etag)
    reply = Reply(answer.body, 200, read_headers(answer, call.access))
    if not status.done:
        reply.headers["Retry-After"] = _RETRY_AFTER_S
    return reply


@routes.get(LIST, "jobs:read", lists=jobs)
def list_jobs(call: Call) -> ReadPlan:
    """The caller's own jobs.

    With a token that is bound to a store, those of that store.
    """
    bound_to = call.actor.store_id
    return call.list(jobs, {"owner_id": call.actor.user_id} | ({"store_id": bound_to} if bound_to else {}))


def _plan_wait(call: Call) -> Waiting | None:
    """What a client that comes back with the version it has seen waits for: the right to see the job is looked at, and
    the job with it, when there is something to tell, for all waiters at once (api/job_waiters.py)."""
    seen = _VERSION.fullmatch(call.request.header("if-none-match") or "")
    seconds = wanted_wait(call.request)
    if not (seen and seconds and call.query) or call.request.method != "GET":
        return None
    return Waiting(call.ids["job_id"], int(seen[1]), call.actor.token_id, call.query, seconds, is_unchecked=True)


@routes.get(ONE, "jobs:read", reads=jobs, waits=True, plan_wait=_plan_wait)
def get_job(call: Call, job_id: UUID) -> Reply:
    """A job's status.

    Seen by its owner, and by the managers and owners of its store. A job that has failed is answered with 200 too:
    its `error` says why. While it is not `done`, `Retry-After` says when to ask again, and the ETag changes with
    whatever there is to see.

    With `Prefer: wait=20` it is answered when there is something new, or after that many seconds as it was: with
    `If-None-Match` by a 304.
    """
    status = _find(call)
    reply = _reply(call, status)
    none_match = call.request.header("if-none-match")
    is_news = none_match is not None and not matches(none_match, status.etag)
    seconds = 0 if status.done or is_news or call.request.method != "GET" else wanted_wait(call.request)
    if seconds and call.query:
        reply.waiting = Waiting(job_id, status.version, call.actor.token_id, call.query, seconds)
    return reply


@routes.get(
    EVENTS, "jobs:read", reads=jobs, streams=True, statuses=(200, 204), responses=_EVENTS, parameters=[_LAST_EVENT_ID]
)
def follow_job(call: Call, job_id: UUID) -> Reply:
    """A job's status as it changes.

    Server-sent events: the status as it is now and then at each change, until the job is done. A client that comes
    back with `Last-Event-ID`, as browsers do by themselves, misses nothing that still holds.
    """
    status = _find(call)
    headers = {"Cache-Control": "no-store", "Vary": "Authorization", "X-Accel-Buffering": "no"}
    is_seen = (call.request.header("last-event-id") or "").strip() == str(status.version)
    if status.done and is_seen:
        return Reply(None, 204, headers)
    reply = Reply(b"" if is_seen else event(status), 200, headers, "text/event-stream")
    if not status.done and call.request.method == "GET" and call.query:
        reply.waiting = Waiting(job_id, status.version, call.actor.token_id, call.query, COMMENT_EVERY_S, streams=True)
    return reply


@routes.delete(ONE, "jobs:write", find=_find, returns=jobs, statuses=(200, 202))
def cancel_job(call: Call, job_id: UUID) -> Reply:
    """Cancel a job.

    200 where it is canceled now; 202 where it is running and will be canceled at its next report of progress; 409
    where it is over or of a kind that cannot be canceled.
    """
    call.match(call.row.version)
    outcome = service.cancel(job_id)
    reply = _reply(call, service.get_status(job_id))
    reply.status = 200 if outcome == "canceled" else 202
    return reply
