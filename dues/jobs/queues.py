"""What the settings say about each queue."""

from dues.jobs.kinds import QueueName
from dues.settings import settings


def store_limit(queue: QueueName) -> int | None:
    """How many jobs of one store may run at once in a queue, over all workers; None: any number."""
    return {"slow": settings().slow_jobs_per_store, "webhooks": settings().webhooks_per_store}.get(queue)


def threads(queue: QueueName) -> int:
    """How many jobs of a queue one worker process does at once: where it is one, in its main thread."""
    return settings().webhook_threads if queue == "webhooks" else 1
