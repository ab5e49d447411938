"""Searching a store's customers, newest first. A customer matches if every search word is the beginning of some word in
their name or e-mail address.

The words are in the table `customer_words`, which triggers maintain (migrations/versions/0034_customer_words.py). Each
search word is a range of its primary key.
"""

from collections.abc import Mapping, Sequence

from dues.reads.resource import Walk

# If there are more search words, only the longest ones count.
_MOST_WORDS = 10
_BEGINS = """{word}.store_id = %(store_id)s
    and {word}.word >= {term} collate "C" and {word}.word < {term} || chr(1114111) collate "C\""""
# The longest word is looked up first, since it matches the fewest customers; the other words only filter those matches.
_GIVEN = rf"""
    terms as materialized (
        select t.term from (
            select distinct s.term from regexp_split_to_table(dues_plain(%(words)s::text), '\s+') s(term)) t
        where t.term <> '' order by length(t.term) desc, t.term limit {_MOST_WORDS}),
    found as materialized (
        select distinct w.user_id from (select term from terms order by length(term) desc, term limit 1) longest
        join customer_words w on {_BEGINS.format(word="w", term="longest.term")}
        where not exists (
            select from terms t where not exists (
                select from customer_words v
                where v.user_id = w.user_id and {_BEGINS.format(word="v", term="t.term")}))),
"""


class CustomerSearch:
    """A `Source` of the customers that match the search words in `words`."""

    given = _GIVEN
    keys: Mapping[str, str] = {}
    estimated = ""

    def serves(self, columns: Sequence[str]) -> bool:
        return True

    def rows(self, walk: Walk, limit: str) -> str:
        order = f"c.created_at {walk.direction}, c.user_id {walk.direction}"
        return f"{self._found(walk)}{walk.after('c')} order by {order} limit {limit}"

    def counted(self, walk: Walk, limit: str) -> str:
        return f"{self._found(walk)} limit {limit}"

    @staticmethod
    def _found(walk: Walk) -> str:
        return f"select c.user_id from found f join customers c on c.user_id = f.user_id where {walk.where('c')}"
