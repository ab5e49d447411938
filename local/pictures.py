"""`bin/pictures`: pictures of the mails and documents that Dues produces, in docs/pictures, made from sample data by
the production code. Mails are rendered by Chromium, which has to be installed (`chromium` on PATH, or CHROMIUM)."""

import html
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pypdfium2
import ujson
from msgspec import structs
from PIL import Image, ImageDraw

from config import Settings
from dues.app import create_base
from dues.billing.invoice_pdf import Printed, PrintedLine, invoice_pdf
from dues.money import split_gross
from dues.payments.confirmation import About, Recipient, Subject, payment_message
from dues.payments.receipt import Payer, Receipt, Refunded, Seller, receipt_pdf
from dues.pdf.fonts import folders
from dues.reports.files import LocalFiles
from dues.reports.formats import Heading
from dues.reports.formats.pdf import PDFDocument
from dues.reports.rows import REVENUE

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
DESKTOP, PHONE = 640, 375
_COLOURS = 64

PAID_AT = datetime(2026, 11, 20, 14, 39, tzinfo=UTC)
_LONG = "Donaudampfschifffahrtsgesellschaftskapitänswitwenrentenauszahlungsstelle" * 3


@dataclass(frozen=True)
class Sample:
    """Sample names and texts of a sale, in one script."""

    name: str
    shop: str
    payer: str
    description: str
    currency: str = "EUR"
    amount: int = 12_000
    country: str = "DE"


SAMPLES = (
    Sample("latin", "Kestrel Climbing Club", "Ada Müller", "Annual membership"),
    Sample("arabic", "نادي التسلق Kestrel", "أحمد بن محمد", "عضوية سنوية Gold", "KWD", 36_500, "KW"),
    Sample("japanese", "㈱山田クライミング", "髙橋 𠮷田", "年会費 ﾈﾝｶｲﾋ", "JPY", 12_000, "JP"),
    Sample("hindi", "हिन्दी पर्वतारोहण क्लब", "दीपिका क्षत्रिय", "वार्षिक सदस्यता", "INR", 450_000, "IN"),
    Sample("thai", "สโมสรปีนเขาที่นี่", "สมชาย ใจดี", "สมาชิกรายปี", "THB", 390_000, "TH"),
    Sample("emoji", "🧗‍♀️ Climb 🇩🇪 Club ❤️", "Ada 🎉", "Plan ⭐ with sauna 🧖"),
    Sample("long", _LONG[:200], _LONG[20:220], f"{_LONG[:120]} {'and so on ' * 20}", "EUR", 999_999_999_999),
)


def main() -> int:
    """Returns: the exit status."""
    chromium = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if chromium is None:
        print("bin/pictures: there is no chromium on PATH; set CHROMIUM to one", file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    nowhere = "postgresql://nowhere/nothing"
    app = create_base(Settings(database_url=nowhere, redis_url="redis://nowhere", secret_key="of no use " * 4))
    with app.app_context():
        documents()
        with TemporaryDirectory() as home:
            report(Path(home))
            mails(Browser(chromium, Path(home)))
    for path in sorted(FOLDER.glob("*.png")):
        print(f"{path.relative_to(FOLDER.parent)}  {path.stat().st_size // 1024} kB")
    return 0


def receipt(sample: Sample, **changes: object) -> Receipt:
    is_home = sample.name == "latin"
    said: dict[str, object] = {
        "number": "KES-R-000123",
        "seller": Seller(
            name=sample.shop,
            lines=["Kestrel Climbing Club e.V.", "Felsgasse 12", "10115 Berlin", "Germany", "Tax ID DE123456789"]
            if is_home
            else [],
            country=sample.country,
            contact_email="hello@kestrel.example" if is_home else "",
            website="https://kestrel.example" if is_home else "",
            note="Membership fees are exempt from VAT (§ 4 Nr. 22 UStG)." if is_home else "",
        ),
        "payer": Payer(
            name=sample.payer,
            email="ada@example.org",
            lines=["Musterstraße 1", "80331 München", "Germany"] if is_home else [],
        ),
        "amount": sample.amount,
        "currency": sample.currency,
        "description": sample.description,
        "paid_at": PAID_AT,
        "timezone": "Europe/Berlin",
        "method": "Visa •••• 4242",
        "reference": "sandbox_charge_019a1c25d3e7f60",
    }
    return Receipt(**said | changes)  # type: ignore[arg-type]


# With everything that a store can have printed.
_GERMAN: dict[str, object] = {
    "language": "de",
    "tax_rate": 190_000,
    "description": "Jahreskarte",
    "payer": Payer(
        name="Ada Müller",
        email="ada@example.org",
        lines=["Lovelace GmbH", "Musterstraße 1", "80331 München", "Deutschland", "USt-IdNr./Steuernr. DE136695976"],
    ),
    "seller": Seller(
        name="Kestrel Kletterhalle",
        lines=[
            "Kestrel Betriebs GmbH",
            "Felsgasse 12",
            "10115 Berlin",
            "Deutschland",
            "USt-IdNr./Steuernr. DE123456789",
        ],
        country="DE",
        contact_email="hallo@kestrel.example",
        website="https://kestrel.example",
        note="Vielen Dank für Ihren Besuch!",
    ),
}


def _logo() -> bytes:
    """A mountain."""
    drawn = Image.new("RGBA", (300, 120))
    pen = ImageDraw.Draw(drawn)
    pen.polygon([(0, 118), (95, 12), (150, 70), (195, 30), (298, 118)], fill="#1f6f8b")
    pen.polygon([(68, 42), (95, 12), (124, 43), (108, 50), (92, 38)], fill="#b7d6e0")
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()


def refund(sample: Sample) -> Receipt:
    given = Refunded(
        amount=sample.amount // 4,
        refunded_at=datetime(2026, 12, 1, 9, 0, tzinfo=UTC),
        receipt_number="KES-R-000123",
        reason="Closed for a week",
        reference="sandbox_refund_019a1c25d3e7f61",
    )
    return receipt(sample, number="KES-RF-000007", refund=given)


def invoice() -> Printed:
    """The invoice of a change of package in the middle of a month, partly paid from the balance."""
    of = receipt(SAMPLES[0])
    start, change, end = (datetime(2026, 11, day, tzinfo=UTC) for day in (1, 20, 30))
    lines = [
        PrintedLine(description="Unused time: Climber", amount=-1_056, period_start=change, period_end=end),
        PrintedLine(description="Climber with courses", amount=2_722, period_start=change, period_end=end),
        PrintedLine(description="Locker", amount=800, period_start=start, period_end=end),
    ]
    total = sum(line.amount for line in lines)
    net, tax = split_gross(total, 190_000)
    return Printed(
        number="KES-INV-000123",
        seller=structs.replace(of.seller, note="Thank you for climbing with us."),
        buyer=of.payer,
        currency="EUR",
        lines=lines,
        subtotal=net,
        tax=tax,
        total=total,
        issued_at=PAID_AT,
        balance_applied=500,
        amount_due=total - 500,
        timezone="Europe/Berlin",
        method=of.method,
        reference=of.reference,
        tax_rate=190_000,
    )


def documents() -> None:
    """The receipt, an invoice, a document about a refund, and receipts and refunds in other scripts."""
    save("invoice", page(invoice_pdf(invoice(), _logo()), 1.3))
    save("receipt", page(receipt_pdf(receipt(SAMPLES[0])), 1.3))
    save("refund", page(receipt_pdf(refund(SAMPLES[0])), 1.3))
    save("receipt-german", page(receipt_pdf(receipt(SAMPLES[0], **_GERMAN), _logo()), 1.3))
    others = [page(receipt_pdf(receipt(sample)), 0.9) for sample in SAMPLES[1:]]
    others += [page(receipt_pdf(refund(sample)), 0.9) for sample in (*SAMPLES[1:3], SAMPLES[-1])]
    height = max(_foot(picture) for picture in others)
    save("receipt-scripts", sheet([picture.crop((0, 0, picture.width, height)) for picture in others], 3))


def report(home: Path) -> None:
    """The revenue of a year: in one currency, a package that is sold every month, and one per month in different
    scripts; and a second currency."""
    others = [sample.description for sample in SAMPLES[1:]]
    rows = [
        [f"2026-{month:02d}", f"{n:032x}", name, currency, 40 - month, 0, 0, 0]
        for month in range(1, 13)
        for n, name, currency in (
            (0, SAMPLES[0].description, "EUR"),
            (1 + month % len(others), others[month % len(others)], "EUR"),
            (99, "Day pass", "CHF"),
        )
    ]
    names = [column.name for column in REVENUE.columns]
    files = LocalFiles(str(home))
    with files.create("reports/sample/report.pdf") as draft:
        heading = Heading(
            UUID(int=1),
            UUID(int=2),
            "Kestrel Climbing Club",
            REVENUE,
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2027, 1, 1, tzinfo=UTC),
            datetime(2027, 1, 2, 8, 30, tzinfo=UTC),
            len(rows),
            "UTC",
            beside=[_month(number) for number in range(1, 13)],
        )
        document = PDFDocument(draft, heading)
        document.add([ujson.dumps(_row(names, row)).encode() for row in rows])
        document.finish()
    content = b"".join(files.read("reports/sample/report.pdf", 0, files.size("reports/sample/report.pdf") or 0))
    save("revenue", sheet([page(content, 1.0, number) for number in range(2)], 2))


def _month(number: int) -> dict[str, object]:
    """The membership figures of one month of the year, as in dues/billing/metrics.py."""
    came, left = 9 - number % 4, number % 3
    flows = {"new_mrr": came * 1_000, "churned_mrr": -left * 1_000}
    return {
        "start": f"2026-{number:02d}-01T00:00:00.000000+00:00",
        "currency": "EUR",
        "mrr": 200_000 + number * 5_500,
        "active": 200 + number * 5,
        "past_due": number % 2,
        "new": came,
        "churned": left,
        **dict.fromkeys(("reactivated_mrr", "upgraded_mrr", "downgraded_mrr"), 0),
        **flows,
    }


def _row(names: Sequence[str], row: list[object]) -> list[object]:
    month, package_id, package, currency, payments, *_ = row
    assert isinstance(payments, int)
    gross = payments * (12_000 if package == "Annual membership" else 1_900)
    refunded = gross // 12 if payments % 3 == 0 else 0
    known = {
        "month": month,
        "package_id": package_id,
        "package_name": package,
        "currency": currency,
        "payments": payments,
        "refunds": 1 if refunded else 0,
        "gross": gross,
        "refunded": refunded,
        "net": gross - refunded,
    }
    return [known.get(name) for name in names]


def mails(browser: "Browser") -> None:
    """The confirmation at the width of a desktop and of a phone, in every script, and the other mails."""
    to = Recipient("Ada Müller", "ada@example.org", knows_sender=True)
    nobody = Recipient("", "ada@example.org", knows_sender=False)

    def mail(about: About, said: Receipt, reader: Recipient = to) -> str:
        subject = Subject(about=about, receipt=said, payment_id=str(UUID(int=1)), file=b"")
        return payment_message(subject, reader, site="dues.example").html

    latin = receipt(SAMPLES[0])
    save("mail", browser.draw(mail("confirmation", latin), DESKTOP))
    others = [browser.draw(mail("confirmation", receipt(sample)), PHONE) for sample in SAMPLES]
    save("mail-phone", sheet(others, 4))
    unnumbered = receipt(SAMPLES[0], number="")
    more = [
        mail("refunded", refund(SAMPLES[0])),
        mail("failed", unnumbered),
        mail("requires_action", unnumbered),
        mail("received", unnumbered),
        mail("confirmation", latin, nobody),
    ]
    save("mail-others", sheet([browser.draw(each, PHONE) for each in more], 5))


class Browser:
    """Chromium with only Noto's fonts, so that pictures look the same everywhere."""

    def __init__(self, command: str, home: Path) -> None:
        self._command, self._home = command, home
        directories = "".join(f"<dir>{html.escape(folder)}</dir>" for folder in folders(""))
        (home / "fonts.conf").write_text(
            f"<fontconfig>{directories}<cachedir>{home}/cache</cachedir><alias><family>sans-serif</family>"
            "<prefer><family>Noto Sans</family></prefer></alias></fontconfig>"
        )

    def draw(self, document: str, width: int) -> Image.Image:
        """A mail in a window of this `width`. Raises: AssertionError if something exceeds the width."""
        # In a frame, because a window cannot be as narrow as a phone.
        measure = (
            "const d=f.contentDocument.documentElement;f.height=d.scrollHeight;"
            "document.title=d.scrollWidth>f.clientWidth?'too wide':'fits'"
        )
        framed = (
            f'<body style="margin:0"><iframe id="f" width="{width}" height="10" frameborder="0" '
            f'onload="{measure}" srcdoc="{html.escape(document)}"></iframe>'
        )
        source, picture = self._home / "mail.html", self._home / "mail.png"
        source.write_text(f"<!doctype html><meta charset=utf-8>{framed}")
        dumped = self._run("--dump-dom", source)
        assert "<title>fits</title>" in dumped, "something in the mail is wider than its window"
        self._run(f"--screenshot={picture}", source, f"--window-size={max(width, 500)},2400")
        shown = Image.open(io.BytesIO(picture.read_bytes())).convert("RGB")
        height = int(dumped.partition('height="')[2].partition('"')[0])
        return shown.crop((0, 0, width, min(height, shown.height)))

    def _run(self, action: str, source: Path, *options: str) -> str:
        command = [self._command, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", action, *options]
        environ = os.environ | {"FONTCONFIG_FILE": str(self._home / "fonts.conf"), "HOME": str(self._home)}
        done = subprocess.run(
            [*command, source.as_uri()], env=environ, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout


def page(content: bytes, scale: float, number: int = 0) -> Image.Image:
    """A page of a PDF."""
    drawn: Image.Image = pypdfium2.PdfDocument(content)[number].render(scale=scale).to_pil()
    return drawn.convert("RGB")


def sheet(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Several pictures arranged in columns."""
    gap, width = 8, max(picture.width for picture in pictures)
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    whole = Image.new("RGB", (columns * (width + gap) + gap, sum(heights) + (len(rows) + 1) * gap), "#c9ced6")
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for place, picture in enumerate(row):
            whole.paste(picture, (gap + place * (width + gap), top))
        top += height + gap
    return whole


def save(name: str, picture: Image.Image) -> None:
    small = picture.quantize(_COLOURS, dither=Image.Dither.NONE)
    small.save(FOLDER / f"{name}.png", optimize=True)


def _foot(picture: Image.Image) -> int:
    """The position below the last text of a page, above its footer."""
    body = picture.crop((0, 0, picture.width, picture.height * 91 // 100)).convert("L").point(lambda dot: dot < 200)
    box = body.getbbox()
    return (box[3] if box else 0) + 24


if __name__ == "__main__":
    sys.exit(main())
