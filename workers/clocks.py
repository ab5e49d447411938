"""The job that moves a test store's clock."""

from datetime import datetime
from uuid import UUID

from dues.billing.advance import advance
from dues.jobs import Run, kinds
from workers.job import job, perform_here


@job(kinds.STORE_CLOCK)
def move_clock(run: Run, store_id: str, began_at: str) -> None:
    advance(run, UUID(store_id), datetime.fromisoformat(began_at), perform_here)
