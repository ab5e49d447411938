"""CSV as spreadsheets take it: lines, quotes, byte order mark, and nothing that runs, however the lines are cut."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from flask.testing import FlaskClient

from dues.ids import new_id
from tests.factory import Factory
from tests.reports.conftest import Reports

AT = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)
STARTS = ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "\ufe661", "\ufe621", "\u22121"]
SEPARATORS = [",", ";", "\t", "\n", "\r", "\r\n", "|", "\v", "\f", "\u2028"]
BLANKS = [" ", "  ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u00ad", '"', ' "', "\u200b \u2060"]
HARMLESS = ["", "a=1", "1+1", "'=1", "Ω", "a b - c", "x@example.com", "Tea 10%", "2026-01-15", "3 - 2 = 1", "a; b, c"]

EVIL = [
    *STARTS,
    *(blank + "=1+1" for blank in BLANKS),
    *(f"a{separator}=1+1" for separator in SEPARATORS),
    *(f"a{separator}{blank}+1{separator}b" for separator in SEPARATORS for blank in BLANKS),
    *(f"a;{start};b" for start in STARTS),
    ";;=1",
    ";\t\n=1",
    "=1;=2\n=3",
    '"=1',
    'a;"=HYPERLINK(""http://evil.example"")"',
]


def written(make: Factory, reports: Reports, texts: list[str]) -> bytes:
    """A report of payments with these descriptions, of which each is a failure code too."""
    store = make.store()
    user = make.user(name="=HYPERLINK(1)", email="+x@example.com")
    package = make.package(store, name="@package;=1")
    first = vars(make.payment(store, user, package=package, description=texts[0], failure_code=texts[0], created_at=AT))
    others = [
        first | {"id": new_id(), "description": text, "failure_code": text, "paid_at": AT + timedelta(seconds=i)}
        for i, text in enumerate(texts[1:], 1)
    ]
    make.insert_many("payments", others)
    return reports.built(store)


def starts_formula(cell: str) -> bool:
    return (
        re.match(r'[\s"\u00ad\u200b\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\u2212]', cell) is not None
    )


def test_no_cell_is_a_formula_however_the_lines_are_cut(make: Factory, reports: Reports):
    """Cut at each of some separators and at each line break, by a reader who sees no quotes where they are not at the
    beginning of a cell, and by one who sees none at all."""
    content = written(make, reports, EVIL).decode()
    # Our own numbers and times may be below zero, and run nothing.
    ours = re.compile(r"-?[\d.]+")
    for separators in (",", ";", "\t", "|", ",;\t", ",;\t|"):
        cells = re.split(f"[{separators}\\r\\n\\v\\f\\u2028]", content)
        for line in csv.reader(io.StringIO(content, newline=""), delimiter=separators[0]):
            cells += line
        assert len(cells) > len(EVIL)
        assert [cell for cell in cells if starts_formula(cell) and not ours.fullmatch(cell)] == []


def test_what_is_harmless_stays_as_it_is_and_other_formats_have_the_truth(make: Factory, reports: Reports):
    content = written(make, reports, HARMLESS + EVIL)
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    found = [row["description"] for row in rows]
    assert found[: len(HARMLESS)] == HARMLESS
    assert found == [row["failure_code"] for row in rows]
    # Nothing but apostrophes was added.
    assert [text.replace("'", "") for text in found] == [text.replace("'", "") for text in HARMLESS + EVIL]
    assert {(r["user_name"], r["user_email"], r["package_name"]) for r in rows} == {
        ("'=HYPERLINK(1)", "'+x@example.com", "'@package;'=1")
    }
    as_json = json.loads(reports.built(make.rows("select * from stores")[0], form="json"))["data"]
    assert [row["description"] for row in as_json] == HARMLESS + EVIL


def test_lines_end_as_rfc_4180_has_it_and_texts_are_quoted(make: Factory, reports: Reports):
    content = written(make, reports, ["Tea", "a\nb", ""])
    *lines, end = content.split(b"\r\n")
    assert end == b""
    assert len(lines) == 4
    assert lines[0].startswith(b"id,type,payment_id,booked_at_utc,created_at_utc,")
    assert b',"Tea","Tea",' in lines[1]
    assert b',"a\nb","a\nb",' in lines[2]
    assert not content.startswith(b"\xef\xbb\xbf")


def test_a_byte_order_mark_where_it_is_asked_for(client: FlaskClient, make: Factory, reports: Reports):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    make.payment(store, description="Grüße")
    body = {"kind": "payments", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "bom": True}
    asked: Any = client.post(f"/v1/stores/{store.id}/reports", json=body | {"format": "csv"}, headers=auth)
    assert asked.json["bom"] is True
    content = reports.content(reports.build(reports.row(asked.json["id"])))
    assert content.startswith(b"\xef\xbb\xbfid,")
    assert "Grüße" in content.decode("utf-8-sig")
    for form in ("json", "xlsx", "pdf"):
        kind = "revenue" if form == "pdf" else "payments"
        refused: Any = client.post(
            f"/v1/stores/{store.id}/reports", json=body | {"format": form, "kind": kind}, headers=auth
        )
        assert refused.status_code == 422
        assert [(fault["pointer"], fault["code"]) for fault in refused.json["errors"]] == [("#/bom", "conflict")]
