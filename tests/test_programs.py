"""Programs on a bad day of their operator's: what is wrong with a setting ends each of them with one line, and what the
servers refuse is told without the passwords of their URLs."""

import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from unittest.mock import patch

import pytest
from gunicorn.app.wsgiapp import run as gunicorn

from local.ports import free_port
from tests.forks import Forked, _be_flask, _call, run_forked
from tests.serve_web import ROOT
from tests.servers import Servers, wait_until
from workers import relay, supervisor

SECRET = "hunter2"


def web(target: str) -> None:
    sys.argv = ["gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), target]
    gunicorn()


def workers() -> None:
    # It wants every handler to be one of a kind that there is; other tests declare more.
    with patch("workers.supervisor.check_declared"):
        supervisor.main()


# Each with what it is called with.
PROGRAMS: dict[str, tuple[Callable[..., None], tuple[object, ...]]] = {
    "web": (web, ("server:app",)),
    "relay": (relay.main, ()),
    "workers": (workers, ()),
    "flask": (_be_flask, (("jobs", "stats"),)),
}
# What is found wrong as settings are read, and what those find wrong who go by it.
WRONG = [
    {
        "DATABASE_URL": f"postgresql://u:{SECRET}@h:port/d",
        "REDIS_URL": f"redis://:{SECRET}@h/name",
        "SECRET_KEY": SECRET,
        "PORT": SECRET,
    },
    {"MAIL_FROM": f"{SECRET} <a@b>"},
    {"OTEL_EXPORTER_OTLP_HEADERS": f"Bearer {SECRET}"},
]
SENDS_SPANS = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_setting_is_one_line(servers: Servers, program: str, wrong: dict[str, str]) -> None:
    function, arguments = PROGRAMS[program]
    done = run_forked(function, *arguments, environ=servers.environ(**SENDS_SPANS | wrong))
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split(maxsplit=1)[0] for line in done.stderr.splitlines()] == [*wrong]
    assert SECRET not in done.stderr


def test_a_queue_that_there_is_none_of(servers: Servers) -> None:
    done = run_forked(workers, environ=servers.environ(WORKER_QUEUES="critcal:1"))
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("WORKER_QUEUES: there is no queue critcal, only critical, ")


@pytest.mark.parametrize("program", ["web", "relay", "workers"])
def test_while_all_servers_are_away_nothing_secret_is_logged(servers: Servers, tmp_path: Path, program: str) -> None:
    function, arguments = PROGRAMS[program]
    port = free_port()
    away = {
        "DATABASE_URL": f"postgresql://nobody:{SECRET}@127.0.0.1:1/none",
        "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1",
        "SMTP_URL": f"smtp://u:{SECRET}@127.0.0.1:1",
        "SECRET_KEY": SECRET * 6,
        "PORT": str(port),
    }
    running = Forked(_call, function, arguments, servers.environ(**away), str(tmp_path))

    def said() -> str:
        return "".join(path.read_text() for path in tmp_path.iterdir())

    def answers() -> bool:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            for path in ("/v1/stores", "/readyz"):
                connection.request("GET", path)
                answer = connection.getresponse()
                text = answer.read().decode()
                assert (answer.status, SECRET in text) == (503, False), text
        except OSError:
            return False
        finally:
            connection.close()
        return True

    try:
        if program == "web":
            wait_until(answers, 30, program)
        wait_until(lambda: "Connection refused" in said(), 30, "what was refused")
    finally:
        running.terminate()
        running.wait(30)
    assert SECRET not in said()
    assert "Traceback" not in said()
