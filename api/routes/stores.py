"""Stores, which anybody may found and read, their staff, which their owners appoint, and the clocks of test stores."""

from hashlib import sha256
from typing import Any
from uuid import UUID

from api.auth import PUBLIC
from api.cells.entrance import id_for_new_store
from api.downloads import file_content
from api.reply import Reply, no_content
from api.routing import Call, Routes
from dues.errors import NotFound
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.settings import settings
from dues.social.visibility import is_hidden
from dues.stores import clock, logo, service
from dues.stores import staff as staff_service
from dues.stores.clock import ClockTime
from dues.stores.logo import NewLogo
from dues.stores.models import Staff, Store
from dues.stores.reads import clocks, staff, stores
from dues.stores.service import NewStore, StoreChange
from dues.stores.staff import StaffRole

routes = Routes(
    "stores",
    examples={
        "advancing_to": None,
        "contact_email": "hello@north-coast.example",
        "currencies": ["EUR", "CHF"],
        "grace_days": 7,
        "invoice_note": "Thank you for climbing with us.",
        "invoice_prefix": "NCC",
        "legal_name": "North Coast Climbing GmbH",
        "NewStore.name": "North Coast Climbing",
        "StoreChange.name": "North Coast Climbing",
        "Staff.name": "Ada Lovelace",
        "Store.name": "North Coast Climbing",
        "NewStore.timezone": "Europe/Berlin",
        "now": "2027-11-20T14:39:00Z",
        "notify_new_payment": True,
        "role": "support",
        "slug": "north-coast",
        "StoreChange.slug": "north-coast-climbing",
        "Store.tax_id": "DE123456789",
        "StoreChange.tax_id": "DE123456789",
        "test": False,
        "website": "https://north-coast.example",
        "content": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
        "language": "de",
        "paper": "a4",
        "tax_rate": 190000,
    },
)
LIST, ONE = "/v1/stores", "/v1/stores/{store_id}"
CLOCK, LOGO = "/v1/stores/{store_id}/clock", "/v1/stores/{store_id}/logo"
STAFF, STAFF_ONE = "/v1/stores/{store_id}/staff", "/v1/stores/{store_id}/staff/{user_id}"


def _store(call: Call) -> Store:
    return service.lock_store(call.ids["store_id"])


@routes.get(LIST, PUBLIC, lists=stores)
def list_stores(call: Call) -> ReadPlan:
    return call.list(stores, {})


@routes.post(LIST, "catalog:write", unbound=True, body=NewStore, returns=stores)
def create_store(call: Call) -> Reply:
    given_id = id_for_new_store(settings(), call.request)
    store_id = service.create_store(call.actor.user_id, call.data, given_id)
    return call.created(stores, {"id": store_id})


@routes.get(ONE, PUBLIC, reads=stores)
def get_store(call: Call, store_id: UUID) -> ReadPlan:
    return call.one(stores, {"id": store_id})


@routes.patch(ONE, "catalog:write", role="owner", find=_store, body=StoreChange, returns=stores)
def change_store(call: Call, store_id: UUID) -> Reply:
    call.match(call.row.version)
    service.change_store(call.row, call.data)
    return call.written(stores, {"id": store_id})


IMAGE: dict[int, dict[str, Any]] = {
    200: {"description": "The logo", "content": file_content("image/png")},
    304: {"description": "Not modified: what you have still holds"},
}


def _draw_logo(call: Call) -> bytes:
    # Only for those who may use it.
    call.access.require_role("manager")
    return logo.draw(call.data)


@routes.get(LOGO, PUBLIC, responses=IMAGE)
def get_logo(call: Call, store_id: UUID) -> Reply:
    """A store's logo, as PNG"""
    content = logo.find_logo(store_id)
    if not content:
        raise NotFound("this store has no logo")
    headers = {
        "ETag": f'"{sha256(content).hexdigest()}"',
        "Cache-Control": "public, no-cache",
        "Content-Disposition": 'inline; filename="logo.png"',
    }
    return Reply(content, 200, headers, "image/png")


@routes.put(LOGO, "catalog:write", role="manager", find=_store, prepare=_draw_logo, body=NewLogo, returns=stores)
def set_logo(call: Call, store_id: UUID) -> Reply:
    """Have a logo on receipts and invoices"""
    call.match(call.row.version, call.row.logo_sha256)
    logo.set_logo(call.row, call.prepared)
    return call.written(stores, {"id": store_id})


@routes.delete(LOGO, "catalog:write", role="manager", find=_store)
def remove_logo(call: Call, store_id: UUID) -> Reply:
    """Have none any more"""
    call.match(call.row.version, call.row.logo_sha256)
    logo.remove_logo(call.row)
    return no_content()


def _removable(call: Call) -> Staff:
    """Everybody may leave: nobody has to ask whoever has appointed them."""
    if call.ids["user_id"] != call.actor.user_id:
        call.access.require_role("owner")
    return staff_service.get_staff(call.ids["store_id"], call.ids["user_id"])


def _role(call: Call) -> Staff | None:
    """Whoever has a block with the caller is not there to be appointed: the staff see all that a store posts."""
    staff = staff_service.find_role(call.ids["store_id"], call.ids["user_id"])
    if staff is None and is_hidden(call.viewer, call.ids["user_id"]):
        raise NotFound("there is no such user")
    return staff


@routes.get(STAFF, "catalog:read", role="support", lists=staff)
def list_staff(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(staff, {"store_id": store_id})


@routes.get(STAFF_ONE, "catalog:read", role="support", reads=staff)
def get_staff(call: Call, store_id: UUID, user_id: UUID) -> ReadPlan:
    return call.one(staff, {"store_id": store_id, "user_id": user_id})


@routes.put(STAFF_ONE, "catalog:write", role="owner", find=_role, body=StaffRole, returns=staff)
def set_role(call: Call, store_id: UUID, user_id: UUID) -> Reply:
    """Add somebody to the staff, or change their role"""
    call.match(call.row.version if call.row else None)
    # It may be the caller's own.
    call.hold()
    staff_service.set_role(store_id, user_id, call.data.role)
    return call.written(staff, {"store_id": store_id, "user_id": user_id})


@routes.delete(STAFF_ONE, "catalog:write", role="support", find=_removable)
def remove_staff(call: Call, store_id: UUID, user_id: UUID) -> Reply:
    """Remove somebody from the staff, or leave it; the last owner stays"""
    call.match(call.row.version)
    call.hold()
    staff_service.remove_staff(call.row)
    return no_content()


def _moved(call: Call, store_id: UUID) -> Scope:
    return {"store_id": store_id}


@routes.get(CLOCK, "subscriptions:read", role="support", reads=clocks)
def get_clock(call: Call, store_id: UUID) -> ReadPlan:
    """A test store's clock"""
    return call.one(clocks, {"store_id": store_id})


@routes.put(
    CLOCK,
    "subscriptions:write",
    role="manager",
    body=ClockTime,
    returns=clocks,
    slow=_moved,
    statuses=(202, 201),
    moves_clock=True,
)
def move_clock(call: Call, store_id: UUID) -> Reply:
    """Move a test store's clock

    Forward only, over any distance. A job does all that falls due on the way, in its order; until it is done, other
    writes to the store are refused.
    """
    return call.accepted(store_id, clock.move_clock(store_id, call.actor.user_id, call.data.now))
