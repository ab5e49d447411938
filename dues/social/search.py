"""Searching posts by words: of the newest posts that the viewer may see and that have all the words, the best first.

Words are compared in lower case, without stemming. The last word may be the beginning of one, since people search as
they type. `"a phrase"`, `or` and `-not` work as in other search boxes.

Ranking has to read each match, so only the newest `MOST_FOUND` matches are ranked, and no others are found. There are
two ways to find them. For rare words: read all matches from the index of words, at a cost that grows with the matches.
For frequent words: scan the newest posts until there are enough, at a cost that falls with the matches. The two cost
the same where the number of matches is the square root of `MOST_FOUND` times the number of posts. PostgreSQL's estimate
of the matches decides; where it was too low, the first way stops at that number and the second is taken.
"""

from collections.abc import Mapping, Sequence

from dues.reads.resource import Walk

MOST_FOUND = 500
# How many characters the last word needs to be taken for the beginning of one.
_LEAST_BEGINNING = 3

_ESTIMATE = "select from posts where status = ''published'' and search @@ "
_GIVEN = f"""
    words as materialized (
        select w.exact::tsquery as exact, (w.exact || case when w.exact ~ '(^|[^!])''[^'']+''$'
            and %(words)s::text ~ '\\w{{{_LEAST_BEGINNING}}}$' then ':*' else '' end)::tsquery as query
        from (select websearch_to_tsquery('simple', %(words)s::text)::text) w(exact)),
    cost as materialized (
        select e.few, greatest(e.exact, e.matches) > e.few as are_many
        from (
            select greatest(sqrt({MOST_FOUND} * greatest(p.reltuples, 0)), {MOST_FOUND})::bigint as few,
                dues_estimated_rows('{_ESTIMATE}' || quote_literal(w.exact) || '::tsquery') as exact,
                dues_estimated_rows('{_ESTIMATE}' || quote_literal(w.query) || '::tsquery') as matches
            from words w, pg_class p where p.oid = 'posts'::regclass) e),
"""
_ROWS = f"""
    with few as materialized (
        select p.feed_id, {{where}} as is_visible from posts p
        where p.search @@ (select query from words) and p.status = 'published' and not (select are_many from cost)
        limit (select few + 1 from cost)),
    found as materialized (
        (select f.feed_id from few f where f.is_visible and (select count(*) from few) <= (select few from cost)
        order by f.feed_id desc limit {MOST_FOUND})
        union all
        (select p.feed_id from posts p
        where p.status = 'published' and (p.search @@ (select query from words)) is true and {{where}}
            and ((select are_many from cost) or (select count(*) from few) > (select few from cost))
        order by p.feed_id desc limit {MOST_FOUND})),
    ranked as (
        select f.feed_id, ts_rank(p.search, words.query) as rank
        from found f join posts p on p.feed_id = f.feed_id, words)
    select r.feed_id, r.rank from ranked r where true {{after}} order by {{order}} limit {{limit}}
"""


class PostSearch:
    """A `Source` of the posts that `words` find."""

    given = _GIVEN
    keys: Mapping[str, str] = {"rank": "real"}
    estimated = ""

    def serves(self, columns: Sequence[str]) -> bool:
        return True

    def rows(self, walk: Walk, limit: str) -> str:
        order = f"r.rank {walk.direction}, r.feed_id {walk.direction}"
        return _ROWS.format(where=walk.where("p"), after=walk.after("r"), order=order, limit=limit)

    def counted(self, walk: Walk, limit: str) -> str:
        return self.rows(walk, limit)
