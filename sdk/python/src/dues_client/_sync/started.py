# Made from ../_async by `python -m sdk.generator`: change it there.
"""Slow work that was begun: followed to its end."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dues_client._exchange import Answer
from dues_client._model import Model
from dues_client.errors import JobFailed, WaitTimedOut, failure_of
from dues_client.models import Job

if TYPE_CHECKING:
    from dues_client._sync.group import Caller

M = TypeVar("M", bound=Model)

# As long as the server holds an answer at most, less a little.
_HOLD_S = 20


class Started(Generic[M]):
    """What was asked for, and the job that is at work on it.

    report = (dues.reports.create(store_id, …)).wait(on_progress=print)
    """

    def __init__(self, client: Caller, resource: M, answer: Answer) -> None:
        self._client = client
        self.resource = resource
        # 201: it was done before it was answered (`wait=`).
        location = answer.headers.get("location", "") if answer.status == 202 else ""
        self.job_path: str | None = location or None

    @property
    def id(self) -> str:
        """The resource's."""
        return str(self.resource.to_dict()["id"])

    @property
    def done(self) -> bool:
        """Whether the resource is in its final state."""
        return self.job_path is None

    def job(self) -> Job:
        """The job's status now. Raises: ValueError where there is none, because the work is done."""
        if self.job_path is None:
            raise ValueError("the work is done: there is no job to ask for")
        return Job((self._client.call("GET", self.job_path)).data)

    def wait(
        self, timeout: float = 300.0, *, on_progress: Callable[[Job], object] | None = None, check: bool = True
    ) -> M:
        """The finished resource, after at most `timeout` seconds. `on_progress` gets the job's status at each change.

        Raises: WaitTimedOut; JobFailed; with `check`, ResourceFailed (such as CardDeclined) where the outcome is that
        the resource has failed.
        """
        if self.job_path is not None:
            job = self._follow(monotonic() + timeout, on_progress)
            if job.status != "succeeded":
                raise JobFailed(job)
            link = self.resource.to_dict().get("links", {}).get("self")
            if link:
                self.resource = type(self.resource)((self._client.call("GET", link)).data)
            self.job_path = None
        found: dict[str, Any] = self.resource.to_dict()
        if check and found.get("status") == "failed":
            raise failure_of(self.resource, str(found.get("failure_code") or ""))
        return self.resource

    def _follow(self, give_up: float, on_progress: Callable[[Job], object] | None) -> Job:
        """By long polls: each is answered as soon as there is something new."""
        assert self.job_path
        answer = self._client.call("GET", self.job_path)
        job = Job(answer.data)
        while True:
            if on_progress and answer.status != 304:
                on_progress(job)
            left = give_up - monotonic()
            if job.done:
                return job
            if left <= 0:
                raise WaitTimedOut(job)
            etag = answer.headers.get("etag", "")
            held = max(1, min(_HOLD_S, int(left)))
            headers = {"Prefer": f"wait={held}", "If-None-Match": etag}
            answer = self._client.call("GET", self.job_path, headers=headers, request_timeout=held + 10)
            if answer.status != 304:
                job = Job(answer.data)
