"""Pages in the form of Django REST framework, for clients that were written for it: asked for by `meta_style=drf`, with
`page_size` for `per_page`."""

from urllib.parse import parse_qsl

import pytest

from tests.reads.conftest import Shop


def test_a_walk_by_its_links(shop: Shop) -> None:
    made = shop.add([(1, second, "failed") for second in range(5)])
    page = shop.get(f"{shop.path}?meta_style=drf&page_size=2&sort=created_at&fields=id")
    assert page == {
        "count": 5,
        "next": f"{shop.path}?meta_style=drf&page_size=2&sort=created_at&fields=id&page=2",
        "previous": None,
        "current_page": 1,
        "total_pages": 3,
        "results": [{"id": row.id} for row in made[:2]],
    }
    found = page["results"]
    while page["next"]:
        page = shop.get(page["next"])
        found += page["results"]
    assert found == [{"id": row.id} for row in made]
    assert (page["current_page"], page["previous"]) == (3, page["previous"])
    assert shop.get(page["previous"])["current_page"] == 2


def test_an_empty_list_and_a_page_beyond_it(shop: Shop) -> None:
    nothing: dict[str, object] = {
        "count": 0,
        "next": None,
        "previous": None,
        "current_page": 1,
        "total_pages": 1,
        "results": [],
    }
    assert shop.get(f"{shop.path}?meta_style=drf") == nothing
    beyond = shop.get(f"{shop.path}?page=7&meta_style=drf")
    assert (beyond["results"], beyond["next"], beyond["previous"]) == (
        [],
        None,
        f"{shop.path}?meta_style=drf&page=1",
    )


def test_page_size_alone_is_per_page(shop: Shop) -> None:
    shop.add([(1, second, "failed") for second in range(3)])
    page = shop.get(f"{shop.path}?page_size=2&fields=id")
    assert (len(page["data"]), page["meta"]["per_page"]) == (2, 2)


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        ("page_size=0", {"page_size"}),
        ("page_size=101", {"page_size"}),
        ("page_size=2&per_page=2", {"page_size"}),
        ("meta_style=json", {"meta_style"}),
        ("meta_style=drf&cursor=", {"meta_style"}),
        ("page_size=2&cursor=", {"page_size"}),
    ],
)
def test_what_is_refused(shop: Shop, asked: str, parameters: set[str]) -> None:
    problem = shop.refused(**dict(parse_qsl(asked, keep_blank_values=True)))
    assert {fault["parameter"] for fault in problem["errors"]} == parameters
