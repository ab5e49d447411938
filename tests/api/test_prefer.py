"""`Prefer: wait=…`, as clients may write it."""

import time

import pytest

from api.prefer import preferred_wait

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("Wait = 10", 10),
        ('wait="10"', 10),
        ('wait="1\\0"', 10),
        ("respond-async, wait=10", 10),
        ("respond-async,wait=10;about=this, handling=lenient", 10),
        ('foo="a, wait=3", wait=10', 10),
        ('foo; bar="x;y", wait=10', 10),
        ("wait=10, wait=20", 10),
        ("return=minimal,, ,wait=007", 7),
        ("wait=26", 25),
        ("wait=999999999", 25),
        ("wait=0", 0),
        ("respond-async", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_how_long_a_client_waits(header: str | None, seconds: int):
    assert preferred_wait(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        "wait",
        "wait=",
        "wait=-1",
        "wait=1.5",
        "wait=1e1",
        "wait=soon",
        "wait=٣",
        'wait="10',
        "wait=x, wait=10",
        "await=10",
    ],
)
def test_what_is_no_number_of_seconds_is_ignored(header: str):
    assert preferred_wait(header) == 0


def test_a_hostile_header_costs_nothing():
    began = time.process_time()
    for header in ('"\\"' * 20_000, "," * 60_000, "wait=" + "9" * 60_000, '"' * 999, '\\"' * 499):
        assert preferred_wait(header) == 0
    assert time.process_time() - began < 0.5
