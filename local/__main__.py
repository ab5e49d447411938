"""`bin/run`: all of Dues on this machine, with the servers that it needs and demo data."""

import argparse
import fcntl
import http.client
import os
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import psycopg2
import redis

from config import ConfigError, Settings, load_settings
from dues.redis.client import redis_client
from dues.vault import new_key
from local import folders, ports
from local.cells import MOST_CELLS, Cell, CellsGateway, plan_cells, told_to_the_directory
from local.gateway import Gateway
from local.mailsink import MailSink
from local.postgres import Postgres
from local.process import CannotStart, Program, answers_ok
from local.supervisor import Stopped, Supervisor, read_procfile
from local.valkey import Valkey

PROJECT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
_WEBS, _MOST_WEBS = 2, 16


def say(line: str) -> None:
    """Print one line, even if the terminal may be gone."""
    with suppress(OSError):
        print(line, flush=True)


def main(argv: Sequence[str]) -> int:
    """Run everything until a signal ends it. Returns: the exit status; 1 after printing one line that says what
    failed."""
    given = _arguments(argv)
    try:
        home = _lock_home(Path(os.environ.get("DUES_HOME") or PROJECT / "var"))
        with Supervisor(say, home / "run") as supervisor:
            _run(supervisor, home, given)
    except CannotStart as error:
        say(f"bin/run: {error}")
        return 1
    except Stopped:
        pass
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bin/run",
        description="Run Dues on this machine. PORT (8000), TLS_PORT (8443) and DUES_HOME (./var) are read from the "
        "environment; DATABASE_URL, REDIS_URL and SMTP_URL, where set, take the place of servers of its own.",
    )
    parser.add_argument("--payments", type=int, metavar="N", help="load demo payments until there are N (20000)")
    parser.add_argument(
        "--gateway", action="store_true", help="have Caddy in front, on PORT and, with TLS, HTTP/2 and HTTP/3, TLS_PORT"
    )
    parser.add_argument("--webs", type=int, metavar="N", help="web servers behind the gateway, 1 to 16 (2)")
    parser.add_argument(
        "--cells", type=int, metavar="N", help="cells behind a gateway, 1 to 8, each with servers and stores of its own"
    )
    given = parser.parse_args(argv)
    if given.webs is not None and not given.gateway:
        parser.error("--webs needs --gateway, which shares the requests out among them")
    if given.webs is not None and not 1 <= given.webs <= _MOST_WEBS:
        parser.error(f"--webs is a number from 1 to {_MOST_WEBS}")
    if given.cells is not None and (given.gateway or not 1 <= given.cells <= MOST_CELLS):
        parser.error(f"--cells is a number from 1 to {MOST_CELLS}, and goes without --gateway, which it brings")
    return given


def _run(supervisor: Supervisor, home: Path, given: argparse.Namespace) -> None:
    port = _port("PORT", 8000)
    gateway = _gateway(home, port, given.webs or _WEBS) if given.gateway else None
    cells = plan_cells(home, ports.free_ports(given.cells)) if given.cells else []
    if cells:
        gateway = _gateway_of_cells(home, port, cells)
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "DUES_HOME": str(home),
        "HOST": LOOPBACK,
        "PORT": str(port),
        "SECRET_KEY": os.environ.get("SECRET_KEY")
        or _stored_secret(home / "secret_key", lambda: secrets.token_hex(32)),
        "SECRETS_KEYS": os.environ.get("SECRETS_KEYS") or _stored_secret(home / "secrets_key", new_key),
        "PUBLIC_URL": os.environ.get("PUBLIC_URL") or f"http://{LOOPBACK}:{port}",
    }
    if gateway:
        env["FORWARDED_ALLOW_IPS"] = os.environ.get("FORWARDED_ALLOW_IPS") or LOOPBACK
    if cells and gateway:
        env |= {
            "PORT": str(gateway.webs[0]),
            "CELL": "",
            "CELLS": told_to_the_directory(cells),
            "CELLS_KEY": os.environ.get("CELLS_KEY")
            or _stored_secret(home / "cells_key", lambda: secrets.token_hex(32)),
        }
    env |= _bring_up_servers(supervisor, home)
    _check_settings(env)
    _write_settings(home, env)
    release, web, worker, relay = read_procfile(PROJECT / "Procfile", ("release", "web", "worker", "relay"), env)
    supervisor.complete(release)
    demo = [
        sys.executable,
        "-m",
        "local.demo",
        *([f"--payments={given.payments}"] if given.payments is not None else []),
    ]
    supervisor.keep(*_webs(web, gateway.webs if gateway else [port]), worker, relay)
    for cell in cells:
        _bring_up_cell(supervisor, cell, env)
    # The demo data is committed in one transaction, so running web servers never show a part of it.
    supervisor.complete(Program(name="demo", argv=demo, cwd=PROJECT, env=env))
    supervisor.wait_until_ready()
    if gateway:
        supervisor.keep(gateway.prepare())
        supervisor.wait_until_ready()
    _welcome(home, port, gateway)
    supervisor.watch()
    say("ending")


def _bring_up_cell(supervisor: Supervisor, cell: Cell, directory: Mapping[str, str]) -> None:
    servers, found = cell.servers()
    supervisor.keep(*servers)
    supervisor.wait_until_ready()
    env = {**directory, **cell.settings(directory), **found}
    _write_settings(cell.home, env)
    release, web, worker, relay = read_procfile(PROJECT / "Procfile", ("release", "web", "worker", "relay"), env)
    supervisor.complete(cell.named(release))
    supervisor.keep(*(cell.named(program) for program in (*_webs(web, [cell.port]), worker, relay)))


def _gateway_of_cells(home: Path, port: int, cells: list[Cell]) -> CellsGateway:
    """Raises: CannotStart."""
    tls_port, taken = _tls_port(port), {cell.port for cell in cells}
    directory = next(each for each in ports.free_ports(len(cells) + 3) if each not in {port, tls_port, *taken})
    return CellsGateway(home, port, tls_port, directory, {cell.name: cell.port for cell in cells})


def _tls_port(port: int) -> int:
    """Raises: CannotStart."""
    tls_port = _port("TLS_PORT", 8443)
    if tls_port == port:
        raise CannotStart(f"PORT and TLS_PORT are both {port}: set one of them to another")
    return tls_port


def _gateway(home: Path, port: int, webs: int) -> Gateway:
    """The gateway, with free ports for the web servers behind it. Raises: CannotStart."""
    tls_port = _tls_port(port)
    free = [each for each in ports.free_ports(webs + 2) if each not in (port, tls_port)]
    return Gateway(home, port, tls_port, free[:webs])


def _webs(web: Program, at: Sequence[int]) -> list[Program]:
    """One web server for each port in `at`."""

    def on(port: int, name: str) -> Program:
        return replace(web, name=name, env={**web.env, "PORT": str(port)}, ready=lambda: _is_ready(port))

    return [on(port, f"web-{number}" if len(at) > 1 else "web") for number, port in enumerate(at, 1)]


def _bring_up_servers(supervisor: Supervisor, home: Path) -> dict[str, str]:
    """Start the servers that the environment does not specify. Returns: the settings for them."""
    programs, found = [], {}
    if url := os.environ.get("DATABASE_URL"):
        _check_database(url)
    else:
        postgres = Postgres(home)
        programs.append(postgres.prepare())
        found["DATABASE_URL"] = postgres.url
    if url := os.environ.get("REDIS_URL"):
        _check_redis(url)
    else:
        valkey = Valkey(home)
        programs.append(valkey.prepare())
        found["REDIS_URL"] = valkey.url
    if not os.environ.get("SMTP_URL"):
        mail = MailSink(home)
        programs.append(mail.prepare())
        found |= {"SMTP_URL": mail.smtp_url, "MAIL_LOOKUP_URL": mail.lookup_url}
    supervisor.keep(*programs)
    supervisor.wait_until_ready()
    return found


def _check_database(url: str) -> None:
    try:
        psycopg2.connect(re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", url), connect_timeout=5).close()
    except psycopg2.ProgrammingError:
        # psycopg2's message would repeat the URL, which may contain a password.
        raise CannotStart("DATABASE_URL is not the URL of a PostgreSQL database") from None
    except psycopg2.OperationalError as error:
        raise CannotStart(f"DATABASE_URL cannot be reached: {str(error).splitlines()[0]}") from error


def _check_redis(url: str) -> None:
    try:
        with closing(redis_client(url, 5)) as client:
            client.ping()
    except ValueError:
        raise CannotStart("REDIS_URL is not the URL of a Redis or Valkey") from None
    except redis.RedisError as error:
        raise CannotStart(f"REDIS_URL cannot be reached: {error}") from error


def _check_settings(env: Mapping[str, str]) -> None:
    try:
        load_settings(env)
    except ConfigError as error:
        raise CannotStart("; ".join(str(error).splitlines())) from error


def _write_settings(home: Path, env: Mapping[str, str]) -> None:
    """Write all settings to a file for bin/flask: the addresses of the started servers, and settings from the
    environment."""
    names = [field.upper() for field in Settings.__struct_fields__]
    # Also those that are empty: where one is read within another's, that one's do not show through.
    lines = [f"{name}={shlex.quote(env[name])}\n" for name in names if name in env]
    folders.write_whole(home / "env", "".join(lines))


def _lock_home(home: Path) -> Path:
    """Create the folder for all data, and lock it until this process ends.

    Raises: CannotStart if it cannot be written or another bin/run has locked it.
    """
    home = home.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"cannot write to {home}: {error.strerror}; set DUES_HOME to a folder of yours") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 20).decode().strip() or "?"
        raise CannotStart(
            f"another bin/run (process {holder}) uses {home}: end it, or set DUES_HOME and PORT for a second one"
        ) from None
    os.truncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return home.resolve()


def _port(name: str, default: int) -> int:
    """The port in the variable `name`. Raises: CannotStart if it is not a port, or is taken."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) > 65535:
        raise CannotStart(f"{name} is {text}, which is no port: set it to a number up to 65535")
    port = int(text) or ports.free_port()
    if why_not := ports.why_not(port):
        raise CannotStart(f"port {port} {why_not}: choose another, for instance {name}={ports.free_port()} bin/run")
    return port


def _stored_secret(path: Path, new: Callable[[], str]) -> str:
    """A secret that is stored in this home, and created at the first start. Raises: CannotStart if it has been lost:
    what was made with it is of no use with another, which nobody should find out later."""
    if not path.exists():
        folders.write_whole(path, new())
    if found := path.read_text(errors="replace").strip("\0 \r\n\t"):
        return found
    raise CannotStart(f"{path} is empty: put back what was in it, or remove it and do without what was made with it")


def _is_ready(port: int) -> bool:
    return answers_ok(http.client.HTTPConnection(LOOPBACK, port, timeout=2), "/readyz")


def _welcome(home: Path, port: int, gateway: Gateway | None) -> None:
    url = f"http://{LOOPBACK}:{port}"
    lines = [f"Dues is ready at {url}", f"  docs    {url}/docs"]
    if gateway:
        lines.append(f"  TLS     {gateway.tls_url}   (signed by {gateway.root_certificate})")
        lines += [f"  web {number:<3} http://{LOOPBACK}:{port}" for number, port in enumerate(gateway.webs, 1)]
    if isinstance(gateway, CellsGateway):
        lines += [f"  cell {name:<2} http://{LOOPBACK}:{port}" for name, port in gateway.cells.items()]
    if demo := folders.read_document(home / "demo.json"):
        lines += [f"  {who:<7} {demo[who]['email']}  {demo[who]['password']}" for who in ("owner", "member")]
        lines.append(f"  tokens  {home / 'demo.json'}")
    if not os.environ.get("SMTP_URL"):
        lines.append(f"  mails   {home / 'mail'}")
    for line in [*lines, "Ctrl-C ends it."]:
        say(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
