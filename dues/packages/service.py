"""Writing packages: posted, changed, archived. Each function is part of its caller's transaction."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from dues.chosen_ids import id_of_new
from dues.clock import now
from dues.errors import Conflict, NotFound, ValidationFailed
from dues.events import EventType, emit
from dues.money import Amount, Currency, format_money
from dues.packages.models import Package
from dues.packages.reads import packages
from dues.postgres import db, run_later
from dues.reads.tags import touch
from dues.stores.models import Store
from dues.stores.service import wrong_currency
from dues.text import OneLine, Paragraphs

Name = Annotated[OneLine, Meta(min_length=1, max_length=200)]
Description = Annotated[Paragraphs, Meta(max_length=5000)]
TrialDays = Annotated[int, Meta(ge=0, le=730)]
Interval = Literal["once", "week", "month", "year"]
IntervalCount = Annotated[int, Meta(ge=1, le=24)]


_TAKEN = "select from packages where id = %(id)s::uuid"
_CREATE = """
    insert into packages(store_id, id, name, description, amount, currency, interval, interval_count, trial_days,
        version, created_at, updated_at)
    select s.id, %(id)s::uuid, %(name)s::text, %(description)s::text, %(amount)s::bigint,
        coalesce(%(currency)s::char(3), s.currency), %(interval)s::text, %(interval_count)s::smallint,
        %(trial_days)s::integer, 1, %(now)s::timestamptz, %(now)s::timestamptz
    from stores s where s.id = %(store_id)s
"""


class NewPackage(Struct, forbid_unknown_fields=True):
    """A package to sell; its currency is the store's unless said otherwise. It is paid every `interval_count`
    intervals: 3 months are a quarter."""

    name: Name
    amount: Amount
    interval: Interval
    description: Description = ""
    interval_count: IntervalCount = 1
    currency: Currency | None = None
    trial_days: TrialDays = 0


class PackageChange(Struct, forbid_unknown_fields=True):
    """What of a package may change. Those who bought it before keep what they bought."""

    name: Name | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    amount: Amount | UnsetType = UNSET
    interval: Interval | UnsetType = UNSET
    interval_count: IntervalCount | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    trial_days: TrialDays | UnsetType = UNSET


def create_package(store_id: UUID, new: NewPackage, chosen_id: UUID | None = None) -> UUID:
    """Returns: its id. It goes to PostgreSQL with the next statement, such as the one that reads it, so that creating
    many takes few round trips. `new.currency` is one that the store takes.

    Raises: ValidationFailed for what is sold once and has a count of intervals; Conflict for a chosen id that is taken.
    """
    _check_interval(new.interval, new.interval_count)
    package_id = id_of_new(chosen_id, "package", store_id, _TAKEN, {})
    run_later(_CREATE, asdict(new) | {"store_id": str(store_id), "id": str(package_id), "now": now()})
    _changed(store_id, package_id, "package.created")
    return package_id


def get_package(store_id: UUID, package_id: UUID) -> Package:
    """The package, locked for this transaction. Raises: NotFound."""
    package = db.session.get(Package, (store_id, package_id), with_for_update=True)
    if package is None:
        raise NotFound("there is no such package")
    return package


def change_package(package: Package, change: PackageChange) -> None:
    """Raises: Conflict once it is archived; ValidationFailed for a currency that the store does not take, or for what
    is sold once and has a count of intervals."""
    if package.archived_at:
        raise Conflict("the package is archived", code="package_archived")
    if change.currency is not UNSET and not db.session.get_one(Store, package.store_id).takes(change.currency):
        raise wrong_currency("#/currency")
    package.apply(change)
    _check_interval(package.interval, package.interval_count)
    _changed(package.store_id, package.id, "package.updated")


def archive_package(package: Package) -> None:
    """No longer sold; payments and subscriptions keep it. Archiving it again changes nothing."""
    if package.archived_at is None:
        package.archived_at = now()
        _changed(package.store_id, package.id, "package.archived")


def require_price(package: Package, amount: int, currency: str | UnsetType) -> None:
    """Raises: Conflict where the price is another than the one that a buyer has seen."""
    if (amount, currency) != (package.amount, package.currency):
        raise Conflict(
            f"the package costs {format_money(package.amount, package.currency)} now",
            code="price_changed",
            amount=package.amount,
            currency=package.currency,
            version=package.version,
        )


def _check_interval(interval: str, count: int) -> None:
    if interval == "once" and count != 1:
        raise ValidationFailed.of("#/interval_count", "must be 1 for what is sold once", "conflict")


def _changed(store_id: UUID, package_id: UUID, event_type: EventType) -> None:
    touch(f"store:{store_id}:packages", "packages")
    emit(store_id, event_type, packages, {"store_id": store_id, "id": package_id})
