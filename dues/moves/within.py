"""Moves within one name, from one cell to another: the directory is told which of them has the store, once it has
arrived and before it is deleted where it was. Until then requests go to where it was, and are answered 503 there."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dues.cells import places
from dues.cells.calls import Refused as NotTaken
from dues.cells.calls import call_directory
from dues.cells.signatures import is_directory, own_name
from dues.errors import Conflict, Unavailable
from dues.moves.wire import Refused
from dues.postgres import transaction
from dues.settings import settings


class NotTold(Exception):
    """The directory could not be told."""


def has_cells() -> bool:
    """Whether this Dues is a cell, or the directory of some."""
    return bool(own_name()) or is_directory()


def said_of_cells() -> dict[str, Any]:
    """What each end of a move says of itself."""
    return {"has_cells": has_cells(), "cell": own_name()}


def reason_against(said: Mapping[str, Any]) -> str:
    """Why a store whose end says this cannot arrive here; empty where it can."""
    if own_name() and not (said.get("has_cells") and said.get("public_url") == settings().public_url):
        return "this is a cell, which knows the accounts of its directory alone: only stores of the same name arrive"
    return ""


def cell_at(welcome: Mapping[str, Any], store_id: UUID) -> str:
    """Where a store goes whose other end says this. Raises: Refused where the directory would not have it there."""
    if not is_within(str(welcome["address"])):
        return ""
    if not welcome.get("has_cells"):
        raise Refused("the other end has this name too, and is neither a cell nor the directory")
    cell = str(welcome["cell"] or "")
    try:
        _ask(store_id, cell, checks=True)
    except (Conflict, NotTaken, Unavailable) as problem:
        raise Refused(problem.detail) from problem
    return cell


def is_within(address: str) -> bool:
    """Whether a store that goes to this address stays under this name."""
    return has_cells() and address == settings().public_url


def note_arrival(store_id: UUID, cell: str) -> None:
    """The store has arrived in a cell. Again it changes nothing. Raises: NotTold."""
    try:
        _ask(store_id, cell, checks=False)
    except (Conflict, NotTaken, Unavailable) as problem:
        raise NotTold(problem.detail) from problem


def _ask(store_id: UUID, cell: str, *, checks: bool) -> None:
    if not is_directory():
        call_directory("POST", "/cells/places", {"store_id": str(store_id), "to": cell, "checks": checks})
    elif checks:
        places.require_move(store_id, "", cell)
    else:
        with transaction():
            places.put(store_id, "", cell)
