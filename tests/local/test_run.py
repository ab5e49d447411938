"""The whole of `bin/run`, on a home of its own: what it prints, keeps, restarts and leaves behind."""

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from local import ports
from tests.servers import Home, wait_until

PROJECT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 60


class Run:
    """One `bin/run`, as a process; what it says goes to the file `output`."""

    def __init__(self, output: Path, home: Path, port: int | str, *arguments: str, **env: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
        self.port, self._output = int(port) if str(port).isdecimal() else 0, output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local", *arguments],
                cwd=PROJECT,
                env=kept | {"DUES_HOME": str(home), "PORT": str(port)} | env,
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


@pytest.fixture
def home() -> Iterator[Path]:
    """A DUES_HOME, in a folder of its own for what is beside it."""
    folder = Home()
    home = folder.path / "var"
    home.mkdir(mode=0o711)
    yield home
    folder.remove()


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Run]]:
    """Starts a `bin/run` on a port of its own and `home`, unless told others; all are ended with the test."""
    runs: list[Run] = []

    def start(*arguments: str, home: Path = home, port: int | str = 0, **env: str) -> Run:
        output = home_parent / f"output-{len(runs)}"
        runs.append(Run(output, home, port or ports.free_port(), *arguments, **env))
        return runs[-1]

    home_parent = home.parent
    yield start
    for run in runs:
        run.end()


def status(port: int, path: str, token: str = "") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def flask(home: Path, *arguments: str) -> str:
    """What `bin/flask` says, with the settings that bin/run has kept."""
    assert (home / "env").stat().st_mode & 0o777 == 0o600
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    env |= {"DUES_HOME": str(home), "DUES_VENV": sys.prefix}
    command = [str(PROJECT / "bin" / "flask"), *arguments]
    return str(subprocess.run(command, check=True, env=env, capture_output=True, text=True).stdout)


@pytest.mark.timeout(300)
def test_a_life_of_bin_run(home: Path, start: Callable[..., Run]) -> None:
    run = start("--payments", "300")
    run.wait_until_ready()
    log_ins = home / "demo.json"
    assert log_ins.stat().st_mode & 0o777 == 0o600
    assert (home / "secret_key").stat().st_mode & 0o777 == 0o600
    # What people type is in there, too.
    assert (home / "log" / "postgres.log").stat().st_mode & 0o777 == 0o600
    assert (home / "log").stat().st_mode & 0o777 == 0o700
    assert "critical" in flask(home, "jobs", "stats")
    demo = json.loads(log_ins.read_text())
    assert demo["url"] == f"http://127.0.0.1:{run.port}"
    for line in (demo["url"], f"{demo['url']}/docs", demo["owner"]["email"], demo["member"]["password"]):
        assert line in run.said()
    assert count_payments(demo) == 300
    assert listens_on_loopback_alone(run)

    second = start()
    assert second.process.wait(20) == 1
    assert f"another bin/run (process {run.process.pid}) uses {home}" in second.said()

    for name in ("web", "postgres", "valkey", "mail"):
        kill_and_see_it_return(run, name)
    wait_until(lambda: status(run.port, "/readyz") == 200, 20, "/readyz")

    # Killed, it leaves nothing that the next one cannot deal with; and what it kept is still there.
    left = psutil.Process(run.process.pid).children(recursive=True)
    run.process.kill()
    run.process.wait()
    again = start(port=run.port)
    again.wait_until_ready()
    assert psutil.wait_procs(left, timeout=5)[1] == []
    assert json.loads(log_ins.read_text()) == demo
    assert count_payments(demo) == 300

    started = psutil.Process(again.process.pid).children(recursive=True)
    again.end()
    assert again.process.returncode == 0, again.said()
    assert psutil.wait_procs(started, timeout=5)[1] == []


@pytest.mark.parametrize(
    ("arguments", "env", "line"),
    [
        (["--webs", "2"], {}, "--webs needs --gateway"),
        (["--gateway", "--webs", "0"], {}, "--webs is a number from 1 to 16"),
        (["--cells", "9"], {}, "--cells is a number from 1 to 8"),
        (["--gateway"], {"TLS_PORT": "many"}, "TLS_PORT is many, which is no port"),
        (["--gateway"], {"TLS_PORT": "{port}"}, "PORT and TLS_PORT are both {port}"),
        (["--cells", "2"], {"TLS_PORT": "{port}"}, "PORT and TLS_PORT are both {port}"),
    ],
)
def test_wishes_for_a_gateway_that_cannot_be_met(
    start: Callable[..., Run], arguments: list[str], env: dict[str, str], line: str
) -> None:
    port = ports.free_port()
    run = start(*arguments, port=port, **{name: value.format(port=port) for name, value in env.items()})
    assert run.process.wait(20) != 0
    assert line.format(port=port) in run.said()


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

    wait_until(is_back, 5, f"{name} to be started again")
    assert run.said().count(f"{name} was killed by SIGKILL; starting it again\n") == 1


def test_a_port_that_is_not_ours_to_open_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert ports.why_not(80) == "is not this user's to listen on (those below 1024 are root's)"


def test_a_taken_port_is_one_line(start: Callable[..., Run]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = start(port=port)
        assert run.process.wait(20) == 1
    assert run.said().startswith(f"bin/run: port {port} is taken: choose another, for instance PORT=")
    assert run.said().count("\n") == 1


@pytest.mark.parametrize("port", ["http", "70000", "-1"])
def test_a_port_that_is_none_is_one_line(start: Callable[..., Run], port: str) -> None:
    run = start(port=port)
    assert run.process.wait(20) == 1
    assert run.said() == f"bin/run: PORT is {port}, which is no port: set it to a number up to 65535\n"


def test_a_folder_that_cannot_be_made_is_one_line(home: Path, start: Callable[..., Run]) -> None:
    (home / "file").touch()
    run = start(home=home / "file" / "below")
    assert run.process.wait(20) == 1
    assert run.said() == (
        f"bin/run: cannot write to {home}/file/below: Not a directory; set DUES_HOME to a folder of yours\n"
    )


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (
            {"DATABASE_URL": "postgresql://ada:secret@127.0.0.1:1/dues"},
            'DATABASE_URL cannot be reached: connection to server at "127.0.0.1", port 1 failed: Connection refused',
        ),
        ({"DATABASE_URL": "postgresql://ada:se cret@[/dues"}, "DATABASE_URL is not the URL of a PostgreSQL database"),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_line(start: Callable[..., Run], env: dict[str, str], line: str) -> None:
    run = start(**env)
    assert run.process.wait(20) == 1
    assert run.said() == f"bin/run: {line}\n"


def test_wrong_settings_are_one_line(start: Callable[..., Run]) -> None:
    run = start(WEB_THREADS="many", JOB_LEASE_S="0")
    assert run.process.wait(40) == 1
    [line] = run.said().splitlines()
    assert line.startswith("bin/run: ")
    assert "WEB_THREADS is not a whole number at least 1" in line
    assert "JOB_LEASE_S is not a number above 0" in line


def test_a_signal_while_it_starts_ends_it(start: Callable[..., Run]) -> None:
    run = start()
    wait_until(run.children, 20, "the first server")
    tree = psutil.Process(run.process.pid).children(recursive=True)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0
    assert psutil.wait_procs(tree, timeout=5)[1] == []
