"""What clumsy hands and bad days do to imports: rows that are none, many at once, files that are left."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dues.ids import new_id
from dues.imports import run
from dues.imports.retention import delete_expired_files
from dues.imports.service import import_folder
from dues.payments import gateways
from dues.payments.gateways import Chosen
from dues.postgres import transaction
from dues.reports.files import file_store
from dues.reports.retention import delete_expired_files as delete_expired_reports
from tests.billing.conftest import Club
from tests.imports.conftest import Importer, as_csv
from tests.imports.test_imports import ADA, GOLD, running
from tests.servers import wait_until
from tests.workers.conftest import Processes, processes

__all__ = ["processes"]

HEADING = b"external_id,email,name\n"
GOOD = b"C-1,ada@example.com,Ada\n"


def test_times_beyond_the_calendar_cost_their_rows_alone(make_club: Callable[..., Club]) -> None:
    """Wherever the store is: in time zones that are ahead of UTC, and behind it."""
    times = ["0001-01-01T00:00:00Z", "1899-12-31T00:00:00Z", "2200-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
    rows, told = [], []
    for name in ("started_at", "anchor_at", "current_period_end", "trial_end", "ended_at"):
        for moment in times:
            rows.append(running(external_id=f"{name} {moment}", **{name: moment}))
            told.append((f"{name} {moment}", "range", f"/{name}"))
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        importer = Importer(make_club("2024-01-31", timezone=zone))
        importer.counts("packages", [GOLD])
        importer.counts("customers", [ADA])
        one = importer.run("subscriptions", [*rows, running()])
        assert (one["status"], one["created"], one["refused"]) == ("succeeded", 1, len(rows)), one
        assert [(line["external_id"], line["code"], line["pointer"]) for line in importer.refused(one)] == told


def nested(depth: int) -> bytes:
    return b'{"external_id":%b%b}\n' % (b"[" * depth, b"]" * depth)


# Lines of NDJSON of customers, none of which is one.
WRONG: dict[str, bytes] = {
    "nested as deep as is read and deeper": b"".join(map(nested, [50, *range(800, 1100, 7), 30_000])),
    "numbers of any size": b"".join(
        b'{"external_id":%b,"email":"a@example.com","name":"A"}\n' % number
        for number in (b"1", b"1e400", b"-0", b"9" * 4000, b"9" * 5000)
    ),
    "halves of characters, and none": b'{"external_id":"\\ud800"}\n{"external_id":"\\u0000","email":"a@b.example"}\n',
    "values": b'null\n1\n"x"\n[]\n',
    "members twice": b'{"external_id":"a","external_id":"b"}\n',
    "rubbish": random.Random(7).randbytes(60_000),
}


def test_lines_that_are_no_rows_cost_no_other(importer: Importer) -> None:
    good = json.dumps(ADA).encode()
    content, expected = good + b"\n", {}
    for name, wrong in WRONG.items():
        first = content.count(b"\n") + 1
        lines = [number for number, line in enumerate(wrong.split(b"\n"), first) if line.strip(b" \t\r")]
        content, expected[name] = content + wrong + b"\n", lines
    one = importer.run("customers", content + good.replace(b"C-1", b"C-2"), "application/x-ndjson")
    refused = importer.refused(one)
    assert (one["status"], one["created"], one["refused"]) == ("succeeded", 2, len(refused)), one
    told = [int(line["line"]) for line in refused]
    for name, lines in expected.items():
        assert [number for number in told if lines[0] <= number <= lines[-1]] == lines, name
    assert len(told) == sum(map(len, expected.values()))
    assert all(line["detail"] and line["code"] for line in refused)


def test_rubbish_in_a_csv_costs_its_lines(importer: Importer) -> None:
    one = importer.run("customers", HEADING + GOOD + b"\n" + WRONG["rubbish"] + b"\n" + GOOD.replace(b"C-1", b"C-2"))
    assert (one["status"], one["created"]) == ("succeeded", 2), one
    assert one["refused"] > 100
    assert importer.send("customers", WRONG["rubbish"]).status_code == 422


def test_of_millions_of_refused_rows_some_are_told(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BATCH", 4)
    monkeypatch.setattr(run, "MOST_TOLD", 10)
    one = importer.run("customers", HEADING + GOOD + b"x\n" * 25 + GOOD.replace(b"C-1", b"C-2"))
    assert (one["status"], one["rows"], one["created"], one["refused"]) == ("succeeded", 27, 2, 25)
    assert [line["line"] for line in importer.refused(one)] == [str(n) for n in range(3, 13)]


def test_ten_at_once(make_club: Callable[..., Club], processes: Processes) -> None:
    """Of two stores, whose files name the same people, the one's from the last to the first; some twice over."""
    importers = [Importer(make_club(None)) for _ in range(2)]
    people = [{"external_id": f"C-{n}", "email": f"c{n}@example.com", "name": f"Somebody {n}"} for n in range(120)]
    for turn in range(5):
        part = people[turn * 16 : turn * 16 + 56]
        for importer, rows in zip(importers, (part, part[::-1]), strict=True):
            assert importer.send("customers", as_csv(rows)).status_code == 202
    processes.start_both("slow:4")

    def listed(importer: Importer) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = importer.club.get(importer.path)["data"]
        return found

    for importer in importers:
        wait_until(lambda: {one["status"] for one in listed(importer)} == {"succeeded"}, 90, "the imports")  # noqa: B023
        assert sum(one["created"] for one in listed(importer)) == 120
        assert sum(one["unchanged"] for one in listed(importer)) == 5 * 56 - 120
        assert sum(one["refused"] for one in listed(importer)) == 0
    make = importers[0].club.make
    assert make.value("select count(*) from customers") == 240
    assert make.value("select count(*) from users where email like 'c%@example.com'") == 120
    assert make.value("select count(distinct row_id) from external_ids") == 120


CHARGERS = {
    "the sandbox": (Chosen("sandbox", None, accepts=True), ""),
    "Stripe": (Chosen("stripe", new_id(), accepts=True), "wrong_gateway"),
    "nothing, in production": (Chosen("sandbox", None, accepts=False), "sandbox_refused"),
}


@pytest.mark.parametrize("name", CHARGERS)
def test_a_payment_method_that_the_store_cannot_charge(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Is refused at once, and not when the first renewal falls due. Cards at Stripe are for their holders to store."""
    chosen, code = CHARGERS[name]
    monkeypatch.setattr(gateways, "_chosen", lambda *_: chosen)
    importer.counts("packages", [GOLD])
    rows = [running(customer_external_id="", email=f"{n}@example.com", external_id=f"S-{n}") for n in range(3)]
    rows[1]["payment_method"], rows[2]["payment_method"] = "", "pm_1MqLiJLkdIwHu7ixUEgbFdYF"
    one = importer.run("subscriptions", rows)
    refused = [("S-0", code)] * bool(code) + [("S-2", "pattern")]
    assert [(line["external_id"], line["code"]) for line in importer.refused(one)] == refused
    assert all(line["pointer"] == "/payment_method" for line in importer.refused(one))
    assert one["created"] == 3 - len(refused)


def test_files_that_belong_to_nothing_are_deleted_after_a_day(importer: Importer) -> None:
    """Those that a process had written when it was killed, or whose transaction came to nothing."""
    club, home = importer.club, Path(importer.club.app.extensions["settings"].files_dir)
    sent = [importer.send("customers", HEADING + GOOD).json or {} for _ in range(2)]
    done = importer.run("customers", HEADING + GOOD)
    store_id = club.store.id
    with club.app.app_context():
        orphans = [import_folder(store_id, new_id()) for _ in range(3)]
        for folder in orphans:
            with file_store().create(f"{folder}/upload") as draft:
                draft.write(GOOD)
        # One that was killed while it wrote.
        (home / orphans[1] / "upload").rename(home / orphans[1] / "upload.part")
        (home / orphans[1] / "upload.work").mkdir()
        report_id = new_id()
        with file_store().create(f"reports/{report_id}/a.csv") as draft:
            draft.write(GOOD)
    kept = [import_folder(store_id, one["id"]) for one in (*sent, done)]
    report = home / "reports" / str(report_id)
    (home / "imports" / "notes").mkdir(exist_ok=True)
    for days, left, gone in ((0.9, [*kept, *orphans], 0), (1.1, kept, 3), (1.1, kept, 0)):
        for path in (home / "imports" / str(store_id)).iterdir():
            os.utime(path, times=(time.time() - days * 86_400,) * 2)
        with club.app.app_context(), transaction():
            assert delete_expired_files() == gone
        assert sorted(str(path.relative_to(home)) for path in (home / "imports" / str(store_id)).iterdir()) == sorted(
            left
        )
    for days, is_there in ((90.5, True), (91.5, False)):
        os.utime(report, times=(time.time() - days * 86_400,) * 2)
        with club.app.app_context(), transaction():
            assert delete_expired_reports() == (not is_there)
        assert report.exists() is is_there
    club.work.drain()
    assert {one["status"] for one in club.get(importer.path)["data"]} == {"succeeded"}
