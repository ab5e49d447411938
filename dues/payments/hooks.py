"""News from gateways. They arrive by webhook, and are also listed regularly, because webhooks get lost.

Each piece of news is only a hint. It is recorded once, by the gateway's id for it, together with a job that asks the
gateway for the present state. So it does not matter if news come twice, late, out of order or never.
"""

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import DecodeError, ValidationError

from dues.errors import BadRequest, PayloadTooLarge
from dues.jobs import Retry, Run, enqueue, kinds
from dues.moving import is_here, stores_that_move
from dues.payments import accounts, setups
from dues.payments.disputes import check_dispute
from dues.payments.gateway import GatewayTimeout, Hint
from dues.payments.gateways import NOBODY, STRIPE, all_gateways
from dues.payments.processing import check_charge, check_refund, guarded_gateway
from dues.payments.stripe_events import TOLERANCE_S, age_of_signature, read_event
from dues.postgres import database_now, fetch_row, run_later, stores_with, transaction, unit_of_work
from dues.stores.access import moved_to, require_not_moved

log = logging.getLogger("dues.payments")

# Stripe's events are a few kilobytes long.
MOST_BYTES = 256 * 1024
# Stripe resends a webhook for three days, and lists events for thirty.
_KEEP = "31 days"
_MOST_DELETED = 1000
# Events may appear in the list late.
_OVERLAP = timedelta(minutes=15)
# Used in place of the secrets of a store that has none, so that refusing its webhooks takes just as long.
_NO_SECRETS = ("whsec_none", "whsec_either")

_RECEIVE = """
    insert into gateway_events(store_id, gateway, event_id, about, name, received_at)
    values (%(store_id)s, %(gateway)s, %(event_id)s, %(about)s, %(name)s, now())
    on conflict do nothing returning event_id
"""
_SET_TOLD_UNTIL = """
    update gateway_accounts set told_until = %(until)s
    where store_id = %(store_id)s and id = %(id)s
"""
_TOLD_UNTIL = "select told_until from gateway_accounts where store_id = %(store_id)s and id = %(id)s"
_FORGET = f"""
    with old as (
        select store_id, gateway, event_id from gateway_events where received_at < now() - interval '{_KEEP}'
            and {is_here("gateway_events.store_id")}{{of_store}}
        limit {_MOST_DELETED} for update skip locked),
    gone as (
        delete from gateway_events e using old
        where (e.store_id, e.gateway, e.event_id) = (old.store_id, old.gateway, old.event_id){{of_events}} returning 1)
    select count(*) from gone
"""
_FORGET_OF_ALL = _FORGET.format(of_store="", of_events="")
_FORGET_OF_STORE = _FORGET.format(of_store=" and store_id = %(store_id)s", of_events=" and e.store_id = %(store_id)s")
_FORGOTTEN = f"gateway_events t where t.received_at < now() - interval '{_KEEP}'"


class Forged(BadRequest):
    """A webhook that was not signed correctly, or for a store that accepts none. The answer does not say which."""

    title, code = "Invalid signature", "invalid_signature"


def receive_stripe(store_id: UUID, body: bytes, signature: str) -> None:
    """Accept a webhook of Stripe's for a store. Part of the caller's transaction().

    Raises: Forged; BadRequest if the body is not an event; PayloadTooLarge; Unavailable if the webhook's secret is
    unreadable; Misdirected if another Dues has the store. In every case Stripe sends the webhook again.
    """
    if len(body) > MOST_BYTES:
        raise PayloadTooLarge(f"an event may have at most {MOST_BYTES} bytes")
    account = accounts.current(store_id)
    if account is None:
        require_not_moved(moved_to(store_id))
    is_ours = account is not None and account.type == STRIPE
    secrets: Any = accounts.webhook_secrets(account) if account and is_ours else _NO_SECRETS
    signed_s_ago = age_of_signature(body, signature, secrets)
    if signed_s_ago is None or account is None or not is_ours:
        raise Forged("the signature is not one that this address takes")
    if abs(signed_s_ago) > TOLERANCE_S:
        log.warning("a hook to store %s was signed %d s ago by our clock: is that right?", store_id, signed_s_ago)
        raise Forged("the signature is not one that this address takes")
    try:
        hint = read_event(body, str(store_id))
    except (ValidationError, DecodeError, UnicodeDecodeError):
        raise BadRequest("the body is no event of Stripe's", code="malformed_event") from None
    if hint:
        _receive(STRIPE, account.id, hint)


def _receive(gateway: str, account_id: UUID | None, hint: Hint) -> bool:
    """Record a piece of news, and enqueue the job that acts on it. Returns: whether it was new."""
    row = {
        "store_id": hint.store_id,
        "gateway": gateway,
        "event_id": hint.id,
        "about": hint.about,
        "name": hint.name,
    }
    if fetch_row(_RECEIVE, row) is None:
        return False
    args = {
        "gateway": gateway,
        "store_id": hint.store_id,
        "account_id": str(account_id) if account_id else None,
        "about": hint.about,
        "name": hint.name,
    }
    enqueue(kinds.GATEWAY_NEWS, args, store_id=UUID(hint.store_id), priority=150)
    return True


def act(run: Run, gateway: str, store_id: UUID, account_id: UUID | None, about: str, name: str) -> None:
    """Ask the gateway about whatever it has news of. Raises: Retry."""
    match about:
        case "charge":
            check_charge(run, store_id, UUID(name))
        case "refund":
            check_refund(run, store_id, UUID(name))
        case "dispute":
            check_dispute(run, gateway, store_id, account_id, name)
        case "setup":
            setups.process_setup(run, store_id, UUID(name))


def offer_sweeps() -> dict[str, int]:
    """Enqueue a job for each gateway that lists its news, except for stores that are being moved. Returns: the number
    of gateways."""
    moving = stores_that_move()
    found = [each for each in all_gateways() if each[1] not in moving]
    with transaction():
        for gateway, store_id, account_id in found:
            args = {
                "gateway": gateway,
                "store_id": str(store_id),
                "account_id": str(account_id) if account_id else None,
            }
            whose = None if store_id == NOBODY else store_id
            enqueue(kinds.GATEWAY_SWEEP, args, store_id=whose, dedupe_key=f"sweep:{account_id or gateway}")
    return {"gateways": len(found)}


def sweep(run: Run, gateway: str, store_id: UUID, account_id: UUID | None) -> dict[str, int]:
    """List what has happened at a gateway since it was last listed, and record the news that no webhook has brought.
    Returns: the number of events listed, and how many of them were missed. Raises: Retry."""
    row = fetch_row(_TOLD_UNTIL, {"store_id": store_id, "id": account_id})
    since: datetime = row[0] if row else database_now() - timedelta(days=1)
    try:
        with guarded_gateway(gateway, store_id, account_id) as client:
            news = client.news(since - _OVERLAP)
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout
    # The sandbox serves many stores. One that moves hears of it where it arrives.
    missed, moving = 0, stores_that_move() if store_id == NOBODY else frozenset()
    for hint in news.hints:
        run.check()
        if UUID(hint.store_id) in moving:
            continue
        with transaction():
            missed += _receive(gateway, account_id, hint)
    if account_id and news.until:
        # By the gateway's own clock: if ours were ahead of it, the difference would be skipped.
        with transaction():
            run_later(_SET_TOLD_UNTIL, {"store_id": store_id, "id": account_id, "until": news.until})
    return {"told": len(news.hints), "missed": missed}


def delete_expired_events() -> int:
    """Delete a batch of old news that gateways no longer repeat. Part of the caller's transaction(). Returns: how many
    were deleted."""
    unit_of_work()
    total = 0
    for store_id in stores_with(_FORGOTTEN, {}):
        statement = _FORGET_OF_STORE if store_id else _FORGET_OF_ALL
        (count,) = fetch_row(statement, {"store_id": store_id} if store_id else {}) or (0,)
        total += int(count)
    return total
