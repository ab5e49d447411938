"""Who sells: what a store prints on receipts and invoices about itself."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from dues.accounts.addresses import Line, PostalCode, address_lines
from dues.money import MILLION
from dues.pdf.language import Language
from dues.text import OneLine, Paragraphs

LegalName = Annotated[OneLine, Meta(min_length=1, max_length=200, description="as in the register, where there is one")]
TaxId = Annotated[OneLine, Meta(min_length=1, max_length=50, description="VAT number or the like")]
Website = Annotated[
    str,
    Meta(
        max_length=200,
        # What a browser would take for the site, and nothing that only looks like it.
        pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?$(?!\n)",
        description="URL that begins with http:// or https://",
    ),
]
InvoicePrefix = Annotated[
    str,
    Meta(
        max_length=12,
        pattern=r"^[A-Z0-9]+(-[A-Z0-9]+)*$(?!\n)",
        description="what the numbers of receipts and invoices begin with, e.g. KES",
    ),
]
TaxRate = Annotated[
    int, Meta(ge=0, le=MILLION, description="tax that prices include, in parts per million: 190000 is 19 %")
]
InvoiceNote = Annotated[Paragraphs, Meta(min_length=1, max_length=1000, description="printed at the end of each")]


class SellerAddress(Struct, forbid_unknown_fields=True):
    """Where the seller is; `country` stands beside it."""

    line1: Line
    city: Line
    line2: Line | None = None
    region: Line | None = None
    postal_code: PostalCode | None = None


ADDRESS_SCHEMA: dict[str, Any] = {
    "type": ["object", "null"],
    "properties": {
        "line1": {"type": "string"},
        "line2": {"type": ["string", "null"]},
        "city": {"type": "string"},
        "region": {"type": ["string", "null"]},
        "postal_code": {"type": ["string", "null"]},
    },
}


def seller_lines(
    name: str,
    legal_name: str | None,
    address: dict[str, Any] | None,
    country: str | None,
    tax_id: str | None,
    language: Language = "en",
) -> list[str]:
    """The lines below the store's name on its documents."""
    lines = [legal_name] if legal_name and legal_name != name else []
    return lines + address_lines(**address or {}, country=country, tax_id=tax_id, language=language)
