"""Packages: the public catalogue of a store, kept by its managers."""

from uuid import UUID

from api.auth import PUBLIC
from api.reply import Reply
from api.routing import Call, Routes
from dues.packages import service
from dues.packages.models import Package
from dues.packages.reads import packages
from dues.packages.service import NewPackage, PackageChange
from dues.reads import ReadPlan
from dues.stores.service import wrong_currency

routes = Routes(
    "packages",
    examples={
        "archived_at": None,
        "trial_days": 14,
    },
)
LIST, ONE = "/v1/stores/{store_id}/packages", "/v1/stores/{store_id}/packages/{package_id}"


def _find(call: Call) -> Package:
    return service.get_package(call.ids["store_id"], call.ids["package_id"])


@routes.get(LIST, PUBLIC, lists=packages)
def list_packages(call: Call, store_id: UUID) -> ReadPlan:
    if call.query and call.query.flag("archived"):
        call.require("catalog:read", "support")
    return call.list(packages, {"store_id": store_id})


@routes.post(LIST, "catalog:write", role="manager", body=NewPackage, returns=packages, takes_id=True)
def create_package(call: Call, store_id: UUID) -> Reply:
    if call.data.currency and call.data.currency not in call.access.currencies:
        raise wrong_currency("#/currency")
    package_id = service.create_package(store_id, call.data, call.given_id)
    return call.created(packages, {"store_id": store_id, "id": package_id})


@routes.get(ONE, PUBLIC, reads=packages)
def get_package(call: Call, store_id: UUID, package_id: UUID) -> ReadPlan:
    return call.one(packages, {"store_id": store_id, "id": package_id})


@routes.patch(ONE, "catalog:write", role="manager", find=_find, body=PackageChange, returns=packages)
def change_package(call: Call, store_id: UUID, package_id: UUID) -> Reply:
    call.match(call.row.version)
    service.change_package(call.row, call.data)
    return call.written(packages, {"store_id": store_id, "id": package_id})


@routes.delete(ONE, "catalog:write", role="manager", find=_find, returns=packages, statuses=(200,))
def archive_package(call: Call, store_id: UUID, package_id: UUID) -> Reply:
    call.match(call.row.version)
    service.archive_package(call.row)
    return call.written(packages, {"store_id": store_id, "id": package_id})
