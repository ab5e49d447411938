"""Searching posts by words: those that have all of them, the best first, of the newest that the viewer may see.

Words are compared as they are written, in lower case; the last may be the beginning of one, since people search as they
type. `"a phrase"`, `or` and `-not` mean what they do elsewhere.

How good a match is can only be told by looking at the post, so the newest `MOST_FOUND` matches are ranked, and no
others are found. They are looked for in one of two ways: words that few posts have by the index of words, which costs
as much as there are matches; and words that many have by going through the newest posts until there are enough, which
costs less the more matches there are. The two cost the same where the number of matches is the root of `MOST_FOUND`
times the number of posts. Whether there are more is what PostgreSQL expects, and where it was wrong, is seen when so
many were fetched.
"""

from collections.abc import Mapping, Sequence

from dues.reads.resource import Walk

MOST_FOUND = 500
# Characters, from which on the last word may be the beginning of one.
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
