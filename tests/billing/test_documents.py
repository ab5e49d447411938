"""Invoices and credit notes as documents: what stands on them, with which mail they come, and who may have them."""

from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask import Flask

from dues.billing.issuing import issue
from dues.ids import new_id
from dues.jobs import PermanentFailure
from tests.billing.conftest import Club, Member
from tests.factory import Factory
from tests.pdf_reader import PDF
from tests.servers import Mailbox

pytestmark = pytest.mark.typeset

SELLER = {
    "legal_name": "Kestrel e.V.",
    "address": {"line1": "Felsgasse 12", "postal_code": "10115", "city": "Berlin"},
    "country": "DE",
    "tax_id": "DE123456789",
    "invoice_prefix": "KES",
    "invoice_note": "Exempt from VAT under section 19.",
}


@pytest.fixture
def sold(make_club: Any, mailbox: Mailbox) -> tuple[Club, Member, str]:
    """A member of a club that says who it is, with a paid invoice."""
    club: Club = make_club("2024-01-31")
    answer = club.client.patch(club.path, json=SELLER, headers=club.owner_auth)
    assert answer.status_code == 200, answer.text
    member = club.member(name="Ada Lovelace", email="ada@example.com")
    club.make.address(member.user, is_default=True, line1="Musterstraße 1")
    return club, member, member.subscribe(club.package(5000, name="Gold"))


def text_of(member: Member, link: str) -> str:
    answer = member.club.client.get(link, headers=member.auth)
    assert (answer.status_code, answer.mimetype) == (200, "application/pdf"), answer.text
    return " ".join(PDF(answer.data).text().split())


def credit(club: Club, invoice: dict[str, Any], **body: Any) -> None:
    headers = {**club.owner_auth, "Idempotency-Key": new_id().hex}
    answer = club.client.post(invoice["links"]["credit_notes"], json=body, headers=headers)
    assert answer.status_code in (201, 202), answer.text
    club.work.drain()


def test_the_confirmation_brings_the_invoice_that_can_be_downloaded(
    sold: tuple[Club, Member, str], mailbox: Mailbox
) -> None:
    club, member, _ = sold
    (invoice,) = member.invoices()
    (mail,) = mailbox.mails()
    files = {part.get_filename(): part.get_content() for part in mail.iter_attachments()}
    assert files.keys() == {"invoice-KES-INV-000001.pdf", "receipt-KES-R-000001.pdf"}
    answer = club.client.get(invoice["links"]["file"], headers=member.auth)
    assert answer.data == files["invoice-KES-INV-000001.pdf"]
    assert answer.headers["Content-Disposition"] == 'attachment; filename="invoice-KES-INV-000001.pdf"'
    text = text_of(member, invoice["links"]["file"])
    for said in (
        "Kestrel e.V.",
        "10115 Berlin",
        "Tax ID DE123456789",
        "Exempt from VAT under section 19.",
        "Bill to Ada Lovelace Musterstraße 1",
        "ada@example.com",
        "Invoice number KES-INV-000001",
        "Gold",
        "31 January 2024 \N{EN DASH} 29 February 2024",
        "Visa •••• 4242",
        "Amount due 50.00 EUR",
        "Paid on 31 January 2024",
        "Test: no money was moved",
    ):
        assert said in text, said
    (listed,) = club.get(f"{club.path}/documents?kind=invoice")["data"]
    assert (listed["number"], listed["delivery_status"]) == ("KES-INV-000001", "sent")
    assert listed["links"]["file"] == invoice["links"]["file"]


def test_I11_a_document_stays_as_it_was_issued(sold: tuple[Club, Member, str]) -> None:
    club, member, _ = sold
    (invoice,) = member.invoices()
    before = club.client.get(invoice["links"]["file"], headers=member.auth)
    club.client.patch(club.path, json={"name": "Renamed", "legal_name": "Renamed"}, headers=club.owner_auth)
    club.make.rows("update users set name = 'Somebody Else' where id = %(id)s", {"id": member.user.id})
    with club.app.app_context():
        issue(club.store.id, "invoice", invoice["id"])
    after = club.client.get(invoice["links"]["file"], headers=member.auth)
    assert (after.data, after.headers["ETag"]) == (before.data, before.headers["ETag"])


def test_a_change_shows_what_was_credited_and_what_came_from_the_balance(sold: tuple[Club, Member, str]) -> None:
    club, member, path = sold
    member.given(1000)
    club.set("2024-02-15")
    member.change(path, package_id=str(club.package(10000, name="Platinum").id), when="now")
    text = text_of(member, member.invoices()[-1]["links"]["file"])
    for said in ("Unused time: Gold", "-24.14 EUR", "Platinum", "48.28 EUR", "From your balance -10.00 EUR"):
        assert said in text, said
    assert "Amount due 14.14 EUR" in text


def test_what_the_balance_pays_has_a_document_too(sold: tuple[Club, Member, str], mailbox: Mailbox) -> None:
    club, member, _ = sold
    member.given(6000)
    mails = len(mailbox.mails())
    club.advance("2024-02-29")
    invoice = member.invoices()[-1]
    assert invoice["amount_due"] == 0
    assert "From your balance -50.00 EUR Amount due 0.00 EUR" in text_of(member, invoice["links"]["file"])
    assert len(mailbox.mails()) == mails


def test_a_refund_brings_its_credit_note_and_one_to_the_balance_can_be_downloaded(
    sold: tuple[Club, Member, str], mailbox: Mailbox
) -> None:
    club, member, _ = sold
    (invoice,) = member.invoices()
    credit(club, invoice, amount=2000, reason="Closed for a week")
    mail = mailbox.mails()[-1]
    assert [part.get_filename() for part in mail.iter_attachments()] == [
        "credit-note-KES-CN-000001.pdf",
        "refund-KES-RF-000001.pdf",
    ]
    credit(club, invoice, amount=500, to="balance")
    refunded, kept = member.get(f"{invoice['links']['credit_notes']}?sort=created_at")["data"]
    text = text_of(member, refunded["links"]["file"])
    for said in ("For invoice KES-INV-000001 of 31 January 2024", "Closed for a week", "Total credited 20.00 EUR"):
        assert said in text, said
    assert "Credited to your balance" in text_of(member, kept["links"]["file"])
    other = kept["links"]["file"].replace(invoice["id"], str(new_id()))
    assert club.client.get(other, headers=member.auth).status_code == 404


def test_tax_has_a_line(app: Flask, make: Factory) -> None:
    invoice = taxed(make)
    with app.app_context():
        text = " ".join(PDF(issue(invoice.store_id, "invoice", invoice.id).content or b"").text().split())
    assert "Net 10.00 EUR Tax 1.90 EUR Total 11.90 EUR" in text


def taxed(make: Factory) -> Row:
    figures: dict[str, Any] = {"subtotal": 1000, "tax": 190, "total": 1190, "amount_due": 1190}
    invoice = make.invoice(make.store(), status="paid", **figures)
    make.rows("update invoices set number = 'INV-000001', sequence = 1")
    return invoice


def test_only_what_is_final_is_issued(club: Club) -> None:
    member = club.member("sandbox_declined")
    member.subscribe(club.package())
    (draft,) = member.invoices()
    assert draft["links"]["file"] is None
    assert club.client.get(f"{draft['links']['self']}/file", headers=member.auth).status_code == 404
    with club.app.app_context(), pytest.raises(PermanentFailure):
        issue(club.store.id, "invoice", draft["id"])


def test_nobody_has_anothers_documents(sold: tuple[Club, Member, str]) -> None:
    club, member, _ = sold
    (invoice,) = member.invoices()
    credit(club, invoice, amount=100, to="balance")
    (note,) = member.get(invoice["links"]["credit_notes"])["data"]
    for link in (invoice["links"]["file"], note["links"]["file"]):
        assert club.client.get(link, headers=club.member().auth).status_code == 404
        assert club.client.get(link, headers=club.owner_auth).status_code == 200


def test_a_credit_note_of_an_invoice_without_a_number_is_no_document(app: Flask, make: Factory) -> None:
    """No sale makes such rows; an import may have."""
    store = make.store()
    note = make.credit_note(make.invoice(store), number="CN-1", sequence=1)
    with app.app_context(), pytest.raises(PermanentFailure, match="no such credit note"):
        issue(store.id, "credit_note", note.id)
