"""What `bin/run` refuses, in one line, and that a signal ends it."""

import errno
import signal
import socket
from pathlib import Path

import psutil
import pytest

from local import ports
from tests.forks import Done, bin_run
from tests.local.runs import Run, without_servers
from tests.servers import wait_until


def run(home: Path, *arguments: str, port: int | str = 0, **env: str) -> Done:
    """A `bin/run` that ends by itself."""
    environ = without_servers() | {"DUES_HOME": str(home), "PORT": str(port or ports.free_port())} | env
    return bin_run(*arguments, environ=environ)


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
    home: Path, arguments: list[str], env: dict[str, str], line: str
) -> None:
    port = ports.free_port()
    done = run(home, *arguments, port=port, **{name: value.format(port=port) for name, value in env.items()})
    assert done.returncode > 0
    assert line.format(port=port) in done.stdout + done.stderr


def test_a_port_that_is_not_ours_to_open_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert ports.why_not(80) == "is not this user's to listen on (those below 1024 are root's)"


def test_a_taken_port_is_one_line(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run(home, port=port)
    assert done.returncode == 1
    assert done.stdout.startswith(f"bin/run: port {port} is taken: choose another, for instance PORT=")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("port", ["http", "70000", "-1"])
def test_a_port_that_is_none_is_one_line(home: Path, port: str) -> None:
    done = run(home, port=port)
    assert done.returncode == 1
    assert done.stdout == f"bin/run: PORT is {port}, which is no port: set it to a number up to 65535\n"


def test_a_folder_that_cannot_be_made_is_one_line(home: Path) -> None:
    (home / "file").touch()
    done = run(home / "file" / "below")
    assert done.returncode == 1
    assert done.stdout == (
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
def test_a_server_that_cannot_be_reached_is_one_line(home: Path, env: dict[str, str], line: str) -> None:
    done = run(home, **env)
    assert done.returncode == 1
    assert done.stdout == f"bin/run: {line}\n"


@pytest.mark.parametrize("name", ["secret_key", "secrets_key"])
def test_a_secret_that_was_lost_is_one_line_and_no_other_is_made_in_its_place(home: Path, name: str) -> None:
    (home / name).write_text("\n")
    done = run(home)
    assert done.returncode == 1
    assert done.stdout.startswith(f"bin/run: {home}/{name} is empty: put back what was in it, or remove it ")
    assert (home / name).read_text() == "\n"


def test_wrong_settings_are_one_line(home: Path) -> None:
    done = run(home, WEB_THREADS="many", JOB_LEASE_S="0")
    assert done.returncode == 1
    [line] = done.stdout.splitlines()
    assert line.startswith("bin/run: ")
    assert "WEB_THREADS is not a whole number at least 1" in line
    assert "JOB_LEASE_S is not a number above 0" in line


def test_a_signal_while_it_starts_ends_it(home: Path) -> None:
    run = Run(home.parent / "output", home, ports.free_port())
    wait_until(run.children, 20, "the first server")
    tree = psutil.Process(run.process.pid).children(recursive=True)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0
    assert psutil.wait_procs(tree, timeout=5)[1] == []
