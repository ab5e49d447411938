"""Lists of payments and refunds: one statement whatever is asked for and however many there are, and pages that
together hold every row once."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace as Row
from typing import Any
from urllib.parse import quote

import pytest

from tests.factory import Factory
from tests.payments.conftest import Shop
from tests.recorder import QueryRecorder

MANY = [10, 1000, pytest.param(10_000, marks=pytest.mark.wide)]
READS = [
    "",
    "fields=id,amount",
    "include=user",
    "include=package",
    "include=refunds",
    "include=user,package,refunds&fields=id,user.name,package.name,refunds.amount",
    "sort=created_at",
    "sort=amount",
    "sort=-amount&include=user,package,refunds",
    "status=failed",
    "currency=EUR",
    "user_id={user_id}",
    "package_id={package_id}",
    "amount[gte]=1010&amount[lt]=1020",
    "amount=1010",
    "created_at[gte]=2020-01-01T00:00:00Z&created_at[lt]=2100-01-01T00:00:00Z",
    "page=2&per_page=5",
    "page=2&per_page=3&total=exact",
    "cursor=&limit=5",
    "cursor=&limit=5&sort=-amount&status=succeeded&include=user,package,refunds",
]


@pytest.fixture(params=MANY)
def filled(request: pytest.FixtureRequest, shop: Shop, make: Factory) -> Row:
    """A store with so many payments for two packages by two customers, and a refund of one."""
    packages = [make.package(shop.store, name="Silver"), make.package(shop.store, name="Gold")]
    users = [shop.customer, make.user()]
    make.payments(shop.store, request.param, users=users, packages=packages, noted=False)
    # The newest that succeeded, on the first page of most lists.
    newest = make.rows("select * from payments where status = 'succeeded' order by created_at desc, id desc limit 1")[0]
    make.refund(newest, amount=7)
    return Row(count=request.param, user_id=users[0].id, package_id=packages[0].id, newest=newest)


def test_every_list_is_one_statement_at_any_size(shop: Shop, filled: Row, queries: QueryRecorder) -> None:
    lists = (
        [f"{shop.path}?{read}" for read in READS]
        + [f"/v1/me/payments?{read}" for read in READS]
        + [f"{shop.path}/{filled.newest.id}/refunds", f"{shop.path}/{filled.newest.id}/refunds?cursor=&sort=created_at"]
    )
    for template in lists:
        path = template.format(user_id=filled.user_id, package_id=filled.package_id)
        with queries() as seen:
            found = shop.get(quote(path, safe="/?&=[],:-"), shop.owner_auth)
        # Beside that of the token and the role, where they are not cached.
        assert len([statement for statement in seen if "token_hash" not in statement]) == 1, f"{path}\n{seen}"
        if path.startswith(shop.path):
            assert found["data"], path


def test_a_single_payment_is_one_statement(shop: Shop, filled: Row, queries: QueryRecorder) -> None:
    with queries() as seen:
        found = shop.get(f"{shop.path}/{filled.newest.id}?include=user,package,refunds", shop.owner_auth)
    assert len(seen) == 2, str(seen)
    assert [refund["amount"] for refund in found["refunds"]] == [7]


def test_includes_are_the_rows_they_say(shop: Shop, make: Factory) -> None:
    package = make.package(shop.store, name="Gold")
    payment = make.payment(shop.store, shop.customer, package=package)
    refunds = [
        make.refund(payment, amount=amount, created_at=datetime(2026, 1, amount, tzinfo=UTC)) for amount in (1, 2)
    ]
    make.payment(shop.store, shop.customer)
    plain, full = shop.get(f"{shop.path}?include=user,package,refunds", shop.owner_auth)["data"]
    assert (plain["package"], plain["refunds"]) == (None, [])
    assert (full["user"]["id"], full["user"]["name"]) == (str(shop.customer.id), "Carl Customer")
    assert "email" not in full["user"]
    assert (full["package"]["id"], full["package"]["name"]) == (str(package.id), "Gold")
    assert [refund["id"] for refund in full["refunds"]] == [str(refund.id) for refund in reversed(refunds)]


def test_filters_and_sorts_agree_with_the_rows(shop: Shop, make: Factory) -> None:
    users = [make.user(), make.user()]
    packages = [make.package(shop.store), make.package(shop.store)]
    make.payments(shop.store, 90, users=users, packages=packages)
    rows = make.rows("select * from payments")
    cases: list[tuple[str, Any]] = [
        ("status=failed", lambda row: row.status == "failed"),
        ("currency=EUR", lambda row: True),
        ("currency=USD", lambda row: False),
        (f"user_id={users[1].id}", lambda row: row.user_id == users[1].id),
        (f"package_id={packages[0].id}", lambda row: row.package_id == packages[0].id),
        ("amount[gt]=1010&amount[lte]=1040", lambda row: 1010 < row.amount <= 1040),
        ("amount=1010", lambda row: row.amount == 1010),
        (f"status=succeeded&user_id={users[0].id}", lambda r: r.status == "succeeded" and r.user_id == users[0].id),
    ]
    middle = sorted(row.created_at for row in rows)[45]
    cases.append((f"created_at[lt]={quote(middle.isoformat())}", lambda row: row.created_at < middle))
    sorts = {
        "": lambda row: (row.created_at, row.id),
        "&sort=-created_at": lambda row: (row.created_at, row.id),
        "&sort=-amount": lambda row: (row.amount, row.id),
        "&sort=created_at": lambda row: (row.created_at, row.id),
        "&sort=amount": lambda row: (row.amount, row.id),
    }
    for read, holds in cases:
        for sort, key in sorts.items():
            found = shop.get(f"{shop.path}?{read}{sort}&per_page=100&fields=id", shop.owner_auth)
            falling = "-" in sort or not sort
            expected = sorted((row for row in rows if holds(row)), key=key, reverse=falling)
            assert [row["id"] for row in found["data"]] == [str(row.id) for row in expected]
            assert found["meta"]["total"] == len(expected)


@pytest.mark.parametrize(
    "read",
    [
        "status=lost",
        "currency=EURO",
        "user_id=me",
        "amount=ten",
        "created_at[gte]=today",
        "sort=status",
        "include=store",
    ],
)
def test_parameters_that_make_no_sense_are_named(shop: Shop, read: str) -> None:
    answer = shop.client.get(f"{shop.path}?{read}", headers=shop.auth)
    assert answer.status_code == 400
    assert answer.json
    assert [fault["parameter"] for fault in answer.json["errors"]] == [read.partition("=")[0]]


def test_a_loop_over_the_pages_collects_every_payment_once(shop: Shop, make: Factory) -> None:
    make.payments(shop.store, 10_050, users=[shop.customer], noted=False)
    collected: list[str] = []
    page, last_page = 0, 1
    while page < last_page:
        page += 1
        found = shop.get(f"{shop.path}?page={page}&per_page=100&fields=id", shop.owner_auth)
        collected += [row["id"] for row in found["data"]]
        last_page = found["meta"]["last_page"]
    assert len(collected) == len(set(collected)) == 10_050


@pytest.mark.parametrize("sort", ["-created_at", "created_at", "-amount", "amount"])
def test_a_cursor_walk_neither_skips_nor_repeats_while_payments_come_in(shop: Shop, make: Factory, sort: str) -> None:
    # Amounts and times that tie, so that the id decides.
    make.payments(shop.store, 100, users=[shop.customer])
    minute = "date_trunc('minute', created_at at time zone 'UTC') at time zone 'UTC'"
    make.rows(f"update payments set amount = amount / 10, created_at = {minute}")
    before = {str(row.id) for row in make.rows("select id from payments")}
    seen: list[str] = []
    for rows in _walk(shop, f"{shop.path}?cursor=&limit=7&sort={sort}&fields=id"):
        seen += [row["id"] for row in rows]
        make.payment(shop.store, shop.customer, amount=len(seen))
        make.payment(shop.store, shop.customer, amount=10_000, created_at=datetime(2020, 1, 1, tzinfo=UTC))
        assert len(seen) < 1000
        if before <= set(seen):
            break
    assert before <= set(seen)
    assert len(seen) == len(set(seen))


def test_a_cursor_walk_back_shows_the_same_pages(shop: Shop, make: Factory) -> None:
    make.payments(shop.store, 20, users=[shop.customer])
    path = f"{shop.path}?cursor=&limit=6&fields=id"
    there = list(_walk(shop, path))
    last = shop.get(path, shop.owner_auth)
    while last["links"]["next"]:
        last = shop.get(last["links"]["next"], shop.owner_auth)
    back = [last["data"]]
    while last["links"]["prev"]:
        last = shop.get(last["links"]["prev"], shop.owner_auth)
        back.append(last["data"])
    assert [page for page in reversed(back) if page] == there


def _walk(shop: Shop, path: str | None) -> Iterator[list[dict[str, Any]]]:
    """The rows of each page, from the one at `path` to the last."""
    while path:
        found = shop.get(path, shop.owner_auth)
        yield found["data"]
        path = found["links"]["next"]
