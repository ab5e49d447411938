"""The Python client against a running Dues: lists, slow work, files, events, and a server that is killed."""

import asyncio
import csv
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dues_client import AsyncDues, Dues, errors
from dues_client.models import Job

from tests.sdk.conftest import Town
from tests.servers import Servers
from tests.webserver import WebServer

PROJECT = Path(__file__).resolve().parents[2]
YEAR: dict[str, Any] = {
    "from_": datetime.now(UTC) - timedelta(days=400),
    "to": datetime.now(UTC) + timedelta(days=1),
}


def test_the_example_in_twenty_lines(town: Town) -> None:
    example = PROJECT / "sdk/python/examples/pay.py"
    town.make.payments(town.store, 120, users=[town.customer], packages=[town.package])
    total = town.make.value(
        "select sum(amount) from payments where store_id = %(store)s and status = 'succeeded'", {"store": town.store.id}
    )
    statements = [line for line in example.read_text().splitlines() if line.strip()]
    assert len(statements) <= 20
    environ = os.environ | {"DUES_URL": town.url, "PYTHONPATH": str(PROJECT / "sdk/python/src")}
    words = [sys.executable, str(example), town.store_id, town.customer.email, town.password]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert f"succeeded; before that {{'{town.package.name}': {total}}}" in done.stdout


def test_a_list_is_walked_to_its_end(town: Town, owner: Dues) -> None:
    town.make.payments(town.store, 230, users=[town.customer])
    paged = owner.payments.list(town.store_id, page_size=50, fields=["id", "amount", "currency"])
    rows = list(paged)
    assert len({row.id for row in rows}) == len(rows) == 230
    page, pages = paged.page(1, per_page=100), 1
    while page.current_page < page.last_page:
        page = paged.page(page.current_page + 1, per_page=100)
        pages += 1
    assert (pages, page.total, page.total_is_exact, len(page)) == (3, 230, True, 30)
    assert [row.id for row in paged.to_list(limit=3)] == [row.id for row in rows[:3]]
    assert paged.first() == rows[0]
    assert owner.payments.list(town.store_id, status="unknown").first() is None


def test_a_payment_is_waited_for(town: Town, customer: Dues) -> None:
    seen: list[Job] = []
    started = customer.payments.create(town.store_id, package_id=town.package.id, payment_method="sandbox_ok")
    payment = started.wait(on_progress=seen.append)
    assert (payment.status, payment.id) == ("succeeded", started.id)
    assert seen[-1].done
    confirmation = customer.jobs.get(str(payment.links["confirmation"]).rpartition("/")[2])
    assert confirmation.kind == "payment.confirmation"
    held = customer.payments.create(town.store_id, package_id=town.package.id, payment_method="sandbox_ok", wait=20)
    assert held.done
    assert held.wait().status == "succeeded"


def test_a_declined_card_is_an_error_with_the_payment(town: Town, customer: Dues) -> None:
    order: dict[str, Any] = {"amount": 500, "currency": "EUR", "description": "x", "payment_method": "sandbox_declined"}
    with pytest.raises(errors.CardDeclined) as raised:
        customer.payments.create(town.store_id, **order).wait()
    assert raised.value.code == "card_declined"
    payment = customer.payments.create(town.store_id, **order).wait(check=False)
    assert (payment.status, payment.failure_code) == ("failed", "card_declined")


def test_a_version_that_is_outdated(town: Town, owner: Dues) -> None:
    store = owner.stores.get(town.store_id)
    changed = owner.stores.change(town.store_id, name="Anew", if_version=store.version)
    assert changed.version > store.version
    with pytest.raises(errors.PreconditionFailed):
        owner.stores.change(town.store_id, name="Again", if_version=store.version)


def test_faults_have_their_places(town: Town, owner: Dues) -> None:
    with pytest.raises(errors.ValidationFailed) as raised:
        owner.packages.create(town.store_id, name="", amount=-1, interval="once")
    assert {fault.pointer for fault in raised.value.errors} == {"#/name", "#/amount"}
    assert raised.value.request_id


def test_a_report_is_made_and_downloaded(town: Town, owner: Dues, tmp_path: Path) -> None:
    town.make.payments(town.store, 40, users=[town.customer])
    report = owner.reports.create(town.store_id, kind="payments", format="csv", **YEAR).wait()
    assert report.rows == 40
    file = owner.reports.download(town.store_id, report.id).save(tmp_path / "payments.csv")
    with file.open(newline="") as lines:
        assert len(list(csv.reader(lines))) == 41
    assert sorted(path.name for path in tmp_path.iterdir()) == ["payments.csv"]
    download = owner.reports.download(town.store_id, report.id)
    assert len(download.read()) == report.bytes == file.stat().st_size
    assert download.filename.endswith(".csv")
    with pytest.raises(errors.NotFound):
        owner.reports.download(town.store_id, town.store_id).read()


def test_events_are_read_from_where_one_was(town: Town, owner: Dues) -> None:
    for name in ("one", "two", "three"):
        owner.packages.create(town.store_id, name=name, amount=1, currency="EUR", interval="once")
    events = list(owner.webhooks.events_after(town.store_id, 1))
    assert [event.seq for event in events] == [2, 3]
    assert [event.type for event in events] == ["package.created"] * 2


def test_everything_awaited(town: Town) -> None:
    async def run() -> tuple[list[str], str, int]:
        async with AsyncDues(town.make.token(town.owner), url=town.url) as dues:
            started = await dues.reports.create(town.store_id, kind="payments", format="csv", **YEAR)
            assert started.job_path
            job_id = started.job_path.rpartition("/")[2]
            seen = [job.status async for job in dues.jobs.follow(job_id)]
            report = await started.wait()
            file = await dues.reports.download(town.store_id, report.id).read()
            names = [package.name async for package in dues.packages.list(town.store_id)]
            assert len(names) == 1
            return seen, str(report.status), len(file)

    seen, status, size = asyncio.run(run())
    assert (seen[-1], status) == ("succeeded", "succeeded")
    assert size > 0


def test_a_server_killed_before_it_answers_charges_once(town: Town, servers: Servers, tmp_path: Path) -> None:
    """It dies after the payment was committed; the client's next attempt meets the one that takes its place."""
    marker = tmp_path / "killed"
    failpoints = f"web.after_commit=kill:{marker}"
    with (
        WebServer(servers, DUES_FAILPOINTS=failpoints) as web,
        Dues(town.make.token(town.customer), url=web.url, retries=10) as dues,
    ):
        started = dues.payments.create(town.store_id, package_id=town.package.id, payment_method="sandbox_ok")
        assert marker.exists()
        assert dues.last
        assert dues.last.headers["idempotency-replayed"] == "true"
        assert started.wait().status == "succeeded"
    rows = town.make.rows("select status from payments where store_id = %(store)s", {"store": town.store.id})
    assert [row.status for row in rows] == ["succeeded"]


def test_a_file_is_imported(town: Town, owner: Dues) -> None:
    rows = f"external_id,email,name\nC-1,{town.store_id}@example.com,Ada\nC-2,,Nobody\n".encode()
    started = owner.imports.create(town.store_id, content=rows, kind="customers")
    one = started.wait()
    assert (one.status, one.created, one.refused) == ("succeeded", 1, 1)
    assert b'\r\n3,"C-2",required,"/email"' in owner.imports.download(town.store_id, one.id).read()
    again = owner.imports.create(
        town.store_id,
        content=f'{{"external_id":"C-1","email":"{town.store_id}@example.com","name":"Ada"}}\n'.encode(),
        content_type="application/x-ndjson",
        kind="customers",
    )
    assert again.wait().unchanged == 1
