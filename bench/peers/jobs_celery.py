"""Celery on the same Redis. `celery -A peers.jobs_celery worker` starts a worker; `python -m peers.jobs_celery COUNT
MARK` fills its queue.

PEER_BROKER is the broker's URL, PEER_QUEUE the queue.
"""

import os
import sys

from celery import Celery
from redis import Redis

app = Celery("bench", broker=os.environ["PEER_BROKER"])
app.conf.task_ignore_result = True
app.conf.task_default_queue = os.environ["PEER_QUEUE"]


@app.task(name="nothing")
def nothing() -> None:
    pass


@app.task(name="mark")
def mark(name: str) -> None:
    Redis.from_url(os.environ["PEER_REDIS_URL"]).rpush(name, "")


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        nothing.delay()
    mark.delay(sys.argv[2])
