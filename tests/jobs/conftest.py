"""Fixtures of the tests of slow work."""

from collections.abc import Iterator
from types import SimpleNamespace as Row
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from dues.jobs import Kind, enqueue
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.lease import Claim, Lease, claim, take_back
from dues.postgres import transaction
from tests.factory import Factory

QUICK = Kind("test.quick", "default", cancelable=True)


class Jobs:
    """Jobs of a test, made and looked at."""

    def __init__(self, make: Factory) -> None:
        self._make = make

    def add(self, kind: Kind = QUICK, args: dict[str, Any] | None = None, **options: Any) -> UUID:
        with transaction():
            return enqueue(kind, args or {}, **options)

    def claimed(self, job_id: UUID | None = None) -> tuple[Claim, Lease]:
        """A job (a new one unless it is named) with a worker on it, whose worker before, if it had one, was silent."""
        job_id = job_id or self.add()
        take_back(job_id, WORKER_LOST)
        begun = claim([job_id], "tester")
        assert begun
        return begun.claim, begun.lease

    def row(self, job_id: UUID) -> Row:
        return self._make.rows("select * from jobs where id = %(id)s", {"id": job_id})[0]

    def change(self, job_id: UUID, assignments: str) -> None:
        self._make.rows(f"update jobs set {assignments} where id = %(id)s", {"id": job_id})

    def expire(self, job_id: UUID) -> None:
        """The job's worker has been silent for too long."""
        self.change(job_id, "lease_until = clock_timestamp() - interval '1 ms'")


@pytest.fixture
def in_app(app: Flask) -> Iterator[Flask]:
    """The application, with its context."""
    with app.app_context():
        yield app


@pytest.fixture
def jobs(in_app: Flask, make: Factory) -> Jobs:
    return Jobs(make)
