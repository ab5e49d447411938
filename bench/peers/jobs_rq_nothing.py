"""RQ jobs that do nothing. They are in a module of their own, because RQ's Worker imports a job's module for each
job."""

import os

from redis import Redis


def nothing() -> None:
    pass


def mark(name: str) -> None:
    Redis.from_url(os.environ["REDIS_URL"]).rpush(name, "")
