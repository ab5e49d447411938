"""The job that moves a test store's clock."""

from uuid import UUID

from dues.jobs import Run, kinds
from dues.stores.clock import arrive
from workers.job import job


@job(kinds.STORE_CLOCK)
def move_clock(run: Run, store_id: str) -> None:
    with run.completion({"href": f"/v1/stores/{store_id}/clock", "type": "application/json"}):
        arrive(UUID(store_id))
