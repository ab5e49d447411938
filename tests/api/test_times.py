"""Times: read in one way wherever a request holds one, and written in one way wherever an answer does."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask

from dues.clock import parse_moment, rfc3339
from dues.errors import InvalidValue, ValidationFailed
from dues.reports.service import NewReport
from dues.validation import validate
from tests.api.samples.declared import READS
from tests.api.world import World
from tests.factory import Factory

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
TAKEN = {
    "2026-01-01T00:00:00Z": NEW_YEAR,
    "2026-01-01t00:00:00z": NEW_YEAR,
    "2026-01-01T00:00:00+00:00": NEW_YEAR,
    "2026-01-01T00:00:00-00:00": NEW_YEAR,
    "2026-01-01T16:00:00+16:00": NEW_YEAR,
    "2026-01-01T23:59:00+23:59": NEW_YEAR,
    "2025-12-31T00:01:00-23:59": NEW_YEAR,
    "2026-01-01T00:00:00.5Z": NEW_YEAR.replace(microsecond=500_000),
    "2026-01-01T00:00:00.000001Z": NEW_YEAR.replace(microsecond=1),
    # As Go's time.Time writes itself.
    "2026-01-01T00:00:00.000001499Z": NEW_YEAR.replace(microsecond=1),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1, tzinfo=UTC),
    "9999-12-31T23:59:59.999999Z": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
}
REFUSED = [
    *(
        "",
        "2026-01-01",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+24:00",
        "2026-02-29T00:00:00Z",
    ),
    *("2026-01-01T24:00:00Z", "2026-01-01T00:00:00+01", "2026-01-01T00:00:00.Z", "yesterday", "1767225600"),
    *("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "0000-12-31T23:59:59Z", "2026-01-01T00:00:00Z\n"),
]
WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


def read_in_body(text: str) -> datetime:
    report = {"kind": "payments", "format": "csv", "from": text, "to": text}
    return validate(report, NewReport).range_from


@pytest.mark.parametrize("text", TAKEN)
def test_a_time_is_utc_from_where_it_is_decoded(text: str) -> None:
    for read in (parse_moment, read_in_body):
        assert (moment := read(text)) == TAKEN[text]
        assert moment.tzinfo is UTC


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_time_is_refused_in_words(text: str) -> None:
    with pytest.raises(InvalidValue, match="time"):
        parse_moment(text)
    with pytest.raises(ValidationFailed) as refused:
        read_in_body(text)
    for fault in refused.value.errors:
        assert fault.code in ("format", "range")
        assert "RFC 3339 time" in fault.detail or "the years 1 to 9999" in fault.detail


@pytest.mark.parametrize("sign", "+-")
def test_every_offset_is_taken_by_every_route(client, make: Factory, sign: str) -> None:
    owner = make.user()
    auth = make.auth(owner)
    for hours in (0, 9, 14, 15, 16, 20, 23):
        store = make.store(owner)
        make.event(store)
        times = {"from": f"2026-01-01T00:00:00{sign}{hours:02}:59", "to": f"2027-01-01T00:00:00{sign}{hours:02}:59"}
        replays = f"/v1/stores/{store.id}/webhook-endpoints/{make.endpoint(store).id}/replays"
        assert client.post(replays, json=times, headers=auth).status_code == 202, hours
        reports = f"/v1/stores/{store.id}/reports"
        report = client.post(reports, json={"kind": "payments", "format": "csv", **times}, headers=auth)
        assert report.json["from"] == rfc3339(datetime.fromisoformat(times["from"])), hours
        events = f"/v1/stores/{store.id}/events?timestamp[gte]={quote(times['from'])}"
        assert client.get(events, headers=auth).status_code == 200, hours


def test_a_plus_that_came_as_a_blank_is_a_plus(client, make: Factory) -> None:
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    payment = make.payment(store)
    url = f"/v1/stores/{store.id}/payments"
    shown = client.get(f"{url}/{payment.id}", headers=auth).json["created_at"]
    for written in (shown, quote(shown), shown.replace("+", "%20")):
        found = client.get(f"{url}?created_at={written}", headers=auth)
        assert [row["id"] for row in found.json["data"]] == [str(payment.id)], written
    refused = client.get(f"{url}?created_at=2026-01-01+00:00:00", headers=auth)
    assert (refused.status_code, refused.json["errors"][0]["parameter"]) == (400, "created_at")


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_every_time_has_six_digits_and_one_form(app: Flask, make: Factory) -> None:
    """Also those whose microseconds end in zeros, which PostgreSQL and Python each shorten in their own way."""
    world = World(make, app)
    ids: dict[str, Any] = {}
    reads = [*READS, "/v1/jobs/{job_id}", "/v1/stores/{store_id}/events", "/v1/stores/{store_id}/webhook-deliveries"]
    for path in reads:
        ids |= world.target("GET", path)
    columns = make.rows("""
        select table_name, column_name from information_schema.columns
        where data_type = 'timestamp with time zone' and table_schema = 'public' and is_generated = 'NEVER'
            and table_name not in
            ('api_tokens', 'cache_switch', 'documents') and column_name <> 'deleted_at'
            and table_name not in (select event_object_table from information_schema.triggers
                where event_manipulation = 'UPDATE' and action_statement like '%keep_%')
    """)
    for fraction in ("0", "0.27312"):
        for column in columns:
            make.rows(
                f"update {column.table_name} set {column.column_name} ="
                f" date_trunc('second', {column.column_name}) + interval '{fraction} s'"
            )
        times = []
        for user in (world.owner, world.customer):
            headers = make.auth(user)
            for path in reads:
                answer = app.test_client().get(path.format_map(ids), headers=headers)
                times += [text for text in strings(answer.json) if re.match(r"\d{4}-\d\d-\d\dT", text)]
        assert len(times) > 100
        assert [time for time in times if not WRITTEN.fullmatch(time)] == []
