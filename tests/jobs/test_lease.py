"""Who holds a job: exactly one worker, and only while its lease lasts."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from dues.db import transaction
from dues.jobs import LeaseLost
from dues.jobs.lease import claim, take_back
from dues.jobs.outcomes import WORKER_LOST
from tests.jobs.conftest import Jobs


def test_of_many_workers_at_once_exactly_one_gets_the_job(in_app: Flask, jobs: Jobs):
    job_id = jobs.add()
    at_once = threading.Barrier(8)

    def ask(number: int) -> bool:
        with in_app.app_context():
            at_once.wait()
            return claim(job_id, f"worker {number}") is not None

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(ask, range(8))) == [False] * 7 + [True]
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.version) == ("running", 1, 2)
