"""Writing addresses. Each function is part of its caller's transaction.

At most one address of a user is the default: making one so ends it for the other.
"""

import re
from typing import Annotated
from uuid import UUID

from iso3166 import countries_by_alpha2
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict
from sqlalchemy import update
from stdnum.eu import vat as eu_vat
from stdnum.exceptions import ValidationError as StdnumError

from dues.accounts.models import Address, lock_user
from dues.accounts.telling import tell_cells
from dues.chosen_ids import id_of_new
from dues.errors import InvalidValue, NotFound
from dues.pdf.language import Language, words_of
from dues.postgres import db
from dues.reads.tags import touch
from dues.text import OneLine

Label = Annotated[OneLine, Meta(max_length=100)]
Line = Annotated[OneLine, Meta(min_length=1, max_length=200)]
PostalCode = Annotated[OneLine, Meta(min_length=1, max_length=20)]


def _existing(code: str) -> str:
    if code not in countries_by_alpha2:
        raise InvalidValue("choice", "is not a country of ISO 3166-1")
    return code


# XK is among them: ISO leaves it to its users, who take it for Kosovo.
Country = Annotated[
    str, Meta(pattern=r"^[A-Z]{2}$(?!\n)", description="ISO 3166-1 alpha-2 code", extra={"normalize": _existing})
]


def _vat_id(text: str) -> str:
    """Without what people put between its characters. Those of the European Union have check digits, which are
    checked; what others look like is theirs to say."""
    found = re.sub(r"[ .\-/]", "", text).upper()
    if not re.fullmatch(r"(?=[A-Z]*[0-9])[A-Z0-9+*]{4,30}", found, re.ASCII):
        raise InvalidValue("pattern", "must be a VAT number: letters and digits, such as DE136695976")
    if found[:2] not in _EU_PREFIXES:
        return found
    try:
        return str(eu_vat.validate(found))
    except StdnumError:
        raise InvalidValue("pattern", f"is no VAT number of {found[:2]}: a character is wrong or missing") from None


_EU_PREFIXES = frozenset("AT BE BG CY CZ DE DK EE EL ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split())
VatId = Annotated[
    str,
    Meta(
        max_length=40,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 .+*/-]*$(?!\n)",
        description="VAT number, such as DE136695976",
        extra={"normalize": _vat_id},
    ),
]

_TAKEN = "select from addresses where user_id = %(user_id)s::uuid and id = %(id)s::uuid"


class NewAddress(Struct, forbid_unknown_fields=True):
    """`company` and `tax_id` are printed on invoices and receipts when the address is the default."""

    line1: Line
    city: Line
    country: Country
    label: Label = ""
    line2: Line | None = None
    region: Line | None = None
    postal_code: PostalCode | None = None
    company: Line | None = None
    tax_id: VatId | None = None
    is_default: bool = False


class AddressChange(Struct, forbid_unknown_fields=True):
    line1: Line | UnsetType = UNSET
    city: Line | UnsetType = UNSET
    country: Country | UnsetType = UNSET
    label: Label | UnsetType = UNSET
    line2: Line | UnsetType | None = UNSET
    region: Line | UnsetType | None = UNSET
    postal_code: PostalCode | UnsetType | None = UNSET
    company: Line | UnsetType | None = UNSET
    tax_id: VatId | UnsetType | None = UNSET
    is_default: bool | UnsetType = UNSET


# Where the postal code stands behind the city.
_CODE_LAST = frozenset("AU CA GB HK IE IN NZ SG TW US ZA".split())


def address_lines(
    *,
    line1: str | None = None,
    line2: str | None = None,
    city: str | None = None,
    region: str | None = None,
    postal_code: str | None = None,
    country: str | None = None,
    company: str | None = None,
    tax_id: str | None = None,
    language: Language = "en",
) -> list[str]:
    """An address as it is printed, the country and what a tax id is called in a language; what is not there is left
    out."""
    words = words_of(language)
    if country in _CODE_LAST:
        place = " ".join(part for part in (f"{city}," if city and region else city, region, postal_code) if part)
    else:
        place = " ".join(part for part in (postal_code, city) if part)
        place += f", {region}" if region else ""
    tax = words("Tax ID {id}", id=tax_id) if tax_id else None
    return [line for line in (company, line1, line2, place, words.country(country), tax) if line]


def create_address(user_id: UUID, new: NewAddress, chosen_id: UUID | None = None) -> Address:
    """Raises: Conflict for a chosen id that is taken."""
    address_id = id_of_new(chosen_id, "address", user_id, _TAKEN, {"user_id": str(user_id)})
    if new.is_default:
        _end_default(user_id)
    address = Address(user_id=user_id, id=address_id, **asdict(new))
    db.session.add(address)
    touch(f"user:{user_id}")
    tell_cells(user_id, counts=True)
    return address


def get_address(user_id: UUID, address_id: UUID) -> Address:
    """The address, locked for this transaction. Raises: NotFound."""
    # The user first, as whoever makes an address the default does: in one order nobody deadlocks.
    lock_user(user_id)
    address = db.session.get(Address, (user_id, address_id), with_for_update=True)
    if address is None:
        raise NotFound("there is no such address")
    return address


def change_address(address: Address, change: AddressChange) -> None:
    if change.is_default is True and not address.is_default:
        _end_default(address.user_id)
    address.apply(change)
    touch(f"user:{address.user_id}")
    tell_cells(address.user_id, counts=True)


def delete_address(address: Address) -> None:
    db.session.delete(address)
    touch(f"user:{address.user_id}")
    tell_cells(address.user_id, counts=True)


def _end_default(user_id: UUID) -> None:
    # Under the lock on the user: of two addresses made the default at once, the later one stays it.
    lock_user(user_id)
    db.session.execute(
        update(Address)
        .where(Address.user_id == user_id, Address.is_default)
        .values(is_default=False, version=Address.version + 1)
        .execution_options(synchronize_session=False)
    )
