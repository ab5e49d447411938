"""Mail addresses: read, and in the one form that stands for a mailbox however its address is spelt."""

import re
import unicodedata
from email.headerregistry import Address
from email.utils import parseaddr
from functools import lru_cache

import idna

from config import ConfigError, Settings
from dues.errors import InvalidValue, ValidationFailed
from dues.text import has_invisible

# What may stand in an unquoted local part: no space, no control character, nothing that ends an address in a
# header or an SMTP command.
_LOCAL_PART = re.compile(r'[^\s\x00-\x20\x7f-\x9f<>()\[\]\\,;:"@]{1,64}')
# In the local part, `=?utf-8?q?ada=40example.org?=` is a name like any other, but many programs and libraries decode it
# as they decode a display name (RFC 2047), and then see another address, or line breaks.
_ENCODED_WORD = re.compile(r"=\?.*\?=")
# Control characters, and halves of characters, which no encoding can write.
_UNWRITABLE = ("Cc", "Cs")
# No top-level domain is a number: whatever ends in one is an IPv4 address, in whichever of its spellings.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Joiners that some scripts need; `idna` knows where.
_JOINERS = re.compile("[\u200c\u200d]")


def parse_address(text: str, name: str = "") -> Address:
    """`text` (`someone@example.org`) as an address that is safe in headers and SMTP commands.

    The domain comes out in ASCII (IDNA 2008); the local part stays as it is but for its Unicode form, because only its
    own server may interpret it. Raises: ValidationFailed where `text` is no address of a mailbox on the Internet.
    """
    try:
        local, domain = _parts(text)
    except InvalidValue as invalid:
        raise ValidationFailed.of("#/email", invalid.detail, invalid.code) from None
    return Address(display_name=clean(name), username=local, domain=domain)


def normal_address(text: str) -> str:
    """The address that all spellings of a mailbox share, and no other mailbox: `Ada@BÜCHER.example`,
    `ada@xn--bcher-kva.example` and either in decomposed characters are one. Two are equal where this is.

    Servers may tell capitals in a local part apart; none that is known does, and people do not. Raises: InvalidValue.
    """
    local, domain = _parts(text)
    return f"{unicodedata.normalize('NFC', local.lower())}@{domain}"


def without_tag(normal: str) -> str:
    """A normal address without its tag: mail to `ada+shop@example.org` is read by whoever reads `ada@example.org`."""
    local, at, domain = normal.rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}"


def check_address(text: str) -> str:
    """For a field's type: `text` as it was typed. Raises: InvalidValue."""
    _parts(text)
    return text


@lru_cache
def parse_mailbox(text: str) -> Address:
    """An address of the operator or of a store, with or without a name: `Dues <no-reply@example.org>`. It may be one on
    this machine (`dues@localhost`). Raises: ValidationFailed."""
    name, address = parseaddr(text)
    if address.endswith("@localhost") and _LOCAL_PART.fullmatch(local := address.removesuffix("@localhost")):
        return Address(display_name=clean(name), username=local, domain="localhost")
    return parse_address(address, name)


def check_sender(config: Settings) -> None:
    """Raises: ConfigError where no mail could be sent from MAIL_FROM."""
    try:
        parse_mailbox(config.mail_from)
    except ValidationFailed as refused:
        said = refused.errors[0].detail
        raise ConfigError(f"MAIL_FROM is no sender, such as `Dues <no-reply@example.org>`: it {said}") from None


def clean(text: str) -> str:
    """`text` on one line and without characters that no header may hold, so that none can begin another header."""
    kept = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in _UNWRITABLE)
    return " ".join(kept.split())


def _parts(text: str) -> tuple[str, str]:
    """Local part and domain in ASCII. Raises: InvalidValue."""
    local, at, domain = unicodedata.normalize("NFC", text).rpartition("@")
    dots_wrong = local.startswith(".") or local.endswith(".") or ".." in local
    if not at or dots_wrong or not _LOCAL_PART.fullmatch(local):
        raise InvalidValue("invalid_email", "must be a mail address, such as ada@example.org")
    if has_invisible(local) or has_invisible(_JOINERS.sub("", domain)) or not _is_writable(text):
        raise InvalidValue("invalid_email", "must be a mail address without invisible characters")
    if _ENCODED_WORD.search(local):
        raise InvalidValue(
            "invalid_email", "must be a mail address without =? and ?=, which many programs would decode"
        )
    ascii_domain = _ascii_domain(domain)
    if len(f"{local}@{ascii_domain}".encode()) > 254:
        raise InvalidValue("invalid_email", "must be a mail address of at most 254 bytes")
    return local, ascii_domain


def _is_writable(text: str) -> bool:
    return not any(unicodedata.category(c) in _UNWRITABLE for c in text)


# Many addresses share a domain, and reading the domain takes longer than the rest.
@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    """As the domain name system has it (UTS 46, nontransitional, then IDNA 2008: `straße.de` is not `strasse.de`).
    Raises: InvalidValue where a mailbox of the Internet cannot be there."""
    try:
        name = idna.encode(domain, uts46=True, std3_rules=True).decode()
    except idna.IDNAError:
        raise InvalidValue("invalid_email", "must end in the name of a domain that can exist") from None
    *upper, last = name.split(".")
    if not upper or not last or last == "localhost" or _NUMBER.fullmatch(last):
        raise InvalidValue("invalid_email", "must end in the full name of a domain on the Internet")
    return name
