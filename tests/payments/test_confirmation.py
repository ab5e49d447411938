"""The mails about a payment, as data in and message out."""

from dues.payments.confirmation import confirmation_message, refund_message
from dues.payments.receipt import Line
from tests.payments.test_receipt import receipt


def test_a_confirmation_has_the_receipt_with_it():
    message = confirmation_message(receipt(), store_email="club@example.org")
    assert message.subject == "Your payment to Kestrel Climbing Club: 120.00 EUR"
    assert (message.to_name, message.reply_to, message.unsubscribe_url) == ("Ada Müller", "club@example.org", "")
    [attachment] = message.attachments
    assert (attachment.filename, attachment.content_type) == ("receipt-0191A7C2-88.pdf", "application/pdf")
    assert attachment.content.startswith(b"%PDF")
    for body in (message.text, message.html):
        for text in ("Hello Ada Müller,", "0191A7C2-88", "20 November 2026", "Annual membership", "120.00 EUR"):
            assert text in body
        assert "Reply to this mail" in body


def test_without_an_address_for_answers_none_is_offered():
    message = confirmation_message(receipt(payer=""))
    assert "Reply to this mail" not in message.text + message.html
    assert message.text.startswith("Hello,\n")


def test_a_refund_says_how_much_and_what_is_left():
    message = refund_message(receipt(status="partially_refunded", refunded=3_000), 1_000)
    assert message.subject == "Your refund from Kestrel Climbing Club: 10.00 EUR"
    for body in (message.text, message.html):
        for text in ("has refunded 10.00 EUR of your payment of 120.00 EUR", "30.00 EUR", "Partially refunded"):
            assert text in body


def test_names_are_text_never_markup():
    hostile = '<img src=x onerror="alert(1)">'
    message = confirmation_message(receipt(store=hostile, payer=hostile, lines=(Line(hostile, 1),)))
    assert "<img" not in message.html
    assert hostile in message.text
