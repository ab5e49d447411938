"""Packages that a store brings along. Part of the caller's transaction."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from dues.errors import Problem
from dues.imports.context import Importer, Outcomes
from dues.imports.rows import PackageRow, Refusal, refusal_of
from dues.packages.service import NewPackage, PackageChange, change_package, create_package, get_package

_CURRENCY = Refusal("choice", "/currency: is not a currency that the store takes", "/currency")


def create_packages(store: Importer, rows: Sequence[PackageRow]) -> Outcomes:
    return {row.external_id: _create(store, row) for row in rows}


def _create(store: Importer, row: PackageRow) -> UUID | Refusal:
    if row.currency and row.currency not in store.currencies:
        return _CURRENCY
    try:
        return create_package(store.store_id, NewPackage(**_fields(row)))
    except Problem as problem:
        return refusal_of(problem)


def update_package(store: Importer, package_id: UUID, row: PackageRow) -> Refusal | None:
    """It becomes what the row says. Those who bought it before keep what they bought."""
    if row.currency and row.currency not in store.currencies:
        return _CURRENCY
    fields = _fields(row)
    try:
        change_package(
            get_package(store.store_id, package_id), PackageChange(**fields | {"currency": row.currency or UNSET})
        )
    except Problem as problem:
        return refusal_of(problem)
    return None


def _fields(row: PackageRow) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in msgspec.structs.fields(NewPackage)}
