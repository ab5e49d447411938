"""One mailbox has one normal address, and what can be no mailbox has none."""

import unicodedata

import pytest

from config import ConfigError, Settings
from dues.errors import InvalidValue, ValidationFailed
from dues.mail.address import check_sender, normal_address, parse_address, parse_mailbox

pytestmark = pytest.mark.unit

SAME = [
    ("ada@example.com", "Ada@EXAMPLE.com"),
    ("a@bücher.example", "a@xn--bcher-kva.example"),
    ("a@bücher.example", "A@XN--BCHER-KVA.example"),
    ("a@bücher.example", unicodedata.normalize("NFD", "a@bücher.example")),
    ("josé@example.com", unicodedata.normalize("NFD", "josé@example.com")),
    ("élan@example.com", "ÉLAN@example.com"),
    ("aa@example.com", "aa@\uff45xample.com"),
    ("a@example.com", "a@example。com"),
    ("a@한국.kr", unicodedata.normalize("NFD", "a@한국.kr")),
]
DIFFERENT = [
    ("a@straße.de", "a@strasse.de"),
    ("a+b@example.com", "a@example.com"),
    ("a.b@example.com", "ab@example.com"),
    ("ss@example.com", "ß@example.com"),
]
IMPOSSIBLE = [
    # RFC 5892 DISALLOWED, or what UTS 46 would silently drop
    *("a@exam\u200bple.com", "a@exam\u00adple.com", "a@x\u202e.com", "a@i❤.ws", "a@ex\u200cample.com", "a@\ufeffx.com"),
    # bad punycode, or a label in another than the one way to write it
    *("a@xn--a.com", "a@xn--.com", "a@xn--example-2z6c.com", "a@xn--ls8h.la", "a@ab--c.com"),
    # what many programs decode, into another address or into line breaks
    *("=?utf-8?q?ada=40example.org?=@example.com", "=?x?b?YQ==?=@example.com", "a=?utf-8?q?=0d=0ab?=c@example.com"),
    # invisible in the local part
    *(
        "a\u200bb@example.com",
        "a\ufeff@example.com",
        "a\u00adb@example.com",
        "a\u2060@example.com",
        "\u3164@example.com",
    ),
    # nowhere on the Internet
    *("root@localhost", "root@mail.localhost", "kx@1.2.3.4", "kx@[1.2.3.4]", "kx@[IPv6:::1]", "kx@0x7f.1", "kx@x.0x1"),
    *("kx@2130706433", "a@example", "a@example.com.", "a@.example.com", "a@a_b.com", "a@-a.com"),
    *("a@" + "x." * 130 + "com", "a@" + "x" * 64 + ".com"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_of_one_mailbox_have_one_normal_address(one: str, other: str) -> None:
    assert normal_address(one) == normal_address(other)
    assert parse_address(one).domain == parse_address(other).domain
    assert normal_address(normal_address(other)) == normal_address(one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_mailboxes_stay_apart(one: str, other: str) -> None:
    assert normal_address(one) != normal_address(other)


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_what_can_be_no_mailbox_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        normal_address(text)
    with pytest.raises(ValidationFailed):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["a@\u0645\u06cc\u200c\u062e.com", "用户@例子.广告", "δοκιμή@παράδειγμα.δοκιμή", "a@example.co.uk", "a@3com.com"],
)
def test_mailboxes_of_every_script_have_one(text: str) -> None:
    assert normal_address(text).rpartition("@")[2].isascii()


def test_the_operator_may_send_from_this_machine() -> None:
    sender = parse_mailbox("Dues <dues@localhost>")
    assert (sender.display_name, sender.addr_spec) == ("Dues", "dues@localhost")


def sends_from(sender: str) -> Settings:
    return Settings(database_url="postgresql://h/d", redis_url="redis://h", secret_key="k" * 32, mail_from=sender)


@pytest.mark.parametrize(
    "sender", ["a@b.example", "Dues <no-reply@dues.invalid>", '"Du, es" <a@b.example>', "dues@localhost"]
)
def test_whom_mails_may_come_from(sender: str) -> None:
    check_sender(sends_from(sender))


@pytest.mark.parametrize(
    "sender",
    ["", "Dues", "a@b", "Dues <a@b>", "a..b@c.example", "Du, es <a@b.example>", "a@-b.example", "a@b..example"],
)
def test_a_sender_that_is_none_is_refused_as_a_program_starts(sender: str) -> None:
    with pytest.raises(ConfigError, match=r"\AMAIL_FROM is no sender, [^\n]*\Z"):
        check_sender(sends_from(sender))
