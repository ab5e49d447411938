"""Mail addresses: checked, and with their domain as the mail system writes it."""

import re
import unicodedata
from email.headerregistry import Address
from email.utils import parseaddr
from functools import lru_cache

from dues.errors import ValidationFailed

# What may stand in an unquoted local part: no space, no control character, nothing that ends an address in a
# header or an SMTP command.
_LOCAL_PART = re.compile(r'[^\s\x00-\x20\x7f-\x9f<>()\[\]\\,;:"@]{1,64}')
# Control characters, and halves of characters, which no encoding can write.
_UNWRITABLE = ("Cc", "Cs")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def parse_address(text: str, name: str = "") -> Address:
    """`text` (`someone@example.org`) as an address that is safe in headers and SMTP commands.

    The domain comes out in ASCII (IDNA); the local part stays as it is, because only its own server may read it.
    Raises: ValidationFailed where `text` is no such address.
    """
    local, at, domain = text.rpartition("@")
    ascii_domain = _ascii_domain(domain)
    dots_wrong = local.startswith(".") or local.endswith(".") or ".." in local
    sendable = at and ascii_domain and not dots_wrong and _LOCAL_PART.fullmatch(local)
    if not sendable or not _encodable(text) or len(f"{local}@{ascii_domain}".encode()) > 254:
        raise ValidationFailed.of("#/email", "not a mail address", code="invalid_email")
    return Address(display_name=clean(name), username=local, domain=ascii_domain)


@lru_cache
def parse_mailbox(text: str) -> Address:
    """An address with or without a name: `Dues <no-reply@example.org>`. Raises: ValidationFailed."""
    name, address = parseaddr(text)
    return parse_address(address, name)


def clean(text: str) -> str:
    """`text` on one line and without characters that no header may hold, so that none can begin another header."""
    kept = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in _UNWRITABLE)
    return " ".join(kept.split())


def _encodable(text: str) -> bool:
    return not any(unicodedata.category(c) in _UNWRITABLE for c in text)


def _ascii_domain(domain: str) -> str:
    """Nontransitional IDNA, which the codec of Python's library is not: it would take `straße.de` for `strasse.de`,
    a domain that may belong to somebody else. Empty where `domain` is none."""
    labels = []
    for label in unicodedata.normalize("NFKC", domain.lower()).lower().split("."):
        encoded = label
        if not label.isascii():
            try:
                encoded = "xn--" + label.encode("punycode").decode("ascii")
            except UnicodeError:
                return ""
        if not _LABEL.fullmatch(encoded):
            return ""
        labels.append(encoded)
    return ".".join(labels) if len(labels) > 1 or labels == ["localhost"] else ""
