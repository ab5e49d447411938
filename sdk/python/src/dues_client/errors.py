"""What can go wrong, as a tree: catch as much of it as you want to handle.

    DuesError
    ├── NetworkError             no answer came: ConnectFailed, TimedOut
    ├── ApiError                 an answer that refuses, by its status or code: NotFound, ValidationFailed, …
    ├── WorkFailed               work was begun and came to a bad end: JobFailed, PaymentFailed, CardDeclined, …
    ├── WaitTimedOut             work is still going on
    ├── DownloadChanged          the file was replaced while it was being loaded
    └── InvalidSignature         a webhook that was not signed with the secret

An `ApiError` has the problem details that the server sent: `code` is stable, `detail` is for people.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from dues_client._model import Model
    from dues_client.models import Job


class DuesError(Exception):
    """Anything that this client raises."""


class NetworkError(DuesError):
    """There was no answer, so it is not known whether the request had an effect. What is sent again with the same
    `idempotency_key` has it once."""


class ConnectFailed(NetworkError):
    """The server was not reached: the request had no effect."""


class TimedOut(NetworkError):
    """The answer, or its end, did not come in time."""


class Fault(NamedTuple):
    """One fault of a request: `pointer` is a JSON pointer into the body, `parameter` the name of a query parameter."""

    code: str
    detail: str
    pointer: str = ""
    parameter: str = ""


class ApiError(DuesError):
    """The server answered with problem details. `members` are all of their fields; `current` is the row as it is now,
    where the server sent it along."""

    def __init__(self, status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.status = status
        self.members = problem
        self.headers = headers
        self.code = str(problem.get("code", ""))
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail", ""))
        self.request_id = str(problem.get("request_id") or headers.get("x-request-id") or "")
        self.errors = [
            Fault(**{name: str(fault[name]) for name in Fault._fields if name in fault} | _words(fault))
            for fault in problem.get("errors", ())
        ]
        told = self.detail or self.title or f"status {status}"
        super().__init__(
            f"{self.code or status}: {told}" + (f" (request {self.request_id})" if self.request_id else "")
        )

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait before another try."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isdecimal() else None


def _words(fault: Mapping[str, Any]) -> dict[str, str]:
    """What every fault has, even one that a server of another version words otherwise."""
    return {"code": str(fault.get("code", "")), "detail": str(fault.get("detail", ""))}


class BadRequest(ApiError):
    """400: a parameter or header is wrong, or the body is no JSON."""


class Unauthenticated(ApiError):
    """401: no token, or one that is unknown, expired or revoked; or a bad log-in."""


class Forbidden(ApiError):
    """403: the token's scope, its store or the caller's role does not allow this."""


class NotFound(ApiError):
    """404: there is no such thing, or the caller may not know of it."""


class Conflict(ApiError):
    """409: not possible in the present state."""


class InvalidTransition(Conflict):
    """The thing is in a state from which it cannot be brought into the one asked for."""


class EmailTaken(Conflict):
    """There is an account with this address already."""


class PackageArchived(Conflict):
    """The package is not sold any more."""


class CursorExpired(ApiError):
    """410: the changes since this cursor are not kept any more: start over without one."""


class PreconditionFailed(ApiError):
    """412: the thing has changed since the version that `if_version` names."""


class ValidationFailed(ApiError):
    """422: the body is readable but wrong; `errors` has every fault with its pointer."""


class IdempotencyKeyReused(ValidationFailed):
    """The key was used for another request before."""


class RateLimited(ApiError):
    """429: too many requests; `retry_after` says when there may be more."""


class ServerError(ApiError):
    """5xx: something is wrong there, not here."""


class Unavailable(ServerError):
    """503: the server has too much to do, or something that it stands on is away."""


class UnreadableAnswer(ApiError):
    """An answer that is no JSON: something between here and Dues has answered in its place."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: CursorExpired,
    412: PreconditionFailed,
    422: ValidationFailed,
    429: RateLimited,
    503: Unavailable,
}
_BY_CODE: dict[str, type[ApiError]] = {
    "email_taken": EmailTaken,
    "idempotency_key_reused": IdempotencyKeyReused,
    "invalid_transition": InvalidTransition,
    "package_archived": PackageArchived,
}


def api_error(status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> ApiError:
    """The error for an answer: by its code, else by its status. A status that this client has no name for is an
    ApiError, or a ServerError from 500 on."""
    by_status = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    kind = _BY_CODE.get(str(problem.get("code", "")), by_status)
    return (kind if issubclass(kind, by_status) else by_status)(status, problem, headers)


class WorkFailed(DuesError):
    """Work that was begun came to a bad end."""


class JobFailed(WorkFailed):
    """The job failed, or was canceled; `job` is its last status."""

    def __init__(self, job: "Job") -> None:
        self.job = job
        error = job.error
        super().__init__(f"{job.kind} {job.status}" + (f": {error.detail or error.title}" if error else ""))


class ResourceFailed(WorkFailed):
    """The job did its work, and its outcome is that `resource` failed, for the reason `code` where it has one."""

    def __init__(self, resource: "Model", code: str) -> None:
        self.resource, self.code = resource, code
        super().__init__(f"{type(resource).__name__.lower()} failed" + (f": {code}" if code else ""))


class PaymentFailed(ResourceFailed):
    """The payment was not made. `resource` is the payment."""


class CardDeclined(PaymentFailed):
    """The card was declined."""


def failure_of(resource: "Model", code: str) -> ResourceFailed:
    """The error for a resource that has failed."""
    if type(resource).__name__ != "Payment":
        return ResourceFailed(resource, code)
    return (CardDeclined if code == "card_declined" else PaymentFailed)(resource, code)


class WaitTimedOut(DuesError):
    """The work was still going on when the time to wait for it was over; `job` is its last status. It goes on."""

    def __init__(self, job: "Job") -> None:
        self.job = job
        super().__init__(f"{job.kind} is still {job.status}")


class DownloadChanged(DuesError):
    """The file was replaced by another one while it was being loaded: load it anew."""


class InvalidSignature(DuesError):
    """A webhook that was not signed with the secret, or too long ago."""
