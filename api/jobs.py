"""Status URLs: the slow work that a caller has asked for, and that of the stores he manages."""

from uuid import UUID

from api.auth import bearer_token, require_binding
from api.http import Reply, conditional
from api.routing import Call, Routes
from dues.errors import NotFound
from dues.jobs import service
from dues.jobs.service import Status
from dues.jobs.status import jobs
from dues.reads import Answer
from dues.stores.access import access_of

routes = Routes("jobs")
LIST, ONE = "/v1/jobs", "/v1/jobs/{job_id}"

# When a client that does not wait is to ask again.
_RETRY_AFTER_S = "1"


def _find(call: Call) -> Status:
    """The job that the path names, for its owner and for managers and owners of its store. Raises: NotFound."""
    status = service.get_status(call.ids["job_id"], call.query)
    if status.owner_id != call.actor.user_id and not _manages(status.store_id):
        raise NotFound("there is no such job")
    require_binding(call.actor, status.store_id)
    return status


def _manages(store_id: UUID | None) -> bool:
    return store_id is not None and access_of(bearer_token(), store_id).has_role("manager")


def _reply(status: Status) -> Reply:
    body = status.document.encode()
    reply = conditional(Answer(body, status.etag, (), "", status.version), public=False)
    if not status.done:
        reply.headers["Retry-After"] = _RETRY_AFTER_S
    return reply


@routes.get(LIST, "jobs:read", lists=jobs)
def list_jobs(call: Call) -> Reply:
    """The caller's own jobs.

    With a token that is bound to a store, those of that store.
    """
    bound_to = call.actor.store_id
    return call.list(jobs, {"owner_id": call.actor.user_id} | ({"store_id": bound_to} if bound_to else {}))


@routes.get(ONE, "jobs:read", reads=jobs)
def get_job(call: Call, job_id: UUID) -> Reply:
    """A job's status.

    Seen by its owner, and by the managers and owners of its store. A job that has failed is answered with 200 too:
    its `error` says why. While it is not `done`, `Retry-After` says when to ask again, and the ETag changes with
    whatever there is to see.
    """
    return _reply(_find(call))


@routes.delete(ONE, "jobs:write", find=_find, returns=jobs, statuses=(200, 202))
def cancel_job(call: Call, job_id: UUID) -> Reply:
    """Cancel a job.

    200 where it is canceled now; 202 where it is running and will be canceled at its next report of progress; 409
    where it is over or of a kind that cannot be canceled.
    """
    call.match(call.row.version)
    outcome = service.cancel(job_id)
    reply = _reply(service.get_status(job_id))
    reply.status = 200 if outcome == "canceled" else 202
    return reply
