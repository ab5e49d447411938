"""Writing addresses. Each function is part of its caller's transaction.

At most one address of a user is the default: making one so ends it for the other.
"""

from typing import Annotated
from uuid import UUID

from iso3166 import countries_by_alpha2
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict
from sqlalchemy import update

from dues.accounts.models import Address, lock_user
from dues.errors import InvalidValue, NotFound
from dues.ids import new_id
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


class NewAddress(Struct, forbid_unknown_fields=True):
    line1: Line
    city: Line
    country: Country
    label: Label = ""
    line2: Line | None = None
    region: Line | None = None
    postal_code: PostalCode | None = None
    is_default: bool = False


class AddressChange(Struct, forbid_unknown_fields=True):
    line1: Line | UnsetType = UNSET
    city: Line | UnsetType = UNSET
    country: Country | UnsetType = UNSET
    label: Label | UnsetType = UNSET
    line2: Line | UnsetType | None = UNSET
    region: Line | UnsetType | None = UNSET
    postal_code: PostalCode | UnsetType | None = UNSET
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
) -> list[str]:
    """An address as it is printed, the country by its English name; what is not there is left out."""
    if country in _CODE_LAST:
        place = " ".join(part for part in (f"{city}," if city and region else city, region, postal_code) if part)
    else:
        place = " ".join(part for part in (postal_code, city) if part)
        place += f", {region}" if region else ""
    known = countries_by_alpha2.get(country or "")
    return [line for line in (line1, line2, place, known.name if known else country) if line]


def create_address(user_id: UUID, new: NewAddress) -> Address:
    if new.is_default:
        _end_default(user_id)
    address = Address(user_id=user_id, id=new_id(), **asdict(new))
    db.session.add(address)
    touch(f"user:{user_id}")
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


def delete_address(address: Address) -> None:
    db.session.delete(address)
    touch(f"user:{address.user_id}")


def _end_default(user_id: UUID) -> None:
    # Under the lock on the user: of two addresses made the default at once, the later one stays it.
    lock_user(user_id)
    db.session.execute(
        update(Address)
        .where(Address.user_id == user_id, Address.is_default)
        .values(is_default=False, version=Address.version + 1)
        .execution_options(synchronize_session=False)
    )
