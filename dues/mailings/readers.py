"""Who may get a store's post by mail: of those who see it, whoever was not brought along by the store alone, has not
unsubscribed, and has an address that takes mail.

One condition says so. Where the database is spread over several servers, no statement can ask it: what is of the store
is read from its own server first, and the rest decided with it.
"""

from collections.abc import Iterable

from dues.accounts.brought_along import ONLY_BROUGHT_ALONG
from dues.mailings.models import Mailing
from dues.postgres import array_text, fetch_row
from dues.reads import Computed
from dues.social.visibility import visible_to

_SEES = (
    "(u.deleted_at is null and u.email_verified_at is not null and p.status = 'published' and p.privacy <> 'private')"
)
_BROUGHT_ALONG = ONLY_BROUGHT_ALONG.format(store_id="%(store_id)s::uuid")
# Who follows the author wants the posts, though the store has only imported them.
_FOLLOWS = "exists (select from follows w where w.follower_id = u.id and w.followed_id = p.author_id)"
_SUPPRESSED = """
    exists (select from mail_suppressions s where s.store_id = %(store_id)s::uuid and s.user_id = u.id
        and (s.reason <> 'bounced' or s.address = u.email_normal))
"""
# Whether the user `u` may get the post `p`.
MAY_GET = f"""
    ({_SEES} and {Computed(visible_to("u.id"), {}).render("p")}
    and not ({_BROUGHT_ALONG} and not {_FOLLOWS}) and not {_SUPPRESSED})
"""
# Of some users what the store's server knows: their memberships, and whom it has brought along or may not write to.
_OF_STORE = f"""
    select (select coalesce(json_agg(m), '[]')::text from memberships m
            where m.store_id = %(store_id)s::uuid and m.user_id = any(%(user_ids)s::uuid[])),
        (select coalesce(array_agg(u.id::text), '{{}}') from users u
            where u.id = any(%(user_ids)s::uuid[]) and {_BROUGHT_ALONG}),
        (select coalesce(array_agg(u.id::text), '{{}}') from users u
            where u.id = any(%(user_ids)s::uuid[]) and {_SUPPRESSED})
"""
_READERS = f"""
    with members as materialized (
        select * from jsonb_to_recordset(%(members)s::jsonb) as m(store_id uuid, user_id uuid, package_id uuid))
    select coalesce(array_agg(u.id::text), '{{}}') from users u, posts p
    where u.id = any(%(user_ids)s::uuid[]) and p.id = %(post_id)s::uuid and p.store_id = %(store_id)s::uuid
        and {_SEES} and {Computed(visible_to("u.id", "members"), {}).render("p")}
        and not (u.id = any(%(brought_along)s::uuid[]) and not {_FOLLOWS}) and u.id <> all(%(suppressed)s::uuid[])
"""


def readers_among(mailing: Mailing, user_ids: Iterable[str]) -> set[str]:
    """Those of some users who may get a mailing's post, where one statement cannot tell."""
    values = {"store_id": mailing.store_id, "post_id": mailing.post_id, "user_ids": array_text({*user_ids})}
    members, brought_along, suppressed = fetch_row(_OF_STORE, values) or ("[]", [], [])
    values |= {
        "members": members,
        "brought_along": array_text(brought_along),
        "suppressed": array_text(suppressed),
    }
    (readers,) = fetch_row(_READERS, values) or ([],)
    return set(readers)
