"""What a mailed post says: its words, its subject and headers, a test of it, and its preview."""

import re
from email.message import EmailMessage

import pytest

from dues.mailings.letter import subject_of
from tests.mailings.conftest import Club


def text_of(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part
    return str(part.get_content())


def test_what_the_mail_says(club: Club) -> None:
    reader = club.member(user=club.make.user(name="Ada <b>"))
    club.post(title=None)
    mailing = club.mail(
        club.post(title="عرض <new>", body="Hello <i>all</i>\nhttps://kiel.example/?a=1&b=2\n\n\n-- \nBye \u200fשלום")
    )
    [mail] = club.mailbox.mails()
    assert str(mail["Subject"]) == mailing["subject"] == "عرض <new>"
    assert str(mail["From"]).startswith("Kiel Climbing <")
    assert (str(mail["Reply-To"]), str(mail["To"])) == ("desk@example.com", '"Ada <b>" <' + reader.email + ">")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    [url] = re.findall(r"<(\S+/v1/unsubscribe\?token=[\w-]{86})>", str(mail["List-Unsubscribe"]))
    text, html = text_of(mail, "plain").replace("\r\n", "\n"), text_of(mail, "html")
    assert "\u2068عرض <new>\u2069\n\nHello <i>all</i>\nhttps://kiel.example/?a=1&b=2\n\n" in text
    assert "&lt;i&gt;all" in html
    assert "<i>" not in html
    assert '<a href="https://kiel.example/?a=1&amp;b=2" rel="noopener noreferrer">' in html
    assert html.count(url) == text.count(url) == 1
    # The ledger keeps no word of it, nor the link.
    assert club.make.value("select max(length(raw)) from email_sends") == 0


@pytest.mark.parametrize(
    ("title", "body", "subject"),
    [
        ("Title", "Body", "Title"),
        (None, "\n\n  First line \nSecond", "First line"),
        (None, "\u200b\n \u2060\nFirst line", "First line"),
        (None, "x" * 200, "x" * 99 + "…"),
    ],
)
def test_without_a_title_it_is_called_as_it_begins(title: str | None, body: str, subject: str) -> None:
    assert subject_of(title, body) == subject


def test_words_of_the_store_forge_no_header(club: Club) -> None:
    club.member()
    club.make.rows(
        "update stores set name = %(name)s where id = %(id)s",
        {"name": "Bank\r\nBcc: eve@example.org", "id": club.store.id},
    )
    club.mail(club.post(title="Hi\r\nBcc: eve@example.org\r\n\r\nHello"))
    [mail] = club.mailbox.mails()
    assert mail["Bcc"] is None
    assert str(mail["Subject"]) == "Hi Bcc: eve@example.org Hello"


def test_everybody_gets_the_words_that_stood_when_it_was_asked_for(club: Club) -> None:
    club.member()
    post = club.post(title="Before", body="before")
    mailing = club.author.done("POST", club.path(post))
    club.author.done("PATCH", f"/v1/posts/{post.id}", {"title": "After", "body": "after"})
    club.work.drain()
    [mail] = club.mailbox.mails()
    assert (str(mail["Subject"]), mailing["subject"]) == ("Before", "Before")
    assert "before" in text_of(mail, "plain")


def test_a_test_goes_to_whoever_asks_and_to_nobody_else(club: Club) -> None:
    club.member()
    post = club.post(status="draft")
    answer = club.author.send("POST", club.beside(post, "mailing-test"))
    said = answer.json or {}
    assert (answer.status_code, said["recipient"]) == (202, club.author.user.email)
    assert answer.headers["Location"] == said["links"]["job"]
    club.work.drain()
    assert club.reached() == [club.author.user.email]
    assert "List-Unsubscribe" in club.mailbox.mails()[0]
    assert club.author.get(club.path(post))["data"] == []

    club.make.rows("update users set email_verified_at = null where id = %(id)s", {"id": club.author.id})
    assert club.author.refused("POST", club.beside(post, "mailing-test"))[:2] == (409, "email_not_verified")


def test_an_hour_has_so_many_tests(club: Club) -> None:
    post = club.post()
    statuses = [club.author.status("POST", club.beside(post, "mailing-test")) for _ in range(21)]
    assert (set(statuses[:20]), statuses[20]) == ({202}, 429)


def test_a_preview_is_what_would_be_mailed(club: Club) -> None:
    preview = club.author.get(club.beside(club.post(status="draft", title="New <wall>"), "mailing-preview"))
    assert (preview["subject"], preview["from_name"]) == ("New <wall>", "Kiel Climbing")
    assert preview["reply_to"] == "desk@example.com"
    assert "New &lt;wall&gt;" in preview["html"]
    assert "Something new" in preview["text"]
    assert club.reached() == []
