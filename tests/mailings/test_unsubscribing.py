"""The link by which a reader gets no more: nobody can make one up, opening it changes nothing, and it works once."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from types import SimpleNamespace as Row
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from dues.ids import new_id
from dues.mail.message import Message
from dues.mailings import letter, unsubscribing
from dues.mailings.unsubscribing import NO_MAILING, Reader, unsubscribe_url, write_token
from tests.mailings.conftest import Club, numbers

ONE_CLICK = {"data": "List-Unsubscribe=One-Click", "content_type": "application/x-www-form-urlencoded"}


def links(club: Club) -> dict[str, str]:
    """Path and query of the link in each mail, by the address it went to."""
    found = {}
    for mail in club.mailbox.mails():
        url = urlsplit(str(mail["List-Unsubscribe"]).strip("<>"))
        found[str(mail["Delivered-To"])] = f"{url.path}?{url.query}"
    return found


@pytest.fixture
def reader(club: Club) -> Row:
    """Somebody who has got a post; `link` is theirs."""
    user = club.member()
    mailing = club.mail(club.post())
    return Row(user=user, mailing=mailing, link=links(club)[user.email])


def test_with_one_click_and_without_a_token(club: Club, reader: Row, client: FlaskClient) -> None:
    for _ in range(2):
        answer = client.post(reader.link, **ONE_CLICK)
        assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert numbers(club.read(reader.mailing)) == {"recipients": 1, "sent": 1, "unsubscribed": 1}
    assert numbers(club.mail(club.post())) == {}
    assert len(club.reached()) == 1


def test_each_reader_has_a_link_of_their_own(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though what all of them get is rendered once."""
    rendered: list[str] = []
    message = letter._templates.message

    def noted(template: str, **values: Any) -> Message:
        rendered.append(template)
        return message(template, **values)

    monkeypatch.setattr(letter._templates, "message", noted)
    readers = [club.member() for _ in range(3)]
    club.mail(club.post(body="A post of its own"))
    found = links(club)
    assert (rendered, sorted(found)) == (["post"], sorted(reader.email for reader in readers))
    for mail in club.mailbox.mails():
        own = {token_of(link): str(mail["Delivered-To"]) == address for address, link in found.items()}
        for kind in ("plain", "html"):
            part = mail.get_body((kind,))
            text = part.get_content() if part else ""
            assert {token: token in text for token in own} == own


def test_opening_it_changes_nothing(club: Club, reader: Row, client: FlaskClient) -> None:
    for method in ("GET", "HEAD"):
        answer = client.open(reader.link, method=method)
        assert answer.status_code == 200
    answer = client.get(reader.link)
    assert '<form method="post">' in answer.text
    assert "script" not in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert (answer.headers["Referrer-Policy"], answer.headers["Cache-Control"]) == ("no-referrer", "private, no-store")
    assert numbers(club.mail(club.post())) == {"recipients": 1, "sent": 1}


def test_it_is_of_one_store_and_one_reader(club: Club, reader: Row, client: FlaskClient) -> None:
    other = club.member()
    elsewhere = club.make.store(club.owner.user)
    club.make.subscription(elsewhere, reader.user)
    client.post(reader.link, **ONE_CLICK)
    rows = club.make.rows("select store_id, user_id, reason from mail_suppressions")
    assert [(row.store_id, row.user_id, row.reason) for row in rows] == [
        (club.store.id, reader.user.id, "unsubscribed")
    ]
    assert numbers(club.mail(club.post())) == {"recipients": 1, "sent": 1}
    assert other.email in club.reached()


def test_a_mistake_is_taken_back(club: Club, reader: Row, client: FlaskClient) -> None:
    client.post(reader.link, **ONE_CLICK)
    assert 'name="again" value="yes"' in client.post(reader.link, **ONE_CLICK).text
    again = {"data": "again=yes", "content_type": "application/x-www-form-urlencoded"}
    assert "subscribed again" in client.post(reader.link, **again).text
    assert numbers(club.mail(club.post())) == {"recipients": 1, "sent": 1}


def test_an_address_that_does_not_exist_is_not_taken_back(club: Club, reader: Row, client: FlaskClient) -> None:
    values = {"store_id": club.store.id, "user_id": reader.user.id, "reason": "bounced", "address": reader.user.email}
    club.make.insert("mail_suppressions", values)
    client.post(reader.link, data="again=yes")
    assert numbers(club.mail(club.post())) == {}


def token_of(link: str) -> str:
    return re.sub(r".*token=", "", link)


def broken(token: str) -> dict[str, str]:
    """What a stranger might try."""
    raw = bytearray(urlsafe_b64decode(token + "=="))
    raw[20] ^= 1
    other_reader = urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    return {
        "none": "",
        "cut off": token[:-1],
        "longer": token + "A",
        "padded": token + "==",
        "of another store": other_reader,
        "not base64": "!" * 86,
        "not ASCII": "%C3%BC" * 10,
        "no signature": "A" * 86,
        "spelt otherwise": token[:-1] + chr(ord(token[-1]) + 1),
    }


def test_a_forged_link_is_none(club: Club, reader: Row, client: FlaskClient) -> None:
    for what, token in broken(token_of(reader.link)).items():
        for method in ("GET", "POST"):
            answer = client.open(f"/v1/unsubscribe?token={token}", method=method)
            assert answer.status_code == 404, (what, method)
    for query in ("", "?token=a&token=b", f"?token={token_of(reader.link)}&x=1"):
        assert client.post(f"/v1/unsubscribe{query}").status_code == 400, query
    assert club.make.value("select count(*) from mail_suppressions") == 0


def test_a_link_of_what_is_not_there_does_nothing(club: Club, reader: Row, client: FlaskClient) -> None:
    with client.application.app_context():
        url = unsubscribe_url(write_token(Reader(new_id(), reader.user.id, NO_MAILING)))
        of_a_test = unsubscribe_url(write_token(Reader(club.store.id, reader.user.id, NO_MAILING)))
    assert client.post(urlsplit(url).path + "?" + urlsplit(url).query).status_code == 200
    assert club.make.value("select count(*) from mail_suppressions") == 0
    assert client.post(urlsplit(of_a_test).path + "?" + urlsplit(of_a_test).query).status_code == 200
    assert numbers(club.read(reader.mailing)) == {"recipients": 1, "sent": 1}
    assert club.make.value("select count(*) from mail_suppressions") == 1


def test_a_link_outlives_its_post(club: Club, reader: Row, client: FlaskClient) -> None:
    club.make.rows("delete from posts")
    assert client.post(reader.link, **ONE_CLICK).status_code == 200
    assert numbers(club.read(reader.mailing))["unsubscribed"] == 1


def test_a_signature_is_of_its_purpose(club: Club, reader: Row, client: FlaskClient, monkeypatch) -> None:
    """The same key signs other things; what they sign opens nothing here."""
    with client.application.app_context():
        url = unsubscribe_url(write_token(Reader(club.store.id, reader.user.id, NO_MAILING)))
        assert unsubscribing.read_token(token_of(url)).user_id == reader.user.id
