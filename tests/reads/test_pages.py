"""Pages: whichever form a client walks a list by, it gets every row once, in order, however rows tie."""

from datetime import timedelta
from types import SimpleNamespace as Row
from urllib.parse import parse_qs, urlsplit

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reads.conftest import EPOCH, ids

STATUSES = ("succeeded", "failed", "refunded")
SORTS = ("created_at", "-created_at", "amount", "-amount", "paid_at", "-paid_at")

# Few values, so that many rows tie.
rows_of_payments = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 4), st.sampled_from(STATUSES)), min_size=0, max_size=30
)
from_few_to_all = st.integers(1, 31)
quickly = settings(
    # Each takes some requests; with `--hypothesis-profile=long` there are a thousand.
    max_examples=settings().max_examples // 3,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def in_order(rows: list[Row], sort: str) -> list[str]:
    """The ids as a list sorted so must have them: what was never paid before all that was, ties by id, in the same
    direction."""
    name, never = sort.removeprefix("-"), EPOCH - timedelta(days=1)
    ordered = sorted(rows, key=lambda row: (getattr(row, name) or never, row.id), reverse=sort.startswith("-"))
    return [row.id for row in ordered]


@quickly
@given(rows=rows_of_payments, size=from_few_to_all, sort=st.sampled_from(SORTS))
def test_the_loop_over_numbered_pages_collects_every_row_once(shop, rows, size, sort):
    shop.new_store()
    expected = in_order(shop.add(rows), sort)
    found: list[str] = []
    page, last_page = 0, 1
    while page < last_page:
        document = shop.get(page=page + 1, per_page=size, sort=sort)
        meta = document["meta"]
        page, last_page = meta["current_page"], meta["last_page"]
        found += ids(document)
        assert meta == {
            "current_page": page,
            "last_page": max(1, -(-len(rows) // size)),
            "per_page": size,
            "total": len(rows),
            "total_is_exact": True,
        }
    assert found == expected


@quickly
@given(rows=rows_of_payments, size=from_few_to_all, sort=st.sampled_from(SORTS))
def test_the_links_of_numbered_pages_lead_everywhere(shop, rows, size, sort):
    shop.new_store()
    expected = in_order(shop.add(rows), sort)
    document = shop.get(page=1, per_page=size, sort=sort)
    assert document["links"]["prev"] is None
    found = ids(document)
    while following := document["links"]["next"]:
        previous, document = document, shop.get(following)
        assert ids(shop.get(document["links"]["prev"])) == ids(previous)
        assert document["links"]["self"] == following
        found += ids(document)
    assert found == expected
    assert ids(shop.get(document["links"]["last"])) == ids(document)
    assert ids(shop.get(document["links"]["first"])) == expected[:size]


@quickly
@given(rows=rows_of_payments, size=from_few_to_all, sort=st.sampled_from(SORTS))
def test_a_walk_by_cursor_collects_every_row_once_and_back_again(shop, rows, size, sort):
    shop.new_store()
    expected = in_order(shop.add(rows), sort)
    document = shop.get(cursor="", limit=size, sort=sort)
    assert document["links"]["prev"] is None
    assert document["links"]["last"] is None
    pages = [ids(document)]
    while following := document["links"]["next"]:
        assert document["meta"] == {"limit": size, "has_more": True}
        document = shop.get(following)
        pages.append(ids(document))
    assert document["meta"] == {"limit": size, "has_more": False}
    assert [row for page in pages for row in page] == expected
    back = [ids(document)]
    while before := document["links"]["prev"]:
        document = shop.get(before)
        back.append(ids(document))
    assert back == pages[::-1]
    assert ids(shop.get(document["links"]["first"])) == expected[:size]


@quickly
@given(
    rows=rows_of_payments,
    size=st.integers(1, 5),
    sort=st.sampled_from(SORTS),
    writes=st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(0, 4), st.integers(0, 30)), max_size=8),
)
def test_a_walk_misses_and_repeats_nothing_while_others_write(shop, rows, size, sort, writes):
    """A row that is there from the beginning to the end of the walk is seen once; no row is seen twice."""
    shop.new_store()
    made = shop.add(rows)
    stays = {row.id for row in made}
    document = shop.get(cursor="", limit=size, sort=sort)
    found = ids(document)
    pending = list(writes)
    while following := document["links"]["next"]:
        if pending:
            adds, amount, second, which = pending.pop()
            if adds:
                shop.add([(amount, second, "failed")])
            elif made:
                gone = made[which % len(made)].id
                shop.remove(gone)
                stays.discard(gone)
        document = shop.get(following)
        found += ids(document)
    assert len(set(found)) == len(found)
    assert stays <= set(found)


@quickly
@given(
    rows=rows_of_payments,
    size=st.integers(1, 5),
    sort=st.sampled_from(SORTS),
    steps=st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 30))), max_size=8),
)
def test_links_tell_the_truth_whatever_was_deleted(shop, rows, size, sort, steps):
    """Forward or back at each step, where there is a way, with some rows deleted in between."""
    shop.new_store()
    left = in_order(shop.add(rows), sort)
    document = shop.get(cursor="", limit=size, sort=sort)
    for forward, deleted in steps:
        link = document["links"]["next" if forward else "prev"] or document["links"]["self"]
        for gone in [id_ for at, id_ in enumerate(left) if at in deleted]:
            shop.remove(gone)
            left.remove(gone)
        document = shop.get(link)
        shown, links = ids(document), document["links"]
        assert document["meta"]["has_more"] == (links["next"] is not None)
        if shown:
            at = left.index(shown[0])
            assert shown == left[at : at + len(shown)]
            assert (links["prev"] is not None, links["next"] is not None) == (at > 0, at + len(shown) < len(left))
        else:
            # Nothing is left on one side of where the page was: the other side is all there is.
            assert ((links["prev"] is not None) ^ (links["next"] is not None)) == bool(left)
        for name, there in (("next", links["next"]), ("prev", links["prev"])):
            if there:
                beyond = ids(shop.get(there))
                edge = (left.index(shown[-1]) + 1 if name == "next" else left.index(shown[0])) if shown else 0
                expected = left[edge:][:size] if name == "next" else (left[:edge] if shown else left)[-size:]
                assert beyond == expected


def test_going_back_to_a_page_that_was_deleted_is_no_dead_end(shop):
    first, *others = in_order(shop.add([(1, second, "failed") for second in range(4)]), "-created_at")
    back = shop.get(shop.get(cursor="", limit=1)["links"]["next"])["links"]["prev"]
    shop.remove(first)
    document = shop.get(back)
    assert (ids(document), document["meta"]["has_more"], document["links"]["prev"]) == ([], True, None)
    found = []
    while document["links"]["next"]:
        document = shop.get(document["links"]["next"])
        found += ids(document)
    assert found == others


conditions = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(STATUSES),
        "amount[gt]": st.integers(0, 5),
        "amount[lte]": st.integers(0, 5),
        "created_at[gte]": st.integers(0, 5),
        "created_at[lt]": st.integers(0, 5),
        "paid_at[gt]": st.integers(0, 5),
        "paid_at[lte]": st.integers(0, 5),
        "paid_at": st.integers(0, 5),
        "amount": st.integers(1, 4),
    },
)
HOLDS = {
    "status": lambda row, value: row.status == value,
    "amount": lambda row, value: row.amount == value,
    "amount[gt]": lambda row, value: row.amount > value,
    "amount[lte]": lambda row, value: row.amount <= value,
    "created_at[gte]": lambda row, value: row.created_at >= EPOCH + timedelta(seconds=value),
    "created_at[lt]": lambda row, value: row.created_at < EPOCH + timedelta(seconds=value),
    "paid_at[gt]": lambda row, value: row.paid_at is not None and row.paid_at > EPOCH + timedelta(seconds=value),
    "paid_at[lte]": lambda row, value: row.paid_at is not None and row.paid_at <= EPOCH + timedelta(seconds=value),
    "paid_at": lambda row, value: row.paid_at == EPOCH + timedelta(seconds=value),
}


@quickly
@given(rows=rows_of_payments, sort=st.sampled_from(SORTS), wanted=conditions, by_cursor=st.booleans())
def test_filters_keep_what_they_say_in_both_forms(shop, rows, sort, wanted, by_cursor):
    shop.new_store()
    made = shop.add(rows)
    expected = in_order([row for row in made if all(HOLDS[name](row, wanted[name]) for name in wanted)], sort)
    texts = {
        name: (EPOCH + timedelta(seconds=value)).isoformat() if name.startswith(("created", "paid")) else value
        for name, value in wanted.items()
    }
    page = {"cursor": "", "limit": 7} if by_cursor else {"per_page": 7}
    document = shop.get(sort=sort, **page, **texts)
    found = ids(document)
    while following := document["links"]["next"]:
        document = shop.get(following)
        found += ids(document)
    assert found == expected
    assert by_cursor or document["meta"]["total"] == len(expected)


def test_an_empty_list(shop):
    document = shop.get()
    assert document["data"] == []
    assert document["meta"] == {
        "current_page": 1,
        "last_page": 1,
        "per_page": 20,
        "total": 0,
        "total_is_exact": True,
    }
    assert document["links"] == {
        "self": f"{shop.path}?page=1",
        "first": f"{shop.path}?page=1",
        "prev": None,
        "next": None,
        "last": f"{shop.path}?page=1",
    }
    assert shop.get(cursor="")["meta"] == {"limit": 20, "has_more": False}


def test_a_page_past_the_last_is_an_empty_list(shop):
    shop.add([(1, second, "failed") for second in range(5)])
    for number in (4, 10**12):
        document = shop.get(page=number, per_page=2)
        assert document["data"] == []
        assert (document["meta"]["last_page"], document["meta"]["total"]) == (3, 5)
        assert document["links"]["next"] is None
        assert ids(shop.get(document["links"]["prev"])) == ids(shop.get(page=3, per_page=2))


def test_links_keep_all_else_that_was_asked_for(shop):
    shop.add([(1, second, "failed") for second in range(5)])
    asked = {"status": "failed", "sort": "amount", "fields": "id,user.name", "include": "user", "amount[gte]": "1"}
    for page in ({"per_page": "2", "page": "1"}, {"limit": "2", "cursor": ""}):
        following = shop.get(**asked, **page)["links"]["next"]
        assert following.startswith("/v1/")
        given_back = {name: values[0] for name, values in parse_qs(urlsplit(following).query).items()}
        moved = given_back.pop("page", None) or given_back.pop("cursor")
        assert moved
        assert given_back == {**asked, **{name: page[name] for name in page if name in ("per_page", "limit")}}


def test_the_way_back_after_rows_came_in_front(shop):
    shop.add([(1, second, "failed") for second in range(4)])
    document = shop.get(shop.get(cursor="", limit=2)["links"]["next"])
    newer = shop.add([(1, 9, "failed")])[0]
    document = shop.get(document["links"]["prev"])
    assert len(document["data"]) == 2
    assert newer.id not in ids(document)
    front = shop.get(document["links"]["prev"])
    assert ids(front) == [newer.id]
    assert front["links"]["prev"] is None
