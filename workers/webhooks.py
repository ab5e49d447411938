"""Jobs about webhooks; dues/webhooks does the work."""

from uuid import UUID

from dues.jobs import Run, kinds
from dues.webhooks import deliveries, fanout, replays
from workers.job import job


@job(kinds.WEBHOOK_FAN_OUT)
def fan_out(run: Run, store_id: str, first: int, last: int) -> None:
    fanout.fan_out(run, UUID(store_id), first, last)


@job(kinds.WEBHOOK_DELIVER)
def deliver(run: Run, store_id: str, delivery_id: str) -> None:
    deliveries.deliver(run, UUID(store_id), UUID(delivery_id))


@job(kinds.WEBHOOK_REPLAY)
def replay(run: Run, store_id: str, endpoint_id: str, after: int, last: int, missed: bool) -> None:
    replays.replay(run, UUID(store_id), UUID(endpoint_id), after=after, last=last, missed=missed)
