"""A store's logo: what pictures are taken, who may set it, and that documents bear it."""

import base64
import io
import struct
import zlib
from types import SimpleNamespace as Row

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from dues.ids import new_id
from dues.payments.receipts import issue_receipt
from dues.pdf.typesetter import TypesetterBusy
from tests.factory import Factory
from tests.pdf_reader import PDF


def picture(width: int = 300, height: int = 100, kind: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height), 255 if mode in "L1" else "navy").save(file, kind, **options)
    return file.getvalue()


def body(content: bytes) -> dict[str, str]:
    return {"content": base64.b64encode(content).decode()}


class Shop:
    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self.client, self.make = client, make
        self.owner = make.user()
        self.store: Row = make.store(self.owner)
        self.path, self.auth = f"/v1/stores/{self.store.id}/logo", make.auth(self.owner)

    def put(self, content: bytes) -> int:
        return self.client.put(self.path, json=body(content), headers=self.auth).status_code


@pytest.fixture
def shop(client: FlaskClient, make: Factory) -> Shop:
    return Shop(client, make)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (picture(), (300, 100)),
        (picture(mode="RGBA"), (300, 100)),
        (picture(mode="L"), (300, 100)),
        (picture(kind="JPEG"), (300, 100)),
        (picture(kind="JPEG", mode="CMYK"), (300, 100)),
        (picture(kind="JPEG", progressive=True), (300, 100)),
        (picture(1, 1), (1, 1)),
        (picture(3000, 1000), (600, 200)),
        (picture(100, 4000), (5, 200)),
    ],
    ids=["png", "alpha", "grey", "jpeg", "cmyk", "progressive", "dot", "large", "tall"],
)
def test_a_picture_is_kept_as_png_and_no_larger_than_needed(shop: Shop, content: bytes, size: tuple[int, int]) -> None:
    assert shop.client.get(shop.path).status_code == 404
    assert shop.put(content) == 200
    answer = shop.client.get(shop.path)
    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    drawn = Image.open(io.BytesIO(answer.data))
    assert (drawn.format, drawn.size) == ("PNG", size)
    unchanged = shop.client.get(shop.path, headers={"If-None-Match": answer.headers["ETag"]})
    assert unchanged.status_code == 304


def test_what_else_a_file_holds_is_not_kept(shop: Shop) -> None:
    place = Image.Exif()
    place[0x010E] = "behind the old oak"
    assert shop.put(picture(kind="JPEG", exif=place)) == 200
    assert shop.put(picture(kind="JPEG", exif=place) + b"<script>old oak</script>") == 200
    assert b"old oak" not in shop.client.get(shop.path).data


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _with(png: bytes, *chunks: bytes) -> bytes:
    """With further chunks behind the first, which says how large it is."""
    return png[:33] + b"".join(chunks) + png[33:]


def test_what_is_packed_beside_the_dots_is_not_unpacked(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some kilobytes that a reader of colour profiles, or of texts, makes 30 megabytes of."""
    bomb = zlib.compress(bytes(30 * 1024 * 1024), 9)
    drawn: list[bytes] = []

    def draw(content: bytes) -> bytes:
        drawn.append(content)
        return picture()

    monkeypatch.setattr("dues.stores.logo.redraw", draw)
    small = picture(4, 2)
    assert shop.put(_with(small, _chunk(b"iCCP", b"k\0\0" + bomb))) == 200
    assert shop.put(_with(small, _chunk(b"zTXt", b"k\0\0" + bomb), _chunk(b"tEXt", b"k\0old oak"))) == 200
    # What stands behind the end is no part of the picture, and a chunk that is cut off is none.
    assert shop.put(small + _chunk(b"iCCP", b"k\0\0" + bomb) + b"\xff\xff\xff\xffIDAT") == 200
    assert drawn == [small] * 3


def test_of_several_at_once_one_is_drawn_and_the_others_hold_no_thread(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(content: bytes) -> bytes:
        raise TypesetterBusy

    monkeypatch.setattr("dues.stores.logo.redraw", busy)
    answer = shop.client.put(shop.path, json=body(picture()), headers=shop.auth)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        picture(kind="GIF"),
        picture(kind="WEBP"),
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\x00\x00" * 9,
        picture(kind="JPEG")[:400],
        picture()[:60],
        _png(0, 1),
        _png(50_000, 50_000, zlib.compress(b"\0" * 1000)),
        _png(4000, 1001, zlib.compress(b"")),
        _png(4001, 10, zlib.compress(b"")),
        _png(2000, 2000, zlib.compress(b"\0" * 1000)),
        _png(10, 10, b"no zlib"),
        bytes(256 * 1024 + 1),
    ],
)
def test_what_is_no_picture_is_refused_by_name_and_changes_nothing(shop: Shop, content: bytes) -> None:
    answer = shop.client.put(shop.path, json=body(content), headers=shop.auth)
    assert answer.status_code == 422, answer.text
    assert answer.json
    assert answer.json["errors"][0]["pointer"] == "#/content"
    assert shop.client.get(shop.path).status_code == 404


@pytest.mark.parametrize(
    "content", ["", "!", "iVBORw0KGgo", "data:image/png;base64,aGk=", "aGk=\n", 7, None, "A" * 400_000]
)
def test_content_is_base_64(shop: Shop, content: object) -> None:
    answer = shop.client.put(shop.path, json={"content": content}, headers=shop.auth)
    assert answer.status_code == 422, answer.text


def test_nothing_is_drawn_for_those_who_may_not_set_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dues.stores.logo.redraw", lambda content: pytest.fail("was drawn"))
    member = shop.make.user()
    answer = shop.client.put(shop.path, json=body(picture()), headers=shop.make.auth(member))
    assert answer.status_code == 403


def test_the_store_links_to_it_until_it_is_removed(shop: Shop) -> None:
    url = f"/v1/stores/{shop.store.id}"
    assert shop.put(picture()) == 200
    found = shop.client.get(url).json
    assert found
    assert (found["links"]["logo"], found["version"]) == (shop.path, 2)
    assert shop.client.delete(shop.path, headers=shop.auth).status_code == 204
    found = shop.client.get(url).json
    assert found
    assert (found["links"]["logo"], found["version"]) == (None, 3)
    assert shop.client.delete(shop.path, headers=shop.auth).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_if_match_names_the_picture_or_the_stores_version(shop: Shop, method: str) -> None:
    def write(if_match: str) -> int:
        sent = body(picture()) if method == "PUT" else None
        headers = shop.auth | {"If-Match": if_match}
        return shop.client.open(shop.path, method=method, headers=headers, json=sent).status_code

    for etag_of in (shop.path, f"/v1/stores/{shop.store.id}"):
        assert shop.put(picture(30, 10)) == 200
        stale = shop.client.get(etag_of).headers["ETag"]
        assert shop.put(picture(60, 20)) == 200
        assert write(stale) == 412
        fresh = shop.client.get(etag_of).headers["ETag"]
        assert write(fresh) in (200, 204)


def test_documents_bear_it(shop: Shop, app: Flask, make: Factory) -> None:
    def printed() -> PDF:
        payment = make.payment(shop.store)
        with app.app_context():
            return PDF(issue_receipt(shop.store.id, payment.id, new_id()).file)

    assert printed().pictures() == 0
    assert shop.put(picture(mode="RGBA")) == 200
    assert printed().pictures() == 1


@pytest.mark.parametrize("size", [(600, 1), (1, 200), (1, 1), (600, 200)])
def test_one_of_any_form_stays_in_its_place(shop: Shop, app: Flask, make: Factory, size: tuple[int, int]) -> None:
    assert shop.put(picture(*size)) == 200
    payment = make.payment(shop.store)
    with app.app_context():
        left, bottom, right, top = PDF(issue_receipt(shop.store.id, payment.id, new_id()).file).place_of_picture()
    assert right - left <= 46 / 25.4 * 72 + 1
    assert top - bottom <= 14 / 25.4 * 72 + 1
