"""The books: what is booked for what, what PostgreSQL refuses, and that the audit finds what is wrong."""

import itertools
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from flask import Flask

from dues.billing import audit as audit_module
from dues.billing.audit import audit
from dues.billing.books import open_books
from dues.ids import new_id
from dues.payments.gateway import Charge
from dues.payments.gateways import all_gateways
from dues.payments.sandbox import Sandbox
from dues.postgres import transaction
from tests.billing.conftest import Club, refusal
from tests.factory import Factory


@pytest.fixture
def books(club: Club) -> Club:
    """With a paid invoice, a refund and a balance; what is wrong with the books at the end is mended."""
    member = club.member()
    member.subscribe(club.package())
    member.given(300)
    return club


def entries(club: Club, source: str) -> dict[str, int]:
    rows = club.make.rows(
        "select e.account, e.amount from ledger_entries e"
        " join ledger_transactions t on t.store_id = e.store_id and t.id = e.transaction_id"
        " where t.source like %(source)s",
        {"source": f"{source}:%"},
    )
    return {row.account: row.amount for row in rows}


def test_what_is_booked_for_a_charge_a_refund_and_a_balance(make_club: Any) -> None:
    club = make_club("2025-06-01")
    member = club.member()
    path = member.subscribe(club.package(10000))
    assert entries(club, "invoice") == {"gateway:sandbox": 10000, "revenue": -10000}
    club.set("2025-06-16")
    member.change(path, package_id=str(club.package(4000).id), when="now")
    assert entries(club, "invoice")["balance"] == -3000
    club.client.delete(path, json={"refund": "unused"}, headers=club.owner_auth)
    club.work.drain()
    assert entries(club, "refund") == {"gateway:sandbox": -2000, "revenue": 2000}


def test_tax_that_prices_include_is_booked_apart(make_club: Any) -> None:
    club = make_club("2025-06-01")
    club.client.patch(club.path, json={"tax_rate": 190_000}, headers=club.owner_auth)
    member = club.member()
    path = member.subscribe(club.package(10000))
    assert entries(club, "invoice") == {"gateway:sandbox": 10000, "revenue": -8403, "tax": -1597}
    club.set("2025-06-16")
    change = {"package_id": str(club.package(4000).id), "when": "now"}
    shown = member.preview(path, **change)
    assert (shown["subtotal"], shown["tax"], shown["due"]) == (-2521, -479, 0)
    member.change(path, **change)
    assert entries(club, "invoice") | {"gateway:sandbox": 0} == {
        "gateway:sandbox": 0,
        "balance": -3000,
        "revenue": 2521,
        "tax": 479,
    }
    club.client.delete(path, json={"refund": "unused"}, headers=club.owner_auth)
    club.work.drain()
    assert entries(club, "refund") == {"gateway:sandbox": -2000, "revenue": 1681, "tax": 319}
    with club.app.app_context():
        assert audit() == []


def test_postgresql_refuses_to_change_what_is_written(books: Club) -> None:
    for statement in (
        "update ledger_entries set amount = amount * 2",
        "update ledger_transactions set source = 'x'",
        "delete from ledger_entries",
        "delete from ledger_transactions",
        "truncate ledger_entries",
        "truncate ledger_transactions cascade",
        "update credits set amount = 1",
        "delete from credits",
        "update subscription_changes set actor_id = null",
        "delete from subscription_changes",
    ):
        assert "only ever added to" in refusal(books.make, statement), statement


def test_postgresql_refuses_what_does_not_add_up(books: Club) -> None:
    add = (
        "with t as (insert into ledger_transactions(store_id, id, kind, source, created_at)"
        " values (%(store)s, gen_random_uuid(), 'invoice', 'by hand', now()) returning *)"
        " insert into ledger_entries select store_id, id, n, 'revenue', a, c from t,"
        " unnest(%(amounts)s::bigint[], %(currencies)s::text[]) with ordinality x(a, c, n)"
    )
    store = {"store": books.store.id}
    for amounts, currencies in (([1], ["EUR"]), ([1, -2], ["EUR", "EUR"]), ([5, -5], ["EUR", "USD"])):
        with pytest.raises(psycopg2.errors.CheckViolation, match="do not add up"):
            books.make.rows(add, store | {"amounts": amounts, "currencies": currencies})
    more = (
        "insert into ledger_entries select store_id, id, 9, 'revenue', 1, 'EUR' from ledger_transactions"
        " where store_id = %(store)s limit 1"
    )
    with pytest.raises(psycopg2.errors.CheckViolation, match="do not add up"):
        books.make.rows(more, store)


def test_the_same_is_not_booked_twice(books: Club) -> None:
    booked = vars(books.make.rows("select * from ledger_transactions limit 1")[0])
    with pytest.raises(psycopg2.errors.UniqueViolation):
        books.make.insert("ledger_transactions", booked | {"id": new_id()})


def test_what_was_paid_before_there_were_books_is_in_them_and_can_be_given_back(club: Club) -> None:
    make, member = club.make, club.member()
    payment = make.payment(club.store, member.user, amount=1000)
    make.rows(
        "insert into sandbox_gateway.operations(key, kind, amount, currency, method, outcome, reference)"
        " values (%(id)s, 'charge', 1000, 'EUR', 'sandbox_ok', 'succeeded', 'x')",
        {"id": str(payment.id)},
    )
    with club.app.app_context():
        assert "was charged, and the books have 0" in audit()[0]
        for _ in range(2):
            with transaction():
                open_books()
        assert audit() == []
    assert entries(club, "payment") == {"gateway:sandbox": 1000, "earlier": -1000}
    headers = {**club.owner_auth, "Idempotency-Key": "r1"}
    club.client.post(f"{club.path}/payments/{payment.id}/refunds", json={"amount": 400}, headers=headers)
    club.work.drain()
    assert entries(club, "refund") == {"gateway:sandbox": -400, "earlier": 400}


# What somebody does to the tables behind the triggers' backs, what the audit says of it, and how it is undone.
FORGERIES = {
    "a payment that was never charged": (
        "update payments set amount = amount + 1 where subscription_id is not null",
        "update payments set amount = amount - 1 where subscription_id is not null",
        ["was charged, and the books have", "by its payments", "were charged for it", "under"],
    ),
    "a charge that we do not know of": (
        "insert into sandbox_gateway.operations(key, kind, amount, currency, method, outcome, reference)"
        " values ('stray', 'charge', 5, 'EUR', 'x', 'succeeded', 'x')",
        "delete from sandbox_gateway.operations where key = 'stray'",
        ["sandbox has made the charge stray of 5 EUR, and we know of none"],
    ),
    "a charge that the gateway does not know of": (
        "update sandbox_gateway.operations set outcome = 'declined' where amount = 5000",
        "update sandbox_gateway.operations set outcome = 'succeeded' where amount = 5000",
        ["of which sandbox knows nothing"],
    ),
    "a balance out of thin air": (
        "insert into credits(store_id, id, user_id, currency, amount, kind, created_at)"
        " select store_id, '00000000-0000-0000-0000-000000000001', user_id, 'EUR', 7, 'credit_note', now()"
        " from customers limit 1",
        "delete from credits where amount = 7",
        ["has a balance of"],
    ),
    "a number that is missing": (
        "update number_counters set last = last + 1 where series = 'invoices'",
        "update number_counters set last = last - 1 where series = 'invoices'",
        ["final invoices, and the last number is"],
    ),
    "a line that says something else": (
        "update invoice_lines set amount = amount + 1",
        "update invoice_lines set amount = amount - 1",
        ["add up to"],
    ),
    "a refund that was never made": (
        "update payments set refunded_amount = 1, status = 'partially_refunded' where subscription_id is not null",
        "update payments set refunded_amount = 0, status = 'succeeded' where subscription_id is not null",
        ["were given back, and its refunds"],
    ),
    "a subscription that owes what is paid": (
        "update subscriptions set bill = jsonb_build_object('invoice_id', (select id from invoices limit 1))",
        "update subscriptions set bill = null",
        ["owes invoice"],
    ),
    "entries that are off": (
        "update ledger_entries set amount = amount + 1 where account = 'revenue'",
        "update ledger_entries set amount = amount - 1 where account = 'revenue'",
        ["is off by", "has earned"],
    ),
    "a refund that is in no books": (
        "insert into refunds(store_id, id, payment_id, amount, currency, status)"
        " select store_id, '00000000-0000-0000-0000-000000000002', id, 3, currency, 'succeeded' from payments limit 1",
        "delete from refunds where amount = 3",
        ["was made, and the books have 0 at its gateway", "and its refunds"],
    ),
    "a dispute that is in no books": (
        "insert into disputes(store_id, id, payment_id, gateway_ref, amount, currency, reason, status, opened_at)"
        " select store_id, '00000000-0000-0000-0000-000000000003', id, 'x', 4, currency, 'fraudulent', 'open', now()"
        " from payments limit 1",
        "delete from disputes where amount = 4",
        ["as disputed by its disputes", "shows a dispute that is not there, and it is open"],
    ),
    "money that nobody owed": (
        "update ledger_entries set account = 'unapplied' where account = 'revenue'",
        "update ledger_entries set account = 'revenue' where account = 'unapplied'",
        ["that nobody owed it, and has refunded"],
    ),
    "an invoice that lost its number": (
        "update invoices set sequence = null, number = null where sequence = 2",
        "update invoices set sequence = 2, number = 'INV-000002' where issued_at is not null and number is null",
        ["has no number"],
    ),
    "a balance that was never taken": (
        "update invoices set balance_applied = 2, amount_due = amount_due - 2",
        "update invoices set balance_applied = 0, amount_due = amount_due + 2",
        ["took 2 from the balance, and the balance knows of 0"],
    ),
    "a credit that has no note": (
        "update invoices set credited = credited + 6",
        "update invoices set credited = credited - 6",
        ["says that 306 of it were credited, and its credit notes 300"],
    ),
    "a second charge": (
        "insert into payments select (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid(),"
        " 'description', 'again'))).* from payments p where invoice_id is not null",
        "delete from payments where description = 'again'",
        ["was charged for 2 times"],
    ),
    "a period that is paid twice": (
        "with renewed as (update invoices set kind = 'renewal' returning id)"
        " insert into subscription_periods select (jsonb_populate_record(p,"
        " jsonb_build_object('starts_at', p.starts_at + interval '1 hour', 'amount', 1))).*"
        " from subscription_periods p where exists (select from renewed)",
        "with back as (update invoices set kind = 'create' returning id)"
        " delete from subscription_periods where amount = 1",
        ["two periods of subscription"],
    ),
}


def behind_the_triggers(make: Factory, statement: str) -> None:
    guarded = ("credits", "invoice_lines", "invoices", "ledger_entries")
    for table in guarded:
        make.rows(f"alter table {table} disable trigger user")
    make.rows(statement)
    for table in guarded:
        make.rows(f"alter table {table} enable trigger user")


def test_the_audit_names_each_difference_and_each_of_its_checks_finds_one(
    books: Club, app: Flask, make: Factory, clean_books: Callable[[Flask], None]
) -> None:
    silent = set(audit_module._CHECKS)
    for forgery, (forge, mend, said) in FORGERIES.items():
        behind_the_triggers(make, forge)
        with app.app_context(), audit_module._reading() as cursor:
            told = {check: [row[0] for row in audit_module._rows(cursor, check)] for check in audit_module._CHECKS}
            gateways = [each for entry in all_gateways() for each in audit_module._compare(*entry)]
        found = [*itertools.chain(*told.values()), *gateways]
        for words in said:
            assert any(words in difference for difference in found), (forgery, words, found)
        silent -= {check for check in silent if told[check]}
        behind_the_triggers(make, mend)
        clean_books(app)
    assert silent == set()


def test_the_command_says_whether_the_books_are_clean_and_counts_the_differences(
    books: Club, app: Flask, make: Factory
) -> None:
    runner = app.test_cli_runner()
    assert runner.invoke(args=["audit"]).output == "the books are clean\n"
    forge, mend, _ = FORGERIES["entries that are off"]
    behind_the_triggers(make, forge)
    with app.app_context():
        found = audit()
    result = runner.invoke(args=["audit"])
    assert (result.exit_code, result.output.splitlines()) == (1, [*found, f"{len(found)} differences"])
    behind_the_triggers(make, mend)


@pytest.mark.one_server("the plan shows the first of its tasks alone")
def test_the_audit_is_not_slow_where_the_planner_knows_nothing(books: Club, app: Flask) -> None:
    """Two tables are never read by a nested loop: a thousand members without statistics took it twenty minutes."""
    with app.app_context(), audit_module._reading() as cursor:
        for check in audit_module._CHECKS:
            plan = "\n".join(row[0] for row in audit_module._rows(cursor, f"explain {check}"))
            assert "lateral" in check or "Nested Loop" not in plan, plan


def test_the_audit_of_a_store_at_work_takes_nothing_for_a_difference_that_a_job_is_at_work_on(
    books: Club, app: Flask
) -> None:
    """What was asked of the gateway, and is not written down yet."""
    member = books.member()
    order = {"amount": 700, "currency": "EUR", "payment_method": "sandbox_ok"}
    assert member.post(f"{books.path}/payments", order).status_code == 202
    (payment,) = member.payments()
    charge = Charge(key=str(payment.id), amount=700, currency="EUR", method="sandbox_ok")
    with app.app_context():
        assert Sandbox().charge(charge).outcome == "succeeded"
        assert audit() == []
    books.work.drain()
    headers = {**books.owner_auth, "Idempotency-Key": "under-way"}
    books.client.post(f"{books.path}/payments/{payment.id}/refunds", json={"amount": 200}, headers=headers)
    refund_id = books.make.value("select id::text from refunds where status = 'pending'")
    with app.app_context():
        assert Sandbox().refund(refund_id, charge, 200).outcome == "succeeded"
        assert audit() == []


def test_the_audit_takes_the_time_that_it_needs(app: Flask) -> None:
    """Statements of requests are bounded, and scan no table; a store of some years is more than they could read."""
    with app.app_context(), audit_module._reading() as cursor:
        for name, value in (("statement_timeout", "0"), ("enable_seqscan", "on"), ("transaction_read_only", "on")):
            cursor.execute(f"show {name}")
            assert cursor.fetchone() == (value,)
