"""A whole life of `bin/run`, on a home of its own, with a gateway and without: what it prints, keeps, shows, restarts
and leaves behind. One test, since the next stage stands on the one before, and to start it takes half a minute."""

import json
import re
import shlex
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from local import ports
from tests.forks import bin_run, flask_command
from tests.local.runs import (
    Run,
    count_payments,
    kill_and_see_it_return,
    listens_on_loopback_alone,
    status,
    take_tour,
    without_servers,
)
from tests.servers import wait_until


@pytest.mark.lasts
@pytest.mark.timeout(600)
def test_a_life_of_bin_run(home: Path) -> None:
    tls_port = ports.free_port()
    arguments = ("--payments", "100", "--gateway", "--webs", "2")
    run = Run(home.parent / "output", home, ports.free_port(), *arguments, TLS_PORT=str(tls_port))
    try:
        run.wait_until_ready()
        assert {"gateway", "web-1", "web-2"} <= run.children().keys()
        assert f"https://localhost:{tls_port}" in run.said()
        says_and_keeps_what_is_needed(run, home)
        the_tour_shows_what_dues_is_for(home)
        is_alone_in_its_home(home, run)
        what_is_killed_is_started_again(run)
        # Killed, it leaves nothing that the next one cannot deal with.
        payments, left = count_payments(read_log_ins(home)), psutil.Process(run.process.pid).children(recursive=True)
        run.process.kill()
        run.process.wait()
        goes_on_without_a_gateway(home, run.port, payments, left)
    finally:
        run.end()


def says_and_keeps_what_is_needed(run: Run, home: Path) -> None:
    log_ins = home / "demo.json"
    assert log_ins.stat().st_mode & 0o777 == 0o600
    assert (home / "secret_key").stat().st_mode & 0o777 == 0o600
    # What people type is in there, too.
    assert (home / "log" / "postgres.log").stat().st_mode & 0o777 == 0o600
    assert (home / "log").stat().st_mode & 0o777 == 0o700
    assert (home / "env").stat().st_mode & 0o777 == 0o600
    stats = flask_command("jobs", "stats", environ=without_servers() | kept_settings(home))
    assert "critical" in stats.stdout, stats.stderr
    demo = read_log_ins(home)
    assert demo["url"] == f"http://127.0.0.1:{run.port}"
    for line in (demo["url"], f"{demo['url']}/docs", demo["owner"]["email"], demo["member"]["password"]):
        assert line in run.said()
    assert count_payments(demo) == 100
    assert listens_on_loopback_alone(run)


def read_log_ins(home: Path) -> dict[str, Any]:
    return dict(json.loads((home / "demo.json").read_text()))


def kept_settings(home: Path) -> dict[str, str]:
    """What `bin/flask` has its shell read (tests/local/test_commands.py)."""
    lines = shlex.split((home / "env").read_text())
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def the_tour_shows_what_dues_is_for(home: Path) -> None:
    tour = take_tour(home)
    assert (tour.returncode, tour.stderr) == (0, ""), tour.stdout + tour.stderr
    for words in (
        "202 Accepted, Location: /v1/jobs/",
        "the payment is succeeded",
        "Subject: Your payment to",
        "past_due, not paid; the next charge is due on ",
        'attachment; filename="invoice-INV-000003.pdf"',
        "101 payments, the one just made among them, and ",
        "the follower's newsfeed shows it at once: The wall is open again.",
        "a stranger's feeds do not",
        "From Northlight Climbing: The wall is open again",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "0 were sent, of 0",
    ):
        assert words in tour.stdout
    for unit in ("rows", "members"):
        assert re.search(rf"100\.0 %  (\d+) of \1 {unit}", tour.stdout)

    log_ins, demo = home / "demo.json", read_log_ins(home)
    log_ins.write_text(json.dumps(demo | {"owner": demo["owner"] | {"token": "dues_none"}}))
    differing = take_tour(home)
    assert differing.returncode == 1
    (line,) = differing.stderr.split("\n")[1:-1]
    assert line.startswith("bin/tour: POST /v1/stores/")
    assert "answered 401" in line
    log_ins.write_text(json.dumps(demo))


def is_alone_in_its_home(home: Path, first: Run) -> None:
    second = bin_run(environ=without_servers() | {"DUES_HOME": str(home), "PORT": str(ports.free_port())})
    assert second.returncode == 1
    assert f"another bin/run (process {first.process.pid}) uses {home}" in second.stdout


def what_is_killed_is_started_again(run: Run) -> None:
    # A web server may die, and nobody notices.
    kill_and_see_it_return(run, "web-1")
    assert status(run.port, "/v1/stores") == 200
    wait_until(partial(is_ready, run, "web-1"), 60, "web-1 to be ready")
    assert (status(run.port, "/metrics"), status(run.port, "/readyz")) == (404, 404)
    for name in ("gateway", "postgres", "valkey", "mail"):
        kill_and_see_it_return(run, name)
    wait_until(partial(is_ready, run, "web-1"), 60, "/readyz")
    wait_until(lambda: status(run.port, "/healthz") == 200, 60, "the gateway")


def is_ready(run: Run, name: str) -> bool:
    """Whether one of its web servers can answer for itself."""
    with suppress(KeyError, psutil.Error):
        sockets = run.children()[name].net_connections(kind="tcp")
        ports = [found.laddr.port for found in sockets if found.status == psutil.CONN_LISTEN]
        return bool(ports) and status(ports[0], "/readyz") == 200
    return False


def goes_on_without_a_gateway(home: Path, port: int, payments: int, left: list[psutil.Process]) -> None:
    """What had been kept is still there, and at its end nothing is left behind."""
    demo = read_log_ins(home)
    run = Run(home.parent / "again", home, port)
    try:
        run.wait_until_ready()
        assert psutil.wait_procs(left, timeout=5)[1] == []
        assert {"web", "worker", "relay"} <= run.children().keys()
        assert status(port, "/readyz") == 200
        assert read_log_ins(home) == demo
        assert count_payments(demo) == payments > 100
        started = psutil.Process(run.process.pid).children(recursive=True)
    finally:
        run.end()
    assert run.process.returncode == 0, run.said()
    assert psutil.wait_procs(started, timeout=5)[1] == []
