"""The place a cached answer is invalidated: a write names the tags it touches, in the words that reads use.

user:U                   a user's own rows, and what the public sees of them
user:U:tokens            the list of a user's tokens
token:H                  what the token lets its holder do; H is half its hash (`token_tag`)
store:S                  the store itself and its staff
store:S:packages         a store's packages          store:S:payments     its payments and refunds
store:S:customers        who buys there              stores               the list of all stores
store:S:clock            a test store's clock         store:S:documents    receipts and the like
store:S:subscriptions    its subscriptions           store:S:invoices     its invoices and credit notes
store:S:reports          its reports                 store:S:webhooks     its webhook endpoints
packages                 those of every store, for lists that embed packages of many
user:U:sees              what U may see of others: whom U follows, blocks, is a member of and works for
user:U:counts            how many U follows and is followed by, and who
social                   all posts, and what hangs on them
"""

from uuid import UUID

from dues.postgres import unit_of_work


def token_tag(token_hash: bytes) -> str:
    return f"token:{token_hash[:16].hex()}"


def touch(*tags: str) -> None:
    """Note, before the commit of the present unit of work, that answers with these tags are out of date."""
    unit_of_work().tags.update(tags)


def record_change(*things: UUID | None, public: bool = False) -> None:
    """Note that what answers about posts show of these users, stores and posts is out of date; `public`: and what
    everybody is shown."""
    touch("social")
