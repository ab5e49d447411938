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
store:S:imports          its imports               store:S:place        which cell has it
packages                 those of every store, for lists that embed packages of many
user:U:sees              what U may see of others: whom U follows, blocks, is a member of and works for
user:U:counts            how many U follows and is followed by, and who
social                   nothing: of answers without a caller that follow the journal, since each needs a tag

Posts and feeds depend on more users, stores and posts than could be named by tags. Their answers **follow the journal**
(dues/reads/freshness/journal.py), and writes name in it what they change, by `record_change()`.
"""

from uuid import UUID

from dues.postgres import unit_of_work
from dues.reads.freshness.journal import PUBLIC, word_of


def token_tag(token_hash: bytes) -> str:
    return f"token:{token_hash[:16].hex()}"


def touch(*tags: str) -> None:
    """Note, before the commit of the present unit of work, that answers with these tags are out of date."""
    unit_of_work().tags.update(tags)


def record_change(*things: UUID | None, public: bool = False) -> None:
    """Note, before the commit of the present unit of work, that what answers show of these users, stores and posts is
    out of date; with `public` also what everybody is shown."""
    words = unit_of_work().words
    words.update(word_of(thing) for thing in things if thing)
    if public:
        words.add(PUBLIC)
