"""The recipients of a mailing, and the state of each.

    pending -> sent | failed | unknown | skipped

The list is made once, in one statement, when the mailing begins. Nobody is added later. But before each mail, it is
checked again whether its reader may still get it: that they have not unsubscribed, lost access or left, and that the
post still exists. There is one row per post and user, so a reader who has got a post is not in a later mailing of it.
Readers whose mail failed are included again: the mail server may have refused it for a reason that no longer exists.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import ujson

from dues.jobs.exceptions import backoff_s
from dues.mail import ledger
from dues.mail.address import normal_address
from dues.mailings.models import Mailing
from dues.mailings.readers import MAY_GET, readers_among
from dues.postgres import array_text, fetch_row, is_spread, run_later, unit_of_work
from dues.settings import settings

Fate = Literal["sent", "failed", "unknown", "skipped"]

# How often a mail is tried before it counts as failed, with the pauses of every job: nine hours in total.
MOST_TRIES = 20

_ADD = """
    insert into mailing_recipients as r (store_id, post_id, user_id, mailing_id, domain)
    select %(store_id)s, %(post_id)s, u.id, %(mailing_id)s, split_part(u.email_normal, '@', 2)
"""
_OR_AGAIN = """
    on conflict (store_id, post_id, user_id) do update
        set mailing_id = excluded.mailing_id, domain = excluded.domain, status = 'pending', tries = 0,
            next_at = excluded.next_at
        where r.status in ('pending', 'skipped', 'failed')
    returning 1
"""
# Those who have a store's post in their newsfeed: the store's members and the author's followers, if they may see it.
_CHOOSE = f"""
    with post as materialized (
        select * from posts where id = %(post_id)s::uuid and store_id = %(store_id)s::uuid),
    candidates as (
        select m.user_id from memberships m where m.store_id = %(store_id)s::uuid
        union select f.follower_id from follows f where f.followed_id = (select author_id from post)),
    added as ({_ADD} from candidates c join users u on u.id = c.user_id cross join post p where {MAY_GET} {_OR_AGAIN})
    select count(*) from added
"""
# Where the database is spread: who may get the post is asked for by steps.
_CANDIDATES = (
    "select coalesce(array_agg(user_id::text), '{}') from memberships where store_id = %(store_id)s",
    """
    select coalesce(array_agg(f.follower_id::text), '{}') from follows f
    where f.followed_id = (select author_id from posts where id = %(post_id)s and store_id = %(store_id)s)
    """,
)
_ADD_READERS = f"""
    with added as ({_ADD} from users u where u.id = any(%(readers)s::uuid[]) {_OR_AGAIN}) select count(*) from added
"""
# Those who did not get the post by earlier mailings of it.
_LEFT_OVER = """
    select coalesce(array_agg(user_id::text), '{}') from mailing_recipients
    where store_id = %(store_id)s and post_id = %(post_id)s and status in ('pending', 'skipped', 'failed')
"""
# Codes of RFC 3463 that say that an address does not exist, and cannot mean anything else.
_NO_SUCH_ADDRESS = re.compile(r"5\d\d[ -]5\.1\.(1|2|3|6|10)\b", re.ASCII)
_SUPPRESS = """
    insert into mail_suppressions(store_id, user_id, reason, address)
    values (%(store_id)s, %(user_id)s, 'bounced', %(address)s)
    on conflict (store_id, user_id, reason) do update set address = excluded.address
"""
_NEXT = """
    select coalesce(json_agg(json_build_object('user_id', r.user_id, 'tries', r.tries, 'name', u.name, 'email', u.email,
            'domain', r.domain, 'may_get', {may_get}) order by r.next_at, r.user_id), '[]')::text
    from (select * from mailing_recipients
            where store_id = %(store_id)s and mailing_id = %(mailing_id)s and status = 'pending' and next_at <= now()
                and domain <> all(%(full_domains)s::text[])
            order by next_at, user_id limit %(most)s) r
        join users u on u.id = r.user_id{post}
"""
_NEXT_AT_ONCE = _NEXT.format(
    may_get=f"coalesce({MAY_GET}, false)",
    post=" left join posts p on p.id = r.post_id and p.store_id = r.store_id",
)
_NEXT_ALONE = _NEXT.format(may_get="false", post="")
_PENDING_S = """
    select greatest(extract(epoch from next_at - clock_timestamp()), 0)::float8 from mailing_recipients
    where store_id = %(store_id)s and mailing_id = %(mailing_id)s and status = 'pending'
    order by next_at, user_id limit 1
"""
# The mailing's numbers change together with the row, so they always agree.
_SETTLE = """
    with settled as (
        update mailing_recipients set status = %(fate)s
        where store_id = %(store_id)s and post_id = %(post_id)s and user_id = any(%(user_ids)s::uuid[])
            and mailing_id = %(mailing_id)s and status = 'pending'
        returning 1)
    update mailings set {fate} = {fate} + (select count(*) from settled), version = version + 1, updated_at = now()
    where store_id = %(store_id)s and id = %(mailing_id)s
    returning sent + failed + unknown + skipped
"""
_PUT_OFF = """
    update mailing_recipients set tries = tries + 1, next_at = now() + make_interval(secs => %(after_s)s)
    where store_id = %(store_id)s and post_id = %(post_id)s and user_id = %(user_id)s and mailing_id = %(mailing_id)s
        and status = 'pending'
"""
# A leaky bucket with a capacity of a tenth of the limit, so that mails to a domain are spread over time.
_TAKE_TURN = """
    insert into mail_domains as d (domain, free_at) values (%(domain)s, now() + %(each_s)s * interval '1 s')
    on conflict (domain) do update set free_at = greatest(d.free_at, now()) + %(each_s)s * interval '1 s'
        where d.free_at <= now() + %(ahead_s)s * interval '1 s'
    returning domain
"""


@dataclass(frozen=True)
class Recipient:
    """A recipient who is due. `may_get`: whether they may still get the post. `tries` counts failed tries."""

    user_id: UUID
    name: str
    email: str
    domain: str
    tries: int
    may_get: bool


def dedupe_key(mailing: Mailing, user_id: UUID | str) -> str:
    """The mail's key in the ledger: a user gets a post once, by whichever mailing."""
    return f"mailing:{mailing.store_id}:{mailing.post_id}:{user_id}"


def choose(mailing: Mailing) -> int:
    """Record the recipients. Part of the caller's transaction(). Returns: how many."""
    unit_of_work()
    (left_over,) = fetch_row(_LEFT_OVER, _named(mailing)) or ([],)
    # Mails that earlier mailings had prepared for them contain the post as it was then.
    ledger.withdraw([dedupe_key(mailing, user_id) for user_id in left_over])
    values = _named(mailing)
    if is_spread():
        found = [user_id for statement in _CANDIDATES for user_id in (fetch_row(statement, values) or ([],))[0]]
        values["readers"] = array_text(readers_among(mailing, found))
        (count,) = fetch_row(_ADD_READERS, values) or (0,)
    else:
        (count,) = fetch_row(_CHOOSE, values) or (0,)
    return int(count)


def next_recipients(mailing: Mailing, most: int, full_domains: set[str]) -> list[Recipient]:
    """At most `most` recipients who are due, without those whose domains have reached their limit."""
    values = _named(mailing) | {"most": most, "full_domains": sorted(full_domains)}
    (text,) = fetch_row(_NEXT_ALONE if is_spread() else _NEXT_AT_ONCE, values) or ("[]",)
    found = ujson.loads(text)
    if is_spread():
        readers = readers_among(mailing, [row["user_id"] for row in found])
        found = [{**row, "may_get": row["user_id"] in readers} for row in found]
    return [Recipient(**{**row, "user_id": UUID(row["user_id"])}) for row in found]


def wait_s(mailing: Mailing) -> float | None:
    """How many seconds until the next pending recipient is due; None if there is none."""
    row = fetch_row(_PENDING_S, _named(mailing))
    return float(row[0]) if row else None


def settle(mailing: Mailing, user_ids: list[UUID], fate: Fate) -> int:
    """Record the result for some recipients. Part of the caller's transaction(). Returns: how many of the mailing have
    a result."""
    unit_of_work()
    values = _named(mailing) | {"user_ids": user_ids, "fate": fate}
    (count,) = fetch_row(_SETTLE.format(fate=fate), values, hot=True) or (0,)
    return int(count)


def put_off(mailing: Mailing, recipient: Recipient, after_s: float | None) -> None:
    """Postpone a recipient whose mail could not be sent now. Part of the caller's transaction()."""
    wait = backoff_s(recipient.tries + 1) if after_s is None else after_s
    run_later(_PUT_OFF, _named(mailing) | {"user_id": recipient.user_id, "after_s": wait})


def note_refusal(mailing: Mailing, user_id: UUID, address: str, reply: str) -> None:
    """If the mail server's reply says that the address does not exist, the store sends no more mails there. Part of the
    caller's transaction()."""
    if _NO_SUCH_ADDRESS.match(reply):
        values = {"store_id": mailing.store_id, "user_id": user_id, "address": normal_address(address)}
        run_later(_SUPPRESS, values)


def take_turn(domain: str) -> bool:
    """Count one more mail to this domain. Returns: False if the domain has reached its limit for now."""
    if settings().mailing_domain_limit == "off":
        return True
    mails, seconds = map(int, settings().mailing_domain_limit.split("/"))
    values = {"domain": domain, "each_s": seconds / mails, "ahead_s": seconds / 10}
    return fetch_row(_TAKE_TURN, values) is not None


def _named(mailing: Mailing) -> dict[str, Any]:
    return {"store_id": mailing.store_id, "post_id": mailing.post_id, "mailing_id": mailing.id}
