"""`bin/run --gateway`, and `bin/tour` through it, and what that says when something is not as it tells."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from local import ports
from tests.local.test_run import PROJECT, Run, count_payments, kill_and_see_it_return, listens_on_loopback_alone, status
from tests.servers import Home, wait_until


class Site:
    """A `bin/run` with two web servers behind a gateway, in a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home, self.tls_port = folder / "var", ports.free_port()
        self.home.mkdir(mode=0o711)
        arguments = ("--payments", "100", "--gateway", "--webs", "2")
        self.run = Run(folder / "output", self.home, ports.free_port(), *arguments, TLS_PORT=str(self.tls_port))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Home()
    site = Site(folder.path)
    try:
        site.run.wait_until_ready()
        yield site
    finally:
        site.run.end()
        folder.remove()


@pytest.mark.timeout(300)
def test_several_web_servers_behind_a_gateway(site: Site) -> None:
    run = site.run
    assert {"gateway", "web-1", "web-2"} <= run.children().keys()
    assert f"https://localhost:{site.tls_port}" in run.said()
    assert count_payments(json.loads((site.home / "demo.json").read_text())) == 100
    assert listens_on_loopback_alone(run)
    # Either may die, and nobody notices.
    for name in ("web-1", "web-2"):
        kill_and_see_it_return(run, name)
        assert status(run.port, "/v1/stores") == 200
        wait_until(partial(is_ready, run, name), 60, f"{name} to be ready")
    assert (status(run.port, "/metrics"), status(run.port, "/readyz")) == (404, 404)
    kill_and_see_it_return(run, "gateway")
    wait_until(lambda: status(run.port, "/healthz") == 200, 20, "the gateway")


def is_ready(run: Run, name: str) -> bool:
    """Whether one of its web servers can answer for itself."""
    with suppress(KeyError, psutil.Error):
        sockets = run.children()[name].net_connections(kind="tcp")
        ports = [found.laddr.port for found in sockets if found.status == psutil.CONN_LISTEN]
        return bool(ports) and status(ports[0], "/readyz") == 200
    return False


def take_tour(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "local.tour", *arguments],
        cwd=PROJECT,
        env=os.environ | {"DUES_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_asked_what_it_does_it_does_nothing(tmp_path: Path) -> None:
    tour = take_tour(tmp_path, "--help")
    assert tour.returncode == 0
    assert tour.stdout.startswith("usage: bin/tour")
    assert take_tour(tmp_path, "--fast").returncode == 2


@pytest.mark.timeout(300)
def test_the_tour_of_a_running_dues(site: Site) -> None:
    home = site.home
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

    log_ins = home / "demo.json"
    demo = json.loads(log_ins.read_text())
    log_ins.write_text(json.dumps(demo | {"owner": demo["owner"] | {"token": "dues_none"}}))
    differing = take_tour(home)
    assert differing.returncode == 1
    (line,) = differing.stderr.split("\n")[1:-1]
    assert line.startswith("bin/tour: POST /v1/stores/")
    assert "answered 401" in line


def test_a_tour_where_nothing_runs(tmp_path: Path) -> None:
    tour = take_tour(tmp_path)
    assert tour.returncode == 1
    assert f"there is no {tmp_path}/demo.json: start bin/run first" in tour.stderr
    (tmp_path / "demo.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "store_id": "none"}))
    tour = take_tour(tmp_path)
    assert tour.returncode == 1
    assert tour.stderr == "\nbin/tour: nothing answers at http://127.0.0.1:9: is bin/run still running?\n"
