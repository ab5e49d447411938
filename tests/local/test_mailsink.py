"""The local mail server: a 250 is a file, and every fault it is told happens at its moment."""

import base64
import json
import smtplib
import urllib.request
from email.message import EmailMessage
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

import pytest

from local.mailsink import MailSink
from tests.servers import Home, Mailbox, Servers, running


def send(sink: MailSink, message_id: str, to: str = "ada@example.com") -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Message-ID"], mail["Subject"] = "dues@example.com", to, message_id, "Grüße"
    mail.set_content("Hallo\n.\n")
    at = urlsplit(sink.smtp_url)
    with smtplib.SMTP(at.hostname or "", at.port or 0, timeout=5) as client:
        client.login(at.username or "", at.password or "")
        client.send_message(mail, "bounces@example.com", [to, "copy@example.com"])


def look_up(sink: MailSink, message_id: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(sink.request(f"/messages/{quote(message_id)}"), timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_files_what_it_accepts_and_tells_when_asked(servers: Servers, mailbox: Mailbox) -> None:
    send(servers.mail, "<first@example.com>")
    [mail] = mailbox.mails()
    assert mail["Subject"] == "Grüße"
    assert mail["Return-Path"] == "<bounces@example.com>"
    assert mail.get_all("Delivered-To") == ["ada@example.com", "copy@example.com"]
    assert mail.get_content().replace("\r\n", "\n") == "Hallo\n.\n"
    status, found = look_up(servers.mail, "<first@example.com>")
    assert (status, found["accepted"], found["count"]) == (200, True, 1)
    assert found["at"].endswith("+00:00")
    assert look_up(servers.mail, "first@example.com")[0] == 200
    assert look_up(servers.mail, "<second@example.com>") == (404, {"accepted": False})
    send(servers.mail, "<first@example.com>")
    assert look_up(servers.mail, "<first@example.com>")[1]["count"] == 2


def test_other_users_of_the_machine_file_no_mail_and_learn_of_none(servers: Servers, mailbox: Mailbox) -> None:
    send(servers.mail, "<known@example.com>")
    at, lookup = urlsplit(servers.mail.smtp_url), urlsplit(servers.mail.lookup_url)
    for password in (None, "", "dues", f"{at.password}x"):
        with smtplib.SMTP(at.hostname or "", at.port or 0, timeout=5) as client:
            if password is not None:
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    client.login("dues", password)
            for command in ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>", "DATA"):
                assert client.docmd(command)[0] in (503, 530)
        credentials = base64.b64encode(f"dues:{password}".encode()).decode()
        headers = {} if password is None else {"Authorization": f"Basic {credentials}"}
        for path, body in (("/messages/known@example.com", None), ("/behave", b"{}")):
            request = urllib.request.Request(f"http://127.0.0.1:{lookup.port}{path}", body, headers)
            with pytest.raises(HTTPError, match="401"):
                urllib.request.urlopen(request, timeout=5)
    assert len(mailbox.mails()) == 1


@pytest.mark.parametrize(
    ("fault", "error", "filed"),
    [
        ({"at": "mail", "do": "451"}, smtplib.SMTPSenderRefused, 0),
        ({"at": "data", "do": "reset"}, smtplib.SMTPServerDisconnected, 0),
        ({"do": "451"}, smtplib.SMTPDataError, 0),
        ({"at": "dot", "do": "reset"}, smtplib.SMTPServerDisconnected, 0),
        ({"at": "after_accept", "do": "reset"}, smtplib.SMTPServerDisconnected, 1),
        ({"at": "after_accept", "do": "451"}, smtplib.SMTPDataError, 1),
        ({"do": "accept"}, None, 1),
        ({"do": "hang", "seconds": 0.05}, None, 1),
    ],
)
def test_misbehaves_at_the_moment_it_is_told(
    servers: Servers, mailbox: Mailbox, fault: dict[str, Any], error: type[Exception] | None, filed: int
) -> None:
    mailbox.behave(next=[fault])
    if error is None:
        send(servers.mail, "<one@example.com>")
    else:
        with pytest.raises(error):
            send(servers.mail, "<one@example.com>")
    assert len(mailbox.mails()) == filed
    send(servers.mail, "<two@example.com>")
    assert len(mailbox.mails()) == filed + 1


def test_one_recipient_can_be_refused(servers: Servers, mailbox: Mailbox) -> None:
    mailbox.behave(next=[{"at": "rcpt", "do": "550"}])
    send(servers.mail, "<one@example.com>")
    assert [mail.get_all("Delivered-To") for mail in mailbox.mails()] == [["copy@example.com"]]


def test_faults_take_their_turns_and_lookups_can_fail(servers: Servers, mailbox: Mailbox) -> None:
    mailbox.behave(next=[{"do": "451"}, {"do": "accept"}, {"do": "550"}], lookup=503)
    replies = []
    for number in range(4):
        try:
            send(servers.mail, f"<{number}@example.com>")
            replies.append(250)
        except smtplib.SMTPDataError as error:
            replies.append(error.smtp_code)
    assert replies == [451, 250, 550, 250]
    assert look_up(servers.mail, "<1@example.com>")[0] == 503


def test_what_it_accepted_outlives_it() -> None:
    home = Home()
    sink = MailSink(home.path, faults=True)
    try:
        with running(sink):
            Mailbox(sink).behave(next=[{"at": "after_accept", "do": "kill"}])
            with pytest.raises(smtplib.SMTPServerDisconnected):
                send(sink, "<kept@example.com>")
            sink.stop()
            with pytest.raises(OSError, match="refused"):
                send(sink, "<refused@example.com>")
            sink.start()
            assert look_up(sink, "<kept@example.com>")[1]["count"] == 1
            assert look_up(sink, "<refused@example.com>")[0] == 404
    finally:
        home.remove()


def test_only_one_started_for_tests_can_be_told_to_misbehave() -> None:
    home = Home()
    sink = MailSink(home.path)
    try:
        with running(sink), pytest.raises(HTTPError, match="404"):
            Mailbox(sink)
    finally:
        home.remove()
