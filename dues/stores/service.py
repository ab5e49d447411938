"""Writing stores: founded, changed. Each function is part of its caller's transaction."""

import re
import secrets
import unicodedata
import zoneinfo
from functools import cache
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import asdict
from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert

from dues.accounts.addresses import Country
from dues.accounts.fields import Email, Name
from dues.errors import Conflict, InvalidValue, NotFound, ValidationFailed
from dues.ids import new_id
from dues.money import MINOR_DIGITS, Currency
from dues.pdf.language import Language, Paper
from dues.postgres import db
from dues.postgres.constraints import take_turns
from dues.reads.tags import record_change, touch
from dues.stores.clock import start_clock
from dues.stores.models import Staff, Store
from dues.stores.seller import InvoiceNote, InvoicePrefix, LegalName, SellerAddress, TaxId, TaxRate, Website

MAX_SLUG = 63

Slug = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_SLUG,
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$(?!\n)",
        description="lower-case letters and digits in words joined by hyphens",
    ),
]


@cache
def _zones() -> frozenset[str]:
    """Those that mean the same on every machine."""
    return frozenset(zoneinfo.available_timezones()) - {"localtime", "posixrules", "Factory"}


def _known_zone(name: str) -> str:
    if name not in _zones():
        raise InvalidValue("choice", "is not the IANA name of a time zone")
    return name


TimeZone = Annotated[
    str,
    Meta(
        max_length=64,
        pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)",
        description="IANA name of a time zone, such as Europe/Berlin",
        extra={"normalize": _known_zone},
    ),
]
Currencies = Annotated[list[Currency], Meta(max_length=len(MINOR_DIGITS))]
GraceDays = Annotated[int, Meta(ge=0, le=21)]
Dunning = Literal["cancel", "stay"]


class NewStore(Struct, forbid_unknown_fields=True):
    """A store; without a slug it gets one made of its name. `currency` is what its prices are in unless they say; it
    takes payments in others only where `currencies` lists them. `timezone` is where its members' days and hours are
    those of. A `test` store has a clock of its own, which can be moved, and nobody pays real money there. When a
    renewal was tried in vain for a week, `dunning` says whether the subscription is canceled or stays; its member keeps
    access for `grace_days`."""

    name: Name
    currency: Currency
    currencies: Currencies = field(default_factory=list)
    slug: Slug | None = None
    timezone: TimeZone = "UTC"
    test: bool = False
    dunning: Dunning = "cancel"
    grace_days: GraceDays = 7
    language: Language = "en"


class StoreChange(Struct, forbid_unknown_fields=True):
    """What is to change. From `legal_name` to `invoice_note` it is what receipts and invoices say about the seller, to
    everybody; null takes it away. They are in the store's `language`, on `paper` as is usual in its `country` where
    none is chosen, and say what tax is included in what was paid: `tax_rate` is in parts per million, 190000 is 19 %.
    `notify_new_payment`: the store's owners get a mail for each payment."""

    name: Name | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    currencies: Currencies | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    timezone: TimeZone | UnsetType = UNSET
    dunning: Dunning | UnsetType = UNSET
    grace_days: GraceDays | UnsetType = UNSET
    legal_name: LegalName | UnsetType | None = UNSET
    address: SellerAddress | UnsetType | None = UNSET
    country: Country | UnsetType | None = UNSET
    tax_id: TaxId | UnsetType | None = UNSET
    contact_email: Email | UnsetType | None = UNSET
    website: Website | UnsetType | None = UNSET
    invoice_prefix: InvoicePrefix | UnsetType | None = UNSET
    invoice_note: InvoiceNote | UnsetType | None = UNSET
    notify_new_payment: bool | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    paper: Paper | UnsetType | None = UNSET
    tax_rate: TaxRate | UnsetType = UNSET


def create_store(user_id: UUID, new: NewStore, given_id: UUID | None = None) -> UUID:
    """A store owned by `user_id`, with an id that was given out for it, or a new one. Returns: its id. Raises: Conflict
    where the slug is taken, or the store is there already."""
    if given_id and db.session.get(Store, given_id):
        raise Conflict("the store that was asked for with this key is there already", code="already_made")
    store_id, slug = given_id or new_id(), new.slug or _free_slug(new.name)
    values = asdict(new) | {"id": store_id, "owner_id": user_id, "slug": slug}
    if db.session.scalar(insert(Store).values(values).on_conflict_do_nothing().returning(Store.id)) is None:
        raise _slug_taken()
    db.session.add(Staff(store_id=store_id, user_id=user_id, id=new_id(), role="owner"))
    if new.test:
        start_clock(store_id)
    touch("stores", f"store:{store_id}", f"user:{user_id}", f"user:{user_id}:sees")
    return store_id


def lock_store(store_id: UUID) -> Store:
    """The store, locked for this transaction against other changes of it and its staff; rows that merely refer to it
    (a payment, say) can be written meanwhile. Raises: NotFound."""
    store = db.session.get(Store, store_id, with_for_update={"key_share": True})
    if store is None:
        raise NotFound("there is no such store")
    return store


def change_store(store: Store, change: StoreChange) -> None:
    """Subscriptions that run keep their time zone, and members in arrears the days of grace that they were promised.

    Raises: Conflict where the slug is taken.
    """
    if change.slug not in (UNSET, store.slug):
        assert isinstance(change.slug, str)
        take_turns("stores.slug", change.slug)
        if _is_taken(change.slug):
            raise _slug_taken()
    store.apply(change)
    touch("stores", f"store:{store.id}")
    record_change(store.id)


def wrong_currency(pointer: str) -> ValidationFailed:
    """For a price or a payment in a currency that the store does not take."""
    return ValidationFailed.of(pointer, "is in a currency that this store does not take", "choice")


def _is_taken(slug: str) -> bool:
    return bool(db.session.scalar(select(exists().where(Store.slug == slug))))


def _slug_taken() -> Conflict:
    return Conflict("another store has this slug", code="slug_taken")


def _free_slug(name: str) -> str:
    """A slug made of a name, with something random behind where there is nothing to make it of or it is taken."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = "-".join(re.findall(r"[a-z0-9]+", ascii_name)) or "store"
    slug = slug[: MAX_SLUG - 7].strip("-")
    if slug != "store":
        take_turns("stores.slug", slug)
        if not _is_taken(slug):
            return slug
    return f"{slug}-{secrets.token_hex(3)}"
