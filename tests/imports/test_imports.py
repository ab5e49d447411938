"""Customers, packages and subscriptions are brought along: with their dates, charged when they would have been, and
nobody hears of it."""

from typing import Any

import pytest

from tests.billing.conftest import Club, at
from tests.imports.conftest import Importer
from tests.servers import Mailbox

GOLD = {"external_id": "gold", "name": "Gold", "amount": 5000, "interval": "month", "currency": "EUR"}
ADA = {"external_id": "C-1", "email": "Ada@Example.com", "name": "Ada Lovelace"}


def running(**changes: Any) -> dict[str, Any]:
    """A subscription of Ada's to Gold, half-way through its month."""
    return {
        "external_id": "S-1",
        "customer_external_id": "C-1",
        "package_external_id": "gold",
        "started_at": "2023-06-15T00:00:00Z",
        "current_period_end": "2024-02-15T00:00:00Z",
        "payment_method": "sandbox_ok",
    } | changes


def bring(importer: Importer, *subscriptions: dict[str, Any]) -> tuple[int, int, int, int]:
    assert importer.counts("packages", [GOLD]) == (1, 0, 0, 0)
    assert importer.counts("customers", [ADA]) == (1, 0, 0, 0)
    return importer.counts("subscriptions", [*subscriptions])


def test_a_subscription_goes_on_where_it_was(club: Club, importer: Importer, mailbox: Mailbox) -> None:
    assert bring(importer, running()) == (1, 0, 0, 0)
    (one,) = importer.subscriptions()
    assert (one.status, one.amount, one.currency, one.has_access) == ("active", 5000, "EUR", True)
    assert (one.created_at, one.anchor_at, one.period_number) == (at("2023-06-15"), at("2023-06-15"), 7)
    assert (one.current_period_start, one.current_period_end) == (at("2024-01-15"), at("2024-02-15"))
    assert one.next_charge_at == at("2024-02-15")
    log = club.make.rows("select kind, actor_id, created_at from subscription_changes")
    assert [(row.kind, row.actor_id, row.created_at) for row in log] == [("imported", club.owner.id, at("2024-01-31"))]
    assert club.events() == ["package.created", *["import.succeeded"] * 2, "subscription.created", "import.succeeded"]
    club.advance("2024-02-14")
    assert club.make.rows("select from payments") == []
    assert mailbox.mails() == []
    club.advance("2024-03-16")
    paid = club.make.rows("select amount, status, paid_at from payments order by id")
    assert [(row.amount, row.status, row.paid_at) for row in paid] == [
        (5000, "succeeded", at("2024-02-15")),
        (5000, "succeeded", at("2024-03-15")),
    ]


@pytest.mark.parametrize(
    "media_type",
    [
        "application/x-ndjson",
        pytest.param("text/csv", marks=pytest.mark.wide),
        pytest.param("application/jsonl", marks=pytest.mark.wide),
    ],
)
def test_the_same_file_twice_changes_nothing(club: Club, importer: Importer, media_type: str) -> None:
    files: dict[str, list[dict[str, Any]]] = {"packages": [GOLD], "customers": [ADA], "subscriptions": [running()]}
    for kind, rows in files.items():
        assert importer.counts(kind, rows, media_type) == (1, 0, 0, 0)
    before = [club.make.rows(f"select * from {table} order by 1, 2") for table in (*files, "users", "payment_methods")]
    for kind, rows in files.items():
        assert importer.counts(kind, rows, media_type) == (0, 0, 1, 0)
        # However it is written.
        assert importer.counts(kind, [dict(reversed(row.items())) for row in rows], "text/csv") == (0, 0, 1, 0)
    after = [club.make.rows(f"select * from {table} order by 1, 2") for table in (*files, "users", "payment_methods")]
    assert before == after


def test_a_row_that_has_changed(club: Club, importer: Importer) -> None:
    """A package becomes what the row says, a customer is called as it says; a subscription is refused."""
    bring(importer, running())
    assert importer.counts("packages", [GOLD | {"amount": 6000, "name": "Gold+"}]) == (0, 1, 0, 0)
    (package,) = club.make.rows("select name, amount, version from packages")
    assert (package.name, package.amount, package.version) == ("Gold+", 6000, 2)
    assert importer.counts("customers", [ADA | {"name": "Ada King"}]) == (0, 1, 0, 0)
    assert club.get(f"{club.path}/customers")["data"][0]["name"] == "Ada King"
    other = importer.run("customers", [ADA | {"email": "another@example.com"}])
    assert (other["refused"], importer.refused(other)[0]["pointer"]) == (1, "/email")
    changed = importer.run("subscriptions", [running(current_period_end="2024-03-15T00:00:00Z")])
    assert importer.refused(changed)[0]["code"] == "already_imported"
    assert importer.subscriptions()[0].current_period_end == at("2024-02-15")
    assert importer.subscriptions()[0].amount == 5000


ROWS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a trial": (
        running(
            status="trialing",
            started_at="2024-01-25T00:00:00Z",
            current_period_end="",
            trial_end="2024-02-08T00:00:00Z",
        ),
        {"status": "trialing", "trial_end": at("2024-02-08"), "next_charge_at": at("2024-02-08"), "trial_days": 14},
    ),
    "a trial that is over": (
        running(trial_end="2023-07-15T00:00:00Z"),
        {"status": "active", "trial_end": at("2023-07-15"), "next_charge_at": at("2024-02-15")},
    ),
    "to be canceled": (
        running(cancel_at_period_end="true"),
        {"status": "active", "cancel_at_period_end": True, "next_charge_at": None, "next_action_at": at("2024-02-15")},
    ),
    "over": (
        running(status="canceled", ended_at="2023-12-15T00:00:00Z", current_period_end=""),
        {"status": "canceled", "ended_at": at("2023-12-15"), "has_access": False, "next_action_at": None},
    ),
    "another price": (running(amount="100"), {"amount": 100, "next_charge_amount": 100}),
    "an anchor": (
        running(anchor_at="2023-01-15T00:00:00Z"),
        {"anchor_at": at("2023-01-15"), "period_number": 12, "created_at": at("2023-06-15")},
    ),
    "a day that the beginning does not tell": (
        running(started_at="2023-06-03T12:00:00Z"),
        {"anchor_at": at("2024-02-15"), "period_number": -1, "current_period_start": at("2024-01-15")},
    ),
    "paid for a long time ahead": (
        running(current_period_end="2025-06-15T00:00:00Z"),
        {"current_period_end": at("2025-06-15"), "current_period_start": at("2023-06-15"), "period_number": 23},
    ),
    "without a method": (running(payment_method=""), {"payment_method_id": None, "uses_default_method": False}),
}


def test_dates_and_states_are_kept(club: Club, importer: Importer) -> None:
    assert importer.counts("packages", [GOLD]) == (1, 0, 0, 0)
    somebody = {"customer_external_id": "", "name": "Somebody"}
    rows = [
        row | somebody | {"external_id": name, "email": f"s{number}@example.com"}
        for number, (name, (row, _)) in enumerate(ROWS.items())
    ]
    assert importer.counts("subscriptions", rows) == (len(ROWS), 0, 0, 0)
    found = dict(zip(ROWS, importer.subscriptions(), strict=True))
    for name, (_, expected) in ROWS.items():
        assert {column: getattr(found[name], column) for column in expected} == expected, name
    assert club.make.rows("select from payments") == []


def test_an_end_of_a_month_is_kept_by_its_day(club: Club, importer: Importer) -> None:
    """From the 31st to the 29th of February and back, though nothing says when it began to be counted."""
    bring(importer, running(started_at="2023-06-03T12:00:00Z", current_period_end="2024-03-31T00:00:00Z"))
    club.advance("2024-07-01")
    starts = club.make.rows("select starts_at from subscription_periods order by starts_at")
    assert [row.starts_at for row in starts] == [at("2024-03-31"), at("2024-04-30"), at("2024-05-31"), at("2024-06-30")]


def test_nobody_is_reminded_of_a_renewal_that_is_near(importer: Importer, mailbox: Mailbox) -> None:
    """Whoever kept the subscription before has told them; of the next one they are told."""
    assert importer.counts("packages", [GOLD | {"interval": "year"}]) == (1, 0, 0, 0)
    assert importer.counts("customers", [ADA]) == (1, 0, 0, 0)
    assert importer.counts("subscriptions", [running(started_at="2023-02-15T00:00:00Z")]) == (1, 0, 0, 0)
    importer.club.advance("2024-02-14")
    assert mailbox.mails() == []


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a period that is over": (running(current_period_end="2024-01-30T00:00:00Z"), "range", "/current_period_end"),
    "no end of the period": (running(current_period_end=""), "required", "/current_period_end"),
    "a beginning that is to come": (running(started_at="2024-02-02T00:00:00Z"), "range", "/started_at"),
    "a period that the anchor has not": (running(anchor_at="2023-01-14T00:00:00Z"), "range", "/current_period_end"),
    "a trial without an end": (running(status="trialing"), "required", "/trial_end"),
    "a cancellation without a time": (running(status="canceled"), "required", "/ended_at"),
    "an end of what runs": (running(ended_at="2024-01-01T00:00:00Z"), "conflict", "/ended_at"),
    "two customers": (running(email="ada@example.com"), "required", "/customer_external_id"),
    "no customer": (running(customer_external_id=""), "required", "/customer_external_id"),
    "an unknown customer": (running(customer_external_id="C-2"), "not_found", "/customer_external_id"),
    "an unknown package": (running(package_external_id="silver"), "not_found", "/package_external_id"),
    "no package": (running(package_external_id=""), "required", "/package_external_id"),
    "another store's package": (
        running(package_external_id="", package_id="019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"),
        "not_found",
        "/package_id",
    ),
    "a status that is none": (running(status="unpaid"), "choice", "/status"),
    "an amount that is none": (running(amount="19.00"), "type", "/amount"),
    "a switch that is none": (running(cancel_at_period_end="yes"), "type", "/cancel_at_period_end"),
    "a time without an offset": (running(started_at="2023-06-15 00:00"), "format", "/started_at"),
    "a card that is none": (running(payment_method="4242424242424242"), "pattern", "/payment_method"),
}


def test_each_refused_row_is_told_of_and_costs_no_other(club: Club, importer: Importer) -> None:
    importer.counts("packages", [GOLD])
    importer.counts("customers", [ADA])
    rows = [row | {"external_id": f"R-{number}"} for number, (row, _, _) in enumerate(REFUSED.values())]
    one = importer.run("subscriptions", [*rows, running(), running(external_id="S-2")])
    told = importer.refused(one)
    assert (one["created"], one["refused"]) == (1, len(REFUSED) + 1)
    assert [(line["code"], line["pointer"]) for line in told[:-1]] == [fault[1:] for fault in REFUSED.values()]
    assert [int(line["line"]) for line in told] == [*range(2, len(REFUSED) + 2), len(REFUSED) + 3]
    assert [line["external_id"] for line in told] == [*(row["external_id"] for row in rows), "S-2"]
    assert told[-1]["code"] == "already_subscribed"
    details = [line["detail"] for line in told]
    assert all(details)
    # In a file of text, "expected int, got str" would say nothing.
    assert not [detail for detail in details if "got str" in detail]
    assert {"#/amount: must be a whole number, such as 1900", "#/cancel_at_period_end: must be true or false"} <= {
        *details
    }


def test_people_are_found_by_their_address_in_whichever_spelling(club: Club, importer: Importer) -> None:
    user = club.make.user(email="Grace@bücher.example", email_normal="grace@xn--bcher-kva.example")
    importer.counts("packages", [GOLD])
    row = running(customer_external_id="", email="GRACE@xn--bcher-kva.example", name="G. Hopper")
    assert importer.counts("subscriptions", [row]) == (1, 0, 0, 0)
    assert importer.subscriptions()[0].user_id == user.id


def test_of_an_account_that_there_is_nothing_is_told_and_nothing_changed(club: Club, importer: Importer) -> None:
    """The store is shown what it has sent; until they come themselves. Their card is not charged for it."""
    member = club.member(name="Grace Hopper", email="grace@example.com")
    club.make.address(member.user, is_default=True)
    before = club.make.rows("select * from users where id = %(id)s", {"id": member.user.id})
    importer.counts("packages", [GOLD])
    row = running(customer_external_id="", payment_method="", email="Grace@example.com", name="Gracie")
    assert importer.counts("subscriptions", [row]) == (1, 0, 0, 0)
    assert club.make.rows("select * from users where id = %(id)s", {"id": member.user.id}) == before
    (shown,) = club.get(f"{club.path}/customers")["data"]
    assert (shown["name"], shown["email"]) == ("Gracie", "Grace@example.com")
    club.advance("2024-02-16")
    (one,) = importer.subscriptions()
    assert (one.status, member.charged) == ("past_due", [])
    # Another default is no consent either, and nothing that the store is told of.
    member.card("sandbox_ok")
    club.work.drain()
    assert (importer.subscriptions()[0].status, member.charged) == ("past_due", [])
    assert "payment_method.updated" not in club.events()
    path = f"{club.path}/subscriptions/{one.id}"
    # That they choose a method is their consent.
    assert member.change(path, payment_method=None)["status"] == "active"
    assert member.charged == [5000]
    (invoice,) = [row.buyer for row in club.make.rows("select buyer from invoices where status = 'paid'")]
    assert invoice["name"] == "Grace Hopper"
    assert invoice["address"]
    (shown,) = club.get(f"{club.path}/customers")["data"]
    assert (shown["name"], shown["email"]) == ("Grace Hopper", "grace@example.com")


def test_nobody_who_was_only_imported_is_written_to_in_the_stores_words(
    club: Club, importer: Importer, mailbox: Mailbox
) -> None:
    """A store can import anybody whose address it knows, with a package that is called whatever it likes."""
    member = club.member(name="Grace Hopper", email="grace@example.com")
    importer.counts("packages", [GOLD | {"name": "Call 0900 1234"}])
    row = running(customer_external_id="", payment_method="", email="grace@example.com", name="Gracie")
    assert importer.counts("subscriptions", [row]) == (1, 0, 0, 0)
    path = f"{club.path}/subscriptions/{importer.subscriptions()[0].id}"
    # Who only ends it has not come: the store learns no name.
    member.change(path, cancel_at_period_end=True)
    member.change(path, cancel_at_period_end=False)
    (shown,) = club.get(f"{club.path}/customers")["data"]
    assert shown["name"] == "Gracie"
    club.advance("2024-02-16")
    mails = mailbox.mails()
    assert {str(mail["Subject"]) for mail in mails} == {"Your membership is canceled", "A payment has failed"}
    typed = ("0900", "Club", "Grac")
    assert not [word for word in typed for mail in mails if word in mail.as_string().replace("grace@example.com", "")]
    member.change(path, payment_method=None)
    paid = mailbox.mails()[-1]
    assert paid["Subject"] == "Your payment to Club: 50.00 EUR"
    assert "0900" in paid.as_string()


def test_whoever_has_no_account_takes_theirs_over_by_a_new_password(club: Club, importer: Importer) -> None:
    bring(importer, running())
    (user,) = club.make.rows("select * from users where email_normal = 'ada@example.com'")
    assert (user.email, user.name, user.email_verified_at) == ("Ada@Example.com", "Ada Lovelace", None)
    body = {"email": "ada@example.com", "password": "a guess that is long enough"}
    assert club.client.post("/v1/tokens", json=body).status_code == 401
    code = club.make.code(user, "reset-password")
    answer = club.client.post(
        "/v1/password-resets/confirmations", json={"code": code, "password": "correct horse battery staple"}
    )
    assert answer.status_code == 204, answer.text
    answer = club.client.post("/v1/tokens", json=body | {"password": "correct horse battery staple"})
    assert answer.status_code == 201
    headers = {"Authorization": f"Bearer {(answer.json or {})['token']}"}
    mine = club.client.get("/v1/me/subscriptions", headers=headers).json or {}
    assert [one["status"] for one in mine["data"]] == ["active"]


def test_the_file_of_refusals_holds_no_formulas(club: Club, importer: Importer) -> None:
    rows = b'external_id,email,name\n"=HYPERLINK(""http://evil.example"")",x,=1+1\n+cmd,"a@example.com;=1",Ada\n'
    one = importer.run("customers", rows)
    answer = club.client.get(one["links"]["file"], headers=club.owner_auth)
    text = answer.get_data(as_text=True)
    assert one["refused"] == 2
    assert "\"'=HYPERLINK(" in text
    assert "\"'+cmd" in text
    assert text.count("\r\n") == 3


def test_history_counts_in_metrics_as_what_came_with_the_import(club: Club, importer: Importer) -> None:
    bring(importer, running())
    found = club.get(f"{club.path}/metrics?from=2024-01-01T00:00:00Z&to=2024-02-01T00:00:00Z&interval=month")
    (period,) = found["data"]
    assert (period["mrr"], period["active"], period["new"], period["net"]) == (5000, 1, 1, 0)
