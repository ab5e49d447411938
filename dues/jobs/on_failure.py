"""What a slice does when its job ends without success: canceled, or failed for good.

A handler's success commits with the job; but a job can also be canceled before any worker sees it, or die with its
worker at the last attempt. The code that ends it then calls what was registered here, in the same transaction, so that
(say) a report never stays `pending` behind a canceled job.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from dues.jobs.kinds import Kind


@dataclass(frozen=True)
class Ending:
    """How a job ended. `error` is a problem document where `status` is `failed`."""

    job_id: UUID
    kind: str
    args: dict[str, Any]
    status: Literal["failed", "canceled"]
    error: dict[str, Any] | None


_registered: dict[str, Callable[[Ending], None]] = {}


def when_ended(kind: Kind) -> Callable[[Callable[[Ending], None]], Callable[[Ending], None]]:
    """Have the decorated function called, inside the ending's `transaction()`, for jobs of `kind` that end without
    success. It writes rows and does nothing else; what it raises keeps the job from ending."""

    def register(function: Callable[[Ending], None]) -> Callable[[Ending], None]:
        if kind.name in _registered:
            raise RuntimeError(f"{kind.name} already has a function for its ending")
        _registered[kind.name] = function
        return function

    return register


def announce(ending: Ending) -> None:
    """Call what is registered for the kind. To be called in the `transaction()` that ends a job."""
    if function := _registered.get(ending.kind):
        function(ending)
