"""Receipts as records: issued once, numbered in their store, kept as they were sent, and sent again as they are."""

import re
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from types import SimpleNamespace as Row
from typing import Any

import psycopg2
import pytest
from flask import Flask

from dues.ids import new_id
from dues.payments.receipts import issue_receipt, issue_refund
from tests.factory import Factory
from tests.payments.conftest import Shop, Work
from tests.pdf_reader import PDF
from tests.rows.tables import earlier
from tests.servers import Mailbox


def documents(make: Factory) -> list[Row]:
    """Without the invoices, which have tests of their own."""
    return make.rows("select * from documents where kind in ('receipt', 'refund') order by created_at, number")


def attached(mail: EmailMessage, kind: str = "re") -> bytes:
    """The document whose name begins with this: a receipt, or that of a refund."""
    (file,) = [part for part in mail.iter_attachments() if str(part.get_filename()).startswith(kind)]
    content: bytes = file.get_content()
    return content


def change_store(shop: Shop, **fields: Any) -> None:
    answer = shop.client.patch(f"/v1/stores/{shop.store.id}", json=fields, headers=shop.owner_auth)
    assert answer.status_code == 200, answer.text


SELLER = {
    "legal_name": "Kestrel e.V.",
    "address": {"line1": "Felsgasse 12", "postal_code": "10115", "city": "Berlin"},
    "country": "DE",
    "tax_id": "DE123456789",
    "contact_email": "hello@kestrel.example",
    "website": "https://kestrel.example",
    "invoice_prefix": "KES",
    "invoice_note": "Exempt from VAT.",
}


@pytest.mark.typeset
def test_a_receipt_is_kept_as_it_was_sent(shop: Shop, work: Work, mailbox: Mailbox, make: Factory) -> None:
    change_store(shop, **SELLER)
    make.address(shop.customer, is_default=True, line1="Musterstraße 1")
    payment = shop.pay(amount=1500, currency="EUR", description="Donation")
    work.drain()
    (mail,) = mailbox.mails()
    file = shop.client.get(f"{shop.path}/{payment['id']}/receipt", headers=shop.auth)
    assert (file.status_code, file.mimetype) == (200, "application/pdf")
    assert file.headers["Content-Disposition"] == 'attachment; filename="receipt-KES-R-000001.pdf"'
    assert file.data == attached(mail)
    text = PDF(file.data).text()
    for said in ("Kestrel e.V.", "10115 Berlin", "Tax ID DE123456789", "Musterstraße 1", "Sandbox card", "Donation"):
        assert said in text
    assert mail["From"] == f"{shop.store.name} <no-reply@dues.invalid>"
    assert mail["Reply-To"] == "hello@kestrel.example"
    # Everything changes; what was issued does not.
    change_store(shop, name="Osprey", legal_name=None, address=None, country=None, invoice_prefix="OSP")
    make.rows("update users set name = 'Somebody Else' where id = %(id)s", {"id": shop.customer.id})
    again = shop.client.get(f"{shop.path}/{payment['id']}/receipt", headers=shop.auth)
    assert again.data == file.data
    assert again.headers["ETag"] == file.headers["ETag"]


@pytest.mark.typeset
def test_a_receipt_is_in_the_stores_language_with_its_tax_and_to_a_company(
    shop: Shop, work: Work, make: Factory
) -> None:
    change_store(shop, **SELLER, language="de", tax_rate=190_000)
    address = {"line1": "Musterstraße 1", "company": "Lovelace GmbH", "tax_id": "DE136695976"}
    make.address(shop.customer, is_default=True, **address)
    payment = shop.pay(amount=1500, currency="EUR")
    work.drain()
    paper = PDF(shop.client.get(f"{shop.path}/{payment['id']}/receipt", headers=shop.auth).data)
    for said in (
        "15,00 EUR bezahlt am ",
        "Deutschland",
        "Lovelace GmbH Musterstraße 1",
        "USt-IdNr./Steuernr. DE136695976",
        "Karte über Sandbox",
        "Zahlung 15,00 EUR",
        "Netto 12,61 EUR",
        "MwSt. 19 % 2,39 EUR",
        "Insgesamt bezahlt 15,00 EUR",
    ):
        assert said in paper.text(), paper.text()
    [invoice] = shop.get(f"/v1/stores/{shop.store.id}/invoices")["data"]
    figures = [invoice[name] for name in ("subtotal", "tax", "tax_rate", "total", "amount_due")]
    assert figures == [1261, 239, 190_000, 1500, 1500]
    said = PDF(shop.client.get(invoice["links"]["file"], headers=shop.auth).data).text()
    assert "Rechnung an" in said
    assert "Zahlung 1 15,00 EUR" in said
    assert "USt-IdNr./Steuernr. DE136695976" in said
    assert "Netto 12,61 EUR MwSt. 19 % 2,39 EUR Gesamt 15,00 EUR" in said


def test_a_job_that_runs_twice_issues_once(app: Flask, make: Factory) -> None:
    payment = make.payment(make.store(), gateway_ref="ref_1")
    with app.app_context():
        first = issue_receipt(payment.store_id, payment.id, new_id())
        make.rows("update users set name = 'Somebody Else'")
        again = issue_receipt(payment.store_id, payment.id, new_id())
    assert (first.document.number, first.file) == (again.document.number, again.file)
    (kept,) = documents(make)
    assert bytes(kept.content) == first.file
    assert (kept.number, kept.bytes) == ("R-000001", len(first.file))


def test_a_death_between_the_number_and_the_file_changes_neither(
    app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = make.payment(make.store())

    class Dies(Exception):
        pass

    def die(*_: object, **__: object) -> bytes:
        raise Dies

    with app.app_context():
        monkeypatch.setattr("dues.payments.receipt.typeset", die)
        with pytest.raises(Dies):
            issue_receipt(payment.store_id, payment.id, new_id())
        monkeypatch.undo()
        (begun,) = documents(make)
        assert begun.content is None
        make.rows("update stores set name = 'Renamed'")
        issued = issue_receipt(payment.store_id, payment.id, new_id())
    assert issued.document.number == begun.number == "R-000001"
    assert "Renamed" not in PDF(issued.file).text()


def test_many_at_once_are_numbered_without_gap_or_double(app: Flask, make: Factory) -> None:
    store = make.store()
    payments = [make.payment(store) for _ in range(6)]

    def issue(payment: Row) -> tuple[str, bytes]:
        with app.app_context():
            issued = issue_receipt(payment.store_id, payment.id, new_id())
            return issued.document.number, issued.file

    with ThreadPoolExecutor(6) as pool:
        # Each twice, as when a job is delivered twice.
        found = list(pool.map(issue, payments * 2))
    assert found[:6] == found[6:]
    assert sorted(number for number, _ in found[:6]) == [f"R-{n:06d}" for n in range(1, 7)]


def test_stores_count_for_themselves(app: Flask, make: Factory) -> None:
    with app.app_context():
        numbers = [
            issue_receipt(payment.store_id, payment.id, new_id()).document.number
            for payment in (make.payment(make.store()), make.payment(make.store()))
        ]
    assert numbers == ["R-000001", "R-000001"]


@pytest.mark.parametrize(
    "change",
    ["update documents set number = 'R-9'", "update documents set content = '\\x00'", "delete from documents"],
)
def test_the_database_keeps_what_was_issued(app: Flask, make: Factory, change: str) -> None:
    payment = make.payment(make.store())
    with app.app_context():
        issue_receipt(payment.store_id, payment.id, new_id())
    before = documents(make)
    with pytest.raises(psycopg2.IntegrityError, match="kept as it is"):
        make.rows(change)
    assert documents(make) == before


@pytest.mark.typeset
def test_refunds_have_documents_of_their_own_and_the_receipt_stays(
    shop: Shop, work: Work, mailbox: Mailbox, make: Factory
) -> None:
    payment = shop.pay(amount=1000, currency="EUR")
    work.drain()
    receipt = shop.client.get(f"{shop.path}/{payment['id']}/receipt", headers=shop.auth).data
    refunds = [
        shop.refund(payment["id"], amount=amount, reason=reason).json
        for amount, reason in ((300, "Half-way"), (700, "The rest"))
    ]
    # Both are made before either is mailed: each document speaks of its own.
    work.drain()
    assert [row.number for row in documents(make)] == ["R-000001", "RF-000001", "RF-000002"]
    said = []
    for refund in refunds:
        assert refund
        shown = shop.get(f"{shop.path}/{payment['id']}/refunds/{refund['id']}")
        file = shop.client.get(shown["links"]["receipt"], headers=shop.auth)
        assert file.status_code == 200
        said.append(PDF(file.data).text())
    assert "Reason Half-way" in said[0]
    assert "This refund -3.00 EUR Paid after refunds 7.00 EUR" in said[0]
    assert "Refunded before -3.00 EUR This refund -7.00 EUR Paid after refunds 0.00 EUR" in said[1]
    assert all("For receipt R-000001 of" in text for text in said)
    assert shop.client.get(f"{shop.path}/{payment['id']}/receipt", headers=shop.auth).data == receipt
    assert [attached(mail)[:5] for mail in mailbox.mails()] == [b"%PDF-"] * 3


def _taxes(text: str) -> list[str]:
    return re.findall(r"(?:Net|Tax [0-9.]+ %) -?[0-9.]+ EUR", text)


@pytest.mark.typeset
def test_the_tax_of_a_sale_stays_what_it_was_and_its_documents_agree(shop: Shop, work: Work, mailbox: Mailbox) -> None:
    """A tax rate changes on the first of a month; what was sold before is refunded after."""
    change_store(shop, tax_rate=190_000)
    payment = shop.pay(amount=8359, currency="EUR")
    work.drain()
    change_store(shop, tax_rate=210_000)
    # Of the first, 3.084 would be tax by its own sum, and 3.086 as a part of the whole.
    for amount in (1932, 1000, 5427):
        assert shop.refund(payment["id"], amount=amount).status_code == 202
    work.drain()
    paid, *refunds = mailbox.mails()
    receipt = _taxes(PDF(attached(paid)).text())
    assert receipt == ["Net 70.24 EUR", "Tax 19 % 13.35 EUR"]
    assert _taxes(PDF(attached(paid, "invoice")).text()) == receipt
    said = [_taxes(PDF(attached(mail)).text()) for mail in refunds]
    credited = [_taxes(PDF(attached(mail, "credit-note")).text()) for mail in refunds]
    assert [[text.replace("-", "") for text in texts] for texts in said] == credited
    sums = [sum(round(100 * float(texts[i].split()[-2])) for texts in said) for i in (0, 1)]
    assert sums == [-7024, -1335]


def test_a_receipt_has_the_tax_of_its_invoice(app: Flask, make: Factory) -> None:
    """The invoice was drawn up for a renewal, and paid weeks later."""
    store, payer = make.store(tax_rate=210_000), make.user()
    payment = make.payment(store, payer, amount=8359)
    make.invoice(store, payer, payment_id=payment.id, tax_rate=190_000)
    with app.app_context():
        text = PDF(issue_receipt(payment.store_id, payment.id, new_id()).file).text()
    assert _taxes(text) == ["Net 70.24 EUR", "Tax 19 % 13.35 EUR"]


def test_a_refund_before_its_receipt_gives_that_a_number(app: Flask, make: Factory) -> None:
    payment = make.payment(make.store())
    refund = make.refund(payment, amount=500)
    with app.app_context():
        given = issue_refund(payment.store_id, payment.id, refund.id, new_id())
        receipt = issue_receipt(payment.store_id, payment.id, new_id())
    assert given.receipt.refund
    assert given.receipt.refund.receipt_number == receipt.document.number == "R-000001"


def test_a_receipt_is_sent_again_as_it_is(shop: Shop, work: Work, mailbox: Mailbox) -> None:
    payment = shop.pay()
    work.drain()
    change_store(shop, name="Renamed")
    deliveries = f"{shop.path}/{payment['id']}/receipt/deliveries"
    accepted = shop.client.post(deliveries, headers=shop.auth)
    assert accepted.status_code == 202
    assert accepted.json
    assert accepted.json["delivery_status"] == "pending"
    work.drain()
    assert shop.get(accepted.headers["Location"])["status"] == "succeeded"
    first, second = mailbox.mails()
    assert attached(first) == attached(second)
    assert second["Subject"] == f"Your receipt from {shop.store.name}: 15.00 EUR"
    assert shop.get(accepted.json["links"]["self"])["delivery_status"] == "sent"


@pytest.mark.usefixtures("mailbox")
def test_it_is_sent_five_times_a_day(shop: Shop, work: Work, make: Factory) -> None:
    payment = shop.pay()
    work.drain()
    deliveries = f"{shop.path}/{payment['id']}/receipt/deliveries"
    answers = [shop.client.post(deliveries, headers=shop.auth) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202] * 4 + [429]
    assert 86_000 < int(answers[-1].headers["Retry-After"]) <= 86_400
    make.rows(f"update document_deliveries set {earlier('created_at', 1)}")
    assert shop.client.post(deliveries, headers=shop.auth).status_code == 202


def test_a_receipt_that_the_mail_server_refuses_is_shown_to_the_store(
    shop: Shop, work: Work, mailbox: Mailbox, make: Factory
) -> None:
    mailbox.behave(next=[{"at": "rcpt", "do": "550"}])
    payment = shop.pay()
    work.drain()
    assert mailbox.mails() == []
    listed = shop.get(f"/v1/stores/{shop.store.id}/documents", shop.owner_auth)["data"]
    statuses = {each["number"]: each["delivery_status"] for each in listed}
    assert statuses == {"R-000001": "rejected", "INV-000001": "rejected"}
    events = make.rows("select data from events where type = 'document.delivery_failed'")
    assert [event.data["payment_id"] for event in events] == [payment["id"]] * 2
    # It was issued all the same.
    assert shop.client.get(f"{shop.path}/{payment['id']}/receipt", headers=shop.auth).status_code == 200


def test_owners_are_told_of_new_payments_where_the_store_wants_it(
    shop: Shop, work: Work, mailbox: Mailbox, make: Factory
) -> None:
    second = make.staff(shop.store, role="owner")
    make.staff(shop.store, role="manager")
    shop.pay()
    work.drain()
    assert len(mailbox.mails()) == 1
    change_store(shop, notify_new_payment=True)
    shop.pay(amount=2500, currency="EUR", description="Gold")
    work.drain()
    told = [mail for mail in mailbox.mails() if mail["Subject"].startswith("New payment")]
    owners = {
        row.email
        for row in make.rows(
            "select email from users where id = any(%(ids)s)", {"ids": [shop.owner.id, second.user_id]}
        )
    }
    assert {mail["Delivered-To"] for mail in told} == owners
    assert {mail["Subject"] for mail in told} == {f"New payment to {shop.store.name}: 25.00 EUR"}


def test_a_payer_who_has_not_acted_is_reminded(shop: Shop, work: Work, mailbox: Mailbox) -> None:
    shop.pay("sandbox_action")
    work.drain()
    assert mailbox.mails() == []
    work.hurry()
    (mail,) = mailbox.mails()
    assert mail["Subject"] == f"Your payment to {shop.store.name} waits for you"


def test_an_address_that_nobody_proved_gets_no_names_and_no_receipt(
    shop: Shop, work: Work, mailbox: Mailbox, make: Factory
) -> None:
    make.rows("update users set email_verified_at = null where id = %(id)s", {"id": shop.customer.id})
    payment = shop.pay(amount=1500, currency="EUR", description="Log in at evil.example")
    work.drain()
    (mail,) = mailbox.mails()
    assert mail["Subject"] == "Your payment of 15.00 EUR"
    assert mail["From"] == "Dues <no-reply@dues.invalid>"
    whole = mail.as_string()
    assert "evil" not in whole
    assert shop.store.name not in whole
    assert not list(mail.iter_attachments())
    # The receipt is issued, and comes once the address is proved.
    make.rows("update users set email_verified_at = now() where id = %(id)s", {"id": shop.customer.id})
    assert shop.client.post(f"{shop.path}/{payment['id']}/receipt/deliveries", headers=shop.auth).status_code == 202
    work.drain()
    assert attached(mailbox.mails()[-1]).startswith(b"%PDF-")


def test_an_address_that_nobody_proved_is_not_flooded(shop: Shop, work: Work, mailbox: Mailbox, make: Factory) -> None:
    make.rows("update users set email_verified_at = null where id = %(id)s", {"id": shop.customer.id})
    payments = [shop.pay("sandbox_declined")["id"] for _ in range(22)]
    work.drain()
    assert len(mailbox.mails()) == 20
    # That is said of the jobs, and of no payment.
    refused = make.rows("select error from jobs where kind = 'payment.notice' and status = 'failed'")
    assert [job.error["type"] for job in refused] == ["/problems/too_many_attempts"] * 2
    assert {shop.payment(payment)["status"] for payment in payments} == {"failed"}


def test_a_stored_card_is_named_by_its_last_digits(app: Flask, make: Factory) -> None:
    user = make.user()
    method = make.payment_method(user)
    payment = make.payment(make.store(), user, payment_method_id=method.id)
    with app.app_context():
        receipt = issue_receipt(payment.store_id, payment.id, new_id()).receipt
    assert receipt.method == f"{method.brand.title()} •••• {method.last4}"
