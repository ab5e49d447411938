"""Users: signing up, one's own account and its addresses, and public profiles."""

from uuid import UUID

from api.auth import PUBLIC, require_scope
from api.reply import Reply, no_content
from api.routing import Call, Routes
from dues.accounts import addresses as addresses_service
from dues.accounts import users as users_service
from dues.accounts.addresses import AddressChange, NewAddress
from dues.accounts.models import Address, User, lock_user
from dues.accounts.reads import addresses
from dues.accounts.users import CheckedChange, NewUser, UserChange
from dues.errors import Unsupported
from dues.profiles.reads import me, profiles
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.settings import settings

routes = Routes(
    "accounts",
    examples={
        "email_verified": True,
        "label": "Home",
        "company": "Lovelace GmbH",
        "NewAddress.tax_id": "DE136695976",
        "AddressChange.tax_id": "DE136695976",
        "Address.tax_id": "DE136695976",
        "Me.name": "Ada Lovelace",
        "NewUser.name": "Ada Lovelace",
        "UserChange.name": "Ada Lovelace",
        "Profile.name": "Ada Lovelace",
        "current_password": "the passphrase until now",
    },
    bodies={
        "UserChange": {
            "a name": {"name": "Ada Lovelace"},
            "a password": {"password": "a long enough passphrase", "current_password": "the passphrase until now"},
        },
    },
)
ME = "/v1/me"
ADDRESSES, ADDRESS = "/v1/me/addresses", "/v1/me/addresses/{address_id}"


def _myself(call: Call) -> User:
    return lock_user(call.actor.user_id)


def _scope(call: Call) -> Scope:
    return {"id": call.actor.user_id, "only_store": call.actor.store_id}


@routes.post(
    "/v1/users",
    PUBLIC,
    prepare=lambda call: users_service.check_new_user(call.data),
    body=NewUser,
    returns=me,
    limit="login",
)
def sign_up(call: Call) -> Reply:
    """Sign up

    Log in next, with `POST /v1/tokens`, and have the address verified, with `POST /v1/me/email-verifications`.
    """
    user_id = users_service.sign_up(call.data, call.prepared)
    return call.created(me, {"id": user_id, "only_store": None})


@routes.get("/v1/users/{user_id}", PUBLIC, reads=profiles)
def get_user(call: Call, user_id: UUID) -> ReadPlan:
    """A public profile"""
    return call.one(profiles, {**call.viewer.scope, "id": user_id})


@routes.get(ME, "account:read", reads=me)
def get_me(call: Call) -> ReadPlan:
    """My account

    What is included needs the scope to read it: `payments:read` for `include=payments`.
    """
    assert call.query
    if call.query.selection.includes and settings().cells:
        raise Unsupported("what is included is in several cells: ask each store")
    for name, _ in call.query.selection.includes:
        # What is included is named as the scope that reads it elsewhere.
        require_scope(call.actor, f"{name}:read")
    return call.one(me, _scope(call))


def _check_change(call: Call) -> CheckedChange:
    return users_service.check_change(call.actor.user_id, call.data)


@routes.patch(ME, "account:write", unbound=True, find=_myself, prepare=_check_change, body=UserChange, returns=me)
def change_me(call: Call) -> Reply:
    """Change name, e-mail or password

    A new e-mail or password needs `current_password`, and the address that the account has is told by mail. A new
    e-mail is not verified. A new password revokes every other token.
    """
    call.match(call.row.version)
    users_service.change_user(call.row, call.data, call.prepared, token_id=call.actor.token_id)
    return call.written(me, _scope(call))


def _address(call: Call) -> Address:
    return addresses_service.get_address(call.actor.user_id, call.ids["address_id"])


@routes.get(ADDRESSES, "account:read", lists=addresses)
def list_addresses(call: Call) -> ReadPlan:
    return call.list(addresses, {"user_id": call.actor.user_id})


@routes.post(ADDRESSES, "account:write", unbound=True, body=NewAddress, returns=addresses, takes_id=True)
def create_address(call: Call) -> Reply:
    address = addresses_service.create_address(call.actor.user_id, call.data, call.given_id)
    return call.created(addresses, {"user_id": address.user_id, "id": address.id})


@routes.get(ADDRESS, "account:read", reads=addresses)
def get_address(call: Call, address_id: UUID) -> ReadPlan:
    return call.one(addresses, {"user_id": call.actor.user_id, "id": address_id})


@routes.patch(ADDRESS, "account:write", unbound=True, find=_address, body=AddressChange, returns=addresses)
def change_address(call: Call, address_id: UUID) -> Reply:
    call.match(call.row.version)
    addresses_service.change_address(call.row, call.data)
    return call.written(addresses, {"user_id": call.actor.user_id, "id": address_id})


@routes.delete(ADDRESS, "account:write", unbound=True, find=_address)
def delete_address(call: Call, address_id: UUID) -> Reply:
    call.match(call.row.version)
    addresses_service.delete_address(call.row)
    return no_content()
