"""How jobs end is for slices to say, and whichever process ends one has to ask them."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace as Row

import pytest
from flask.testing import FlaskClient

from dues.clock import now
from dues.ids import new_id
from dues.jobs import kinds
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.lease import take_back
from tests.factory import Factory
from tests.forks import Done, flask_command
from tests.jobs.conftest import Jobs
from tests.servers import Servers

PROJECT = Path(__file__).resolve().parents[2]

# What begins each kind of process, and two that have the least in common.
BEGINNINGS = ("dues.app", "wsgi", "workers.supervisor", "workers.relay", "workers.drain")
SOME = ("wsgi", "workers.relay")
# Each is imported in a fork of a process that has imported the larger libraries, and nothing of Dues.
_TELL = """
import json, os, sys
import flask, psycopg2, redis, sqlalchemy.dialects.postgresql, sqlalchemy.orm
for name in sys.argv[1:]:
    if not (pid := os.fork()):
        __import__(name)
        from dues.jobs import on_failure
        needless = [name for name in ("alembic", "dues.partitions.commands") if name in sys.modules]
        line = json.dumps([name, sorted(on_failure._registered), needless])
        os.write(1, line.encode() + b"\\n")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def declared() -> Iterator[str]:
    """The kinds that have a function for their ending, as it is written in the modules of `dues/`."""
    for file in (PROJECT / "dues").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                for decorator in map(ast.unparse, node.decorator_list):
                    if decorator.startswith("when_ended("):
                        yield getattr(kinds, decorator.removesuffix(")").rpartition(".")[2]).name


@pytest.mark.parametrize("beginnings", [SOME, pytest.param(BEGINNINGS, marks=pytest.mark.wide)], ids=["some", "all"])
def test_every_process_knows_all_of_them_and_imports_no_commands(servers: Servers, beginnings: tuple[str, ...]):
    told = subprocess.run(
        [sys.executable, "-c", _TELL, *beginnings],
        env=servers.environ(),
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    kinds_of_jobs = sorted(declared())
    assert "report.build" in kinds_of_jobs
    assert [json.loads(line) for line in told.stdout.splitlines()] == [[name, kinds_of_jobs, []] for name in beginnings]


@pytest.fixture
def asked(jobs: Jobs, make: Factory) -> Row:
    """A report that somebody waits for, and its job."""
    store, report_id = make.store(), new_id()
    job_id = jobs.add(kinds.REPORT_BUILD, {"store_id": str(store.id), "report_id": str(report_id)})
    columns = {
        "store_id": store.id,
        "id": report_id,
        "requested_by": store.owner_id,
        "kind": "payments",
        "format": "csv",
        "range_from": now() - timedelta(days=2),
        "range_to": now() - timedelta(minutes=1),
        "job_id": job_id,
    }
    return make.insert("reports", columns)


def flask_jobs(servers: Servers, *words: str) -> Done:
    return flask_command("jobs", *words, environ=servers.environ())


def test_a_report_whose_job_an_operator_cancels_is_canceled(servers: Servers, asked: Row, make: Factory):
    done = flask_jobs(servers, "cancel", str(asked.job_id))
    assert (done.returncode, done.stdout) == (0, f"{asked.job_id} is canceled\n"), done.stderr
    assert make.value("select status from reports") == "canceled"


def test_a_report_whose_job_its_client_cancels_is_canceled(client: FlaskClient, asked: Row, jobs: Jobs, make: Factory):
    jobs.change(asked.job_id, f"owner_id = '{asked.requested_by}'")
    owner = make.rows("select * from users where id = %(id)s", {"id": asked.requested_by})[0]
    assert client.delete(f"/v1/jobs/{asked.job_id}", headers=make.auth(owner)).status_code == 200
    assert make.value("select status from reports") == "canceled"


def test_a_report_whose_worker_died_at_the_last_attempt_has_failed(asked: Row, jobs: Jobs, make: Factory):
    jobs.change(asked.job_id, "max_attempts = 1")
    jobs.claimed(asked.job_id)
    jobs.expire(asked.job_id)
    assert take_back(asked.job_id, WORKER_LOST) == "failed"
    assert make.value("select status from reports") == "failed"


def test_a_report_that_failed_is_built_when_an_operator_has_it_tried_again(
    servers: Servers, asked: Row, jobs: Jobs, make: Factory
):
    jobs.change(asked.job_id, "max_attempts = 1")
    jobs.claimed(asked.job_id)
    jobs.expire(asked.job_id)
    take_back(asked.job_id, WORKER_LOST)
    again = flask_jobs(servers, "retry", str(asked.job_id))
    assert (again.returncode, again.stdout) == (0, f"{asked.job_id} is queued\n"), again.stderr
    drained = flask_jobs(servers, "drain", "slow")
    assert drained.returncode == 0, drained.stderr
    report = make.rows("select status, file_key from reports")[0]
    assert report.status == "succeeded", drained.stderr
    assert (servers.home / "files" / report.file_key).exists()
