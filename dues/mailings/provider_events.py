"""Reports of the mail provider about mails that it had accepted: a mail bounced, or its reader complained.

Reports are signed as our own webhooks are (Standard Webhooks, `v1`), with MAIL_EVENTS_SECRET. A report may arrive
again, late, or before the ledger knows that the mail was accepted: it takes effect once, and repeating it changes
nothing.

The mails of a store that has moved to another Dues went there with it. So reports about mails that are not known here
are passed on to each Dues that stores have moved to, signed with a secret that follows from the SECRET_KEY of both.
"""

import hmac
import re
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import timedelta
from hashlib import sha256
from itertools import product
from typing import Annotated, Literal
from uuid import UUID, uuid4

import ujson
from msgspec import Meta, Struct

from dues.cells.signatures import addresses as cell_addresses
from dues.cells.signatures import is_directory, own_name
from dues.errors import Conflict, Unauthenticated
from dues.ids import parse_id
from dues.jobs import enqueue
from dues.jobs.kinds import REPORT_ELSEWHERE
from dues.jobs.outbox import JSON
from dues.mail.address import normal_address
from dues.mailings import elsewhere
from dues.moving import is_here
from dues.postgres import database_now, fetch_row, unit_of_work
from dues.settings import settings
from dues.webhooks.signing import signature

# Longer than clocks differ and requests take. Within this time, repeating a report changes nothing.
_OLDEST = timedelta(minutes=5)
# What the id of a report that was passed on begins with; then it says how often. A store may move several times, and
# two Dues may each have stores that have left the other: a report must not go to and fro for ever.
_PASSED_ON = re.compile(r"dues-passed-on-([1-9])-[0-9a-f]{32}", re.ASCII)
_MOST_PASSES = 3
# Mails that one job passes on: a job's arguments are small, and a report may name a thousand.
_MOST_TOLD = 50
_TIMESTAMP = re.compile(r"[0-9]{1,11}", re.ASCII)

Kind = Literal["bounced", "complained"]

# Which of these mails belong to a mailing, and their addresses, without those of stores that take no writes at present;
# whether there were none of these; which mails are not known, and the URLs of the Dues that stores have moved to.
_MAILED = f"""
    select coalesce(array_agg(id::text) filter (where here), '{{}}'),
        coalesce(array_agg(recipient) filter (where here), '{{}}'), coalesce(bool_and(here), true),
        array(select given::text from unnest(%(email_ids)s::uuid[]) given
            where not exists (select from email_sends e where e.id = given) order by 1),
        array(select distinct address from store_moves where state = 'gone' order by 1)
    from (
        select mails.id, mails.recipient, {is_here("mails.store_id")} as here
        from (
            select id, recipient, split_part(dedupe_key, ':', 2)::uuid as store_id from email_sends
            where id = any(%(email_ids)s::uuid[]) and starts_with(dedupe_key, 'mailing:')) mails) mailed
"""
# A mail's row is found by its dedupe key (recipients.py). Only what is new there is counted and suppressed.
_RECORD = """
    with told as (
        select a.address, split_part(e.dedupe_key, ':', 2)::uuid as store_id,
            split_part(e.dedupe_key, ':', 3)::uuid as post_id, split_part(e.dedupe_key, ':', 4)::uuid as user_id
        from unnest(%(email_ids)s::uuid[], %(addresses)s::text[]) as a(email_id, address)
            join email_sends e on e.id = a.email_id),
    marked as (
        update mailing_recipients r set {kind}_at = now() from told t
        where r.store_id = t.store_id and r.post_id = t.post_id and r.user_id = t.user_id and r.{kind}_at is null
        returning r.store_id, r.mailing_id, r.user_id, t.address),
    suppressed as (
        insert into mail_suppressions(store_id, user_id, reason, address)
        select store_id, user_id, %(kind)s, address from marked
        on conflict (store_id, user_id, reason) do update set address = excluded.address),
    counted as (
        select store_id, mailing_id, count(*) as news from marked group by 1, 2)
    update mailings m set {kind} = m.{kind} + c.news, version = m.version + 1, updated_at = now()
    from counted c where m.store_id = c.store_id and m.id = c.mailing_id returning m.id
"""


class MailEvent(Struct, forbid_unknown_fields=True):
    """What happened to a mail after it was accepted. `message_id` may have angle brackets or not. A bounce that is not
    `permanent` (a full mailbox, for example) is no reason to stop mailing the address, and is ignored."""

    type: Kind
    message_id: Annotated[str, Meta(min_length=1, max_length=1000, pattern="^[ -~]+$")]
    permanent: bool = True


class MailEvents(Struct, forbid_unknown_fields=True):
    """Reports of a mail provider. Mails that do not belong to a mailing are ignored."""

    events: Annotated[list[MailEvent], Meta(min_length=1, max_length=1000)]


def verify(headers: Mapping[str, str], body: bytes) -> None:
    """Check the signature of a report. `headers` are named in lower case. Raises: Unauthenticated; Conflict if no
    secret is set."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    secret = _secret_of_passed_on() if times_passed_on(headers) else settings().mail_events_secret
    if not secret:
        raise Conflict("reports of the mail provider are not taken here: MAIL_EVENTS_SECRET is not set", code="not_set")
    signed = signature(secret, message_id, timestamp, body)
    sent = headers.get("webhook-signature", "").split(" ")
    # All are compared, and completely, so that the time taken reveals nothing.
    matching = [hmac.compare_digest(signed.encode(), one.encode("utf-8", "replace")) for one in sent]
    if not message_id or not _TIMESTAMP.fullmatch(timestamp) or not any(matching):
        raise Unauthenticated("the signature is not one of MAIL_EVENTS_SECRET over this body")
    if abs(database_now().timestamp() - int(timestamp)) > _OLDEST.total_seconds():
        raise Unauthenticated("the signature is too old, or of a clock that is wrong")


def times_passed_on(headers: Mapping[str, str]) -> int:
    """How often a report was passed on by a Dues before it came here; 0 for one of the provider's own."""
    found = _PASSED_ON.fullmatch(headers.get("webhook-id", ""))
    return int(found[1]) if found else 0


def record_events(reported: MailEvents, passed_on: int = 0) -> bool:
    """Record reports, which were `passed_on` so many times. Part of the caller's transaction(). Returns: whether all
    were recorded; if not, some are about a store that takes no writes while it moves to another Dues, and must be
    reported again."""
    unit_of_work()
    email_ids_by_kind: dict[Kind, set[UUID]] = {"bounced": set(), "complained": set()}
    for event in reported.events:
        email_id = parse_id(event.message_id.strip().strip("<>").partition("@")[0])
        if email_id and event.permanent:
            email_ids_by_kind[event.type].add(email_id)
    is_all = True
    for kind, reported_ids in email_ids_by_kind.items():
        if not reported_ids:
            continue
        found = fetch_row(_MAILED, {"email_ids": sorted(reported_ids)})
        assert found
        email_ids, recipients, are_here, unknown, addresses = found
        is_all = is_all and are_here
        if email_ids:
            # They are compared with the users' addresses, which are in this form.
            values = {"email_ids": email_ids, "addresses": [normal_address(recipient) for recipient in recipients]}
            fetch_row(_RECORD.format(kind=kind), values | {"kind": kind})
        if unknown and passed_on < _MOST_PASSES:
            for address, start in product(_others(addresses), range(0, len(unknown), _MOST_TOLD)):
                _pass_on_later(address, kind, unknown[start : start + _MOST_TOLD], passed_on + 1)
    return is_all


def _others(moved_to: Iterable[str]) -> set[str]:
    """Where mails that are not known here may be known: where stores have moved to, and the directory's cells."""
    found = set(moved_to)
    if is_directory() or own_name():
        # What has moved from one cell to another is under this name as before.
        found.discard(settings().public_url)
    return found.union(cell_addresses().values())


def _pass_on_later(address: str, kind: Kind, email_ids: list[str], passed_on: int) -> None:
    """Enqueue a job that reports to the Dues at `address`; none where the same waits already."""
    digest = sha256(" ".join([address, kind, str(passed_on), *email_ids]).encode()).hexdigest()
    args: dict[str, JSON] = {"address": address, "kind": kind, "email_ids": [*email_ids], "passed_on": passed_on}
    enqueue(REPORT_ELSEWHERE, args, dedupe_key=digest)


def pass_on(address: str, kind: Kind, email_ids: list[str], passed_on: int) -> None:
    """Report to the Dues at `address`. Raises: Retry if it does not take the report."""
    body = ujson.dumps({"events": [{"type": kind, "message_id": email_id} for email_id in email_ids]}).encode()
    message_id, timestamp = f"dues-passed-on-{passed_on}-{uuid4().hex}", str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(_secret_of_passed_on(), message_id, timestamp, body),
    }
    elsewhere.post(f"{address}/v1/mail-events", body, headers, expected=204)


def _secret_of_passed_on() -> str:
    digest = hmac.digest(settings().secret_key.encode(), b"reports that are passed on\0", sha256)
    return "whsec_" + b64encode(digest).decode()
