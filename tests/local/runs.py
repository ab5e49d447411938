"""A `bin/run` as a process, and what can be asked of one."""

import http.client
import json
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from local import tour
from tests.forks import Done, run_forked
from tests.servers import wait_until

PROJECT = Path(__file__).resolve().parents[2]
# Beside much else it takes a minute and more.
READY_WITHIN_S = 150


def without_servers() -> dict[str, str]:
    """The environment, but for what leads to the servers of the tests."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_URL")}


class Run:
    """One `bin/run`, as a process; what it says goes to the file `output`."""

    def __init__(self, output: Path, home: Path, port: int | str, *arguments: str, **env: str) -> None:
        self.port, self._output = int(port) if str(port).isdecimal() else 0, output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local", *arguments],
                cwd=PROJECT,
                env=without_servers() | {"DUES_HOME": str(home), "PORT": str(port)} | env,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._output.read_text()

    def wait_until_ready(self) -> None:
        wait_until(
            lambda: "Ctrl-C ends it." in self.said() or self.process.poll() is not None, READY_WITHIN_S, "bin/run"
        )
        assert self.process.poll() is None, self.said()

    def children(self) -> dict[str, psutil.Process]:
        """The programs it runs now: `web`, `postgres`, …"""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                found[child.environ().get("DUES_RUN", "").partition(":")[2]] = child
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(45)


def status(port: int, path: str, token: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def count_payments(demo: dict[str, dict[str, str]]) -> int:
    request = urllib.request.Request(
        f"{demo['url']}/v1/stores/{demo['store_id']}/payments?per_page=1",
        headers={"Authorization": f"Bearer {demo['owner']['token']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(json.load(answer)["meta"]["total"])


def listens_on_loopback_alone(run: Run) -> bool:
    sockets = [
        connection
        for process in psutil.Process(run.process.pid).children(recursive=True)
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    return bool(sockets) and {found.laddr.ip for found in sockets} == {"127.0.0.1"}


def kill_and_see_it_return(run: Run, name: str) -> None:
    dead = run.children()[name]
    dead.kill()

    def is_back() -> bool:
        found = run.children().get(name)
        return found is not None and found.pid != dead.pid

    wait_until(is_back, 20, f"{name} to be started again")
    assert run.said().count(f"{name} was killed by SIGKILL; starting it again\n") == 1


def take_tour(home: Path, *arguments: str) -> Done:
    return run_forked(_be_tour, arguments, environ=os.environ | {"DUES_HOME": str(home)}, timeout_s=200)


def _be_tour(words: tuple[str, ...]) -> None:
    sys.exit(tour.main(words))
