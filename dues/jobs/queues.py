"""What the settings say about each queue."""

from dues.jobs.kinds import QueueName
from dues.settings import settings


def store_limit(queue: QueueName, free: int | None = None) -> int | None:
    """How many jobs of one store may run at once in a queue, over all workers; None: any number.

    free: how many threads a process that does several jobs at once has left. The fewer they are, the fewer may a store
    have that gets one more: it reaches its whole limit while it is alone, and several whose jobs all hang share the
    threads with one another and those that come, instead of taking all of them.
    """
    most = {"slow": settings().slow_jobs_per_store, "webhooks": settings().webhooks_per_store}.get(queue)
    if most is None or free is None:
        return most
    others = threads(queue) - most
    return most if others < 1 else min(most, -(-most * free // others))


def threads(queue: QueueName) -> int:
    """How many jobs of a queue one worker process does at once: where it is one, in its main thread."""
    return settings().webhook_threads if queue == "webhooks" else 1
