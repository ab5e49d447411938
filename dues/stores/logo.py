"""A store's logo, which is printed on its documents. The picture is redrawn, and only that is kept: whatever else the
file holds (where a photograph was taken, for example) is dropped."""

import base64
import binascii
import struct
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from sqlalchemy.dialects.postgresql import insert

from dues.errors import NotFound, Unavailable, ValidationFailed
from dues.pdf.typesetter import TypesetterBusy, TypesettingFailed, redraw
from dues.postgres import db, fetch_row
from dues.reads.tags import record_change, touch
from dues.stores.models import Logo, Store

MAX_BYTES = 256 * 1024
# In each direction, and in all: the latter bounds the memory and time that a decoder takes.
MAX_SIDE, MAX_DOTS = 4000, 4_000_000

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# The chunks that a PNG's dots are made of. Others are compressed text and colour profiles, say: some hundred kilobytes
# that unpack to hundreds of megabytes.
_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
# The markers of a JPEG that begin with its height and width; the others in their range are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class NewLogo(Struct, forbid_unknown_fields=True):
    """A picture, PNG or JPEG, of at most 256 KiB and 4 million dots, 4000 in a direction. It is shown
    46 mm wide or 14 mm high."""

    content: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_BYTES * 4 // 3 + 4,
            pattern=r"^[A-Za-z0-9+/]+={0,2}$(?!\n)",
            description="the file in base 64 (RFC 4648, section 4): of a data: URL what follows its comma",
        ),
    ]


def draw(new: NewLogo) -> bytes:
    """The picture as it is kept: PNG. Not in a transaction. Raises: ValidationFailed; Unavailable when it is busy."""
    try:
        content = base64.b64decode(new.content, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationFailed.of(
            "#/content", "is not base 64, as it stands in a data: URL after the comma", "format"
        ) from None
    if len(content) > MAX_BYTES:
        raise ValidationFailed.of("#/content", f"has more than {MAX_BYTES} bytes", "length")
    size = _size(content)
    if size is None:
        raise ValidationFailed.of("#/content", "is neither a PNG nor a JPEG", "format")
    if not all(1 <= side <= MAX_SIDE for side in size) or size[0] * size[1] > MAX_DOTS:
        raise ValidationFailed.of(
            "#/content", f"may have up to {MAX_DOTS:,} dots, from 1 to {MAX_SIDE:,} in a direction", "range"
        )
    try:
        return redraw(_without_extras(content) if content.startswith(_PNG) else content)
    except TypesetterBusy:
        raise Unavailable("another logo is being drawn", headers={"Retry-After": "2"}) from None
    except TypesettingFailed:
        raise ValidationFailed.of("#/content", "is a picture that cannot be read", "format") from None


def _size(content: bytes) -> tuple[int, int] | None:
    """The width and height that a picture says it has; None where it is neither PNG nor JPEG."""
    try:
        if content.startswith(_PNG):
            width, height = struct.unpack_from(">II", content, 16)
            return width, height
        if content.startswith(_JPEG):
            return _jpeg_size(content)
    except struct.error:
        pass
    return None


def _without_extras(png: bytes) -> bytes:
    """A PNG with nothing but what its dots are made of. A chunk that is cut off is left out, and so is what follows."""
    kept, place = [_PNG], len(_PNG)
    while place + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, place)
        end = place + 12 + length
        if png[place + 4 : place + 8] in _CHUNKS and end <= len(png):
            kept.append(png[place:end])
        place = end
    return b"".join(kept)


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Raises: struct.error where it ends too soon."""
    place = 2
    while True:
        mark, marker, length = struct.unpack_from(">BBH", content, place)
        if mark != 0xFF:
            return None
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, place + 5)
            return width, height
        if marker == 0xFF:
            # Any number of these may stand before a marker.
            place += 1
        else:
            place += 2 + length


def set_logo(store: Store, content: bytes) -> None:
    """Part of the caller's transaction()."""
    row = {"store_id": store.id, "content": content}
    statement = insert(Logo).values(row)
    db.session.execute(statement.on_conflict_do_update(index_elements=["store_id"], set_={"content": content}))
    store.logo_sha256 = sha256(content).hexdigest()
    _changed(store)


def remove_logo(store: Store) -> None:
    """Part of the caller's transaction(). Raises: NotFound where it has none."""
    logo = db.session.get(Logo, store.id)
    if logo is None:
        raise NotFound("this store has no logo")
    db.session.delete(logo)
    store.logo_sha256 = None
    _changed(store)


def find_logo(store_id: UUID) -> bytes:
    """The logo as PNG; empty where there is none."""
    row = fetch_row("select content from store_logos where store_id = %(id)s", {"id": store_id})
    return bytes(row[0]) if row else b""


def _changed(store: Store) -> None:
    touch("stores", f"store:{store.id}")
    record_change(store.id)
