"""The command line `dues`, against a running Dues: what it prints on a terminal and elsewhere, what it remembers."""

import csv
import http.server
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dues_client import webhooks
from dues_client.cli import main

from tests.sdk.conftest import Town

PROJECT = Path(__file__).resolve().parents[2]
Run = Callable[..., str]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "config" / "dues.json"
    monkeypatch.setenv("DUES_CONFIG", str(file))
    for name in ("DUES_URL", "DUES_TOKEN", "DUES_STORE"):
        monkeypatch.delenv(name, raising=False)
    return file


@pytest.fixture
def run(
    town: Town, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `dues …` as the store's owner. Returns: what it prints."""
    monkeypatch.setenv("DUES_URL", town.url)
    monkeypatch.setenv("DUES_TOKEN", town.make.token(town.owner))
    monkeypatch.setenv("DUES_STORE", town.store_id)

    def run(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        assert main(words) == status, capsys.readouterr().err
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return run


def environ(town: Town, **more: str) -> dict[str, str]:
    path = str(PROJECT / "sdk/python/src")
    mine = {"DUES_URL": town.url, "DUES_TOKEN": town.make.token(town.owner), "DUES_STORE": town.store_id}
    return os.environ | {"PYTHONPATH": path} | mine | more


def test_log_in_is_remembered_and_forgotten(
    town: Town, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{town.password}\n"))
    assert main(["--url", town.url, "login", town.owner.email, "--store", town.store_id]) == 0
    assert config.stat().st_mode & 0o777 == 0o600
    assert town.password not in config.read_text()
    assert main(["whoami"]) == 0
    assert main(["list", "payments"]) == 0
    assert town.owner.email in capsys.readouterr().out
    # A token is sent to no other server than the one that it is from.
    assert main(["--url", town.url.replace("127.0.0.1", "localhost"), "whoami"]) == 1
    assert "unauthenticated" in capsys.readouterr().err
    names = town.make.rows(
        "select name from api_tokens where user_id = %(id)s and revoked_at is null", {"id": town.owner.id}
    )
    assert [row.name.startswith("dues on ") for row in names if row.name != "test"] == [True]
    assert main(["logout"]) == 0
    assert main(["whoami"]) == 1
    assert "dues_" not in config.read_text()


def test_lists(town: Town, run: Run) -> None:
    town.make.payments(town.store, 130, users=[town.customer])
    header, *lines = run("list", "payments", "fields=id,amount,status", "--limit", "120").splitlines()
    assert (header.split("\t"), len(lines)) == (["id", "amount", "status"], 120)
    documents = [json.loads(line) for line in run("list", "payments", "--limit", "0", "--json").splitlines()]
    assert len(documents) == 130
    assert {"id", "links", "currency"} <= documents[0].keys()
    some = run("list", "payments", "status=succeeded", "amount[gte]=1", "sort=amount", "include=user", "--json")
    amounts = [json.loads(line)["amount"] for line in some.splitlines()]
    assert amounts == sorted(amounts)
    assert len(run("list", "packages", "--json").splitlines()) == 1
    assert run("list", "webhook-endpoints", status=2).startswith("dues: webhook-endpoints cannot be listed")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "nothing"), "nothing cannot be listed"),
        (("list", "payments", "colour=red"), "colour: not one of"),
        (("list", "payments", "status"), "'status' is not name=value"),
        (("list", "refunds"), "this list needs payment_id=…"),
        (("get", "whale", "x"), "there is no whale to get"),
        (("pay",), "pay what?"),
        (("pay", "1.005", "EUR"), "no fractions as small"),
        (("pay", "x", "EUR"), "is no amount"),
        (("report", "payments", "--from", "yesterday"), "is no day"),
    ],
)
def test_what_is_wrong_with_a_command(run: Run, words: tuple[str, ...], said: str) -> None:
    assert said in run(*words, status=2)


def test_refusals_are_one_line(run: Run) -> None:
    assert run("list", "payments", "amount_gte=much", status=1).startswith("dues: invalid_parameter: ")
    assert run("get", "payment", "no-id", status=1).startswith("dues: not_found: ")
    assert len(run("--url", "http://127.0.0.1:9", "whoami", status=1).splitlines()) == 1


def test_paying(town: Town, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUES_TOKEN", town.make.token(town.customer))
    payment_id, status, amount = run("pay", "15.50", "eur", "--key", "order-1").strip().split("\t")
    assert (status, amount) == ("succeeded", "15.50 EUR")
    assert run("pay", "15.50", "eur", "--key", "order-1").startswith(payment_id)
    assert json.loads(run("get", "payment", payment_id))["amount"] == 1550
    assert json.loads(run("pay", "--package", str(town.package.id), "--json"))["package_id"] == str(town.package.id)
    assert "card_declined" in run("pay", "3", "EUR", "--method", "sandbox_declined", status=1)


def test_reports(town: Town, run: Run, tmp_path: Path) -> None:
    town.make.payments(town.store, 30, users=[town.customer])
    file, when = tmp_path / "payments.csv", ("--from", "2020-01-01", "--to", "2099-01-01")
    path, rows, size = run("report", "payments", *when, "-o", str(file)).strip().split("\t")
    assert (path, rows, size) == (str(file), "30 rows", f"{file.stat().st_size} bytes")
    assert len(list(csv.reader(file.read_text().splitlines()))) == 31


def test_imports(town: Town, run: Run, tmp_path: Path) -> None:
    """As the guide has it; and what was refused is saved."""
    guide = (PROJECT / "docs/imports.md").read_text()
    packages, subscriptions = re.findall(r"```csv\n(.*?)```", guide, re.DOTALL)
    file = tmp_path / "rows.csv"
    for kind, content in (("packages", packages), ("subscriptions", subscriptions)):
        file.write_text(content)
        printed = run("imports", "create", "--kind", kind, "--file", str(file), "--wait")
        assert printed.strip().split("\t")[1:] == ["succeeded", "1 created", "0 updated", "0 unchanged", "0 refused"]
    file.write_text(subscriptions.replace("S-1", "S-2"))
    refused = tmp_path / "refused.csv"
    words = ("imports", "create", "--kind", "subscriptions", "--file", str(file), "--wait", "-o", str(refused))
    assert f"1 rows were refused, and {refused} says why" in run(*words, status=1)
    assert "already_subscribed" in refused.read_text()


def test_events(town: Town, run: Run) -> None:
    for _ in range(12):
        town.make.event(town.store, type="package.created")
    lines = run("events").splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(seq) for seq in range(3, 13)]
    assert len(run("events", "--after", "4", "--json").splitlines()) == 8


def test_a_job_is_followed(town: Town, run: Run) -> None:
    with town.dues(town.owner) as dues:
        started = dues.reports.create(town.store_id, kind="payments", format="csv", from_="2020-01-01T00:00:00Z",
                                      to="2030-01-01T00:00:00Z")  # fmt: skip
        assert started.job_path
        job_id = started.job_path.rpartition("/")[2]
    assert run("job", job_id).strip().split("\t") == [job_id, "report.build", "succeeded"]
    # Over, and still there to be told of.
    assert json.loads(run("job", job_id, "--json"))["done"] is True


def on_a_terminal(town: Town, *words: str, columns: int = 60) -> str:
    """What it writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "dues_client.cli", *words]
    sizes = {"COLUMNS": str(columns), "LINES": "40"}
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environ(town, **sizes))
    os.close(theirs)
    said = b""
    with suppress(OSError):
        while piece := os.read(ours, 65536):
            said += piece
    os.close(ours)
    assert process.wait(60) == 0, said.decode()
    return said.decode()


def test_on_a_terminal_there_are_tables_and_bars(town: Town, config: Path) -> None:
    town.make.payments(town.store, 3, users=[town.customer])
    lines = on_a_terminal(town, "list", "payments").split("\r\n")[:-1]
    assert lines[0].startswith("ID ")
    assert len(lines) == 4
    assert all(len(line) <= 60 and "\t" not in line for line in lines)
    said = on_a_terminal(town, "pay", "1.00", "EUR")
    assert re.search(r"\rpayment\.charge \[█{30}\] 100\.0 % succeeded", said)


def test_what_others_write_does_not_move_the_cursor(town: Town, config: Path) -> None:
    town.make.package(town.store, name="red \x1b[31m and \x07")
    assert "\x1b[31m" not in on_a_terminal(town, "list", "packages", "fields=name")


@pytest.fixture
def receiver() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server on this machine that keeps what it is sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.received.append((dict(self.headers), body))  # type: ignore[attr-defined]
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.received = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_webhooks_are_forwarded_as_they_are_sent(
    town: Town, config: Path, receiver: http.server.ThreadingHTTPServer
) -> None:
    url = f"http://127.0.0.1:{receiver.server_address[1]}/hooks"
    argv = [sys.executable, "-m", "dues_client.cli", "listen", "--forward", url, "--events", "package.created"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ(town))
    try:
        assert process.stdout
        secret = process.stdout.readline().split()[-1]
        with town.dues(town.owner) as dues:
            package = dues.packages.create(town.store_id, name="New", amount=5, currency="EUR", interval="once")
            dues.packages.archive(town.store_id, package.id)
            dues.packages.create(town.store_id, name="Newer", amount=5, currency="EUR", interval="once")
        lines = [process.stdout.readline().split() for _ in range(2)]
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert [words[1:] for words in lines] == [["package.created", "204"]] * 2
    (headers, body), _ = receiver.received  # type: ignore[attr-defined]
    event = webhooks.verify(body, headers, secret)
    assert event.to_dict()["data"]["id"] == package.id
    assert "links" not in event.to_dict()
