"""A walk through every list of posts and comments as a client of Django REST framework makes it: by page number, with
`count`, `next`, `previous`, `current_page`, `total_pages` and `results`."""

from typing import Any

import pytest

from tests.social.conftest import People, Person

KEYS = ["count", "next", "previous", "current_page", "total_pages", "results"]
SIZE = 3


def pages(reader: Person, path: str, along: str = "next") -> list[dict[str, Any]]:
    """Every page from this one on, by its links."""
    found = [reader.get(path)]
    while following := found[-1][along]:
        found.append(reader.get(following))
    return found


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for page in found for item in page["results"]]


@pytest.mark.parametrize("path", ["/v1/feed", "/v1/newsfeed", "/v1/posts", "/v1/posts/{post}/comments"])
def test_a_walk(path: str, people: People) -> None:
    author, reader = people(), people()
    reader.done("PUT", f"/v1/me/following/{author.id}")
    made = [author.post(title=f"Post {number}")["id"] for number in range(7)]
    path = path.format(post=made[0])
    is_of_comments = path.endswith("comments")
    if is_of_comments:
        made = [author.done("POST", path, {"body": f"{number}"})["id"] for number in range(7)]
    first = f"{path}?page_size={SIZE}&meta_style=drf"
    newest_first = made if reader.get(first)["results"][0]["id"] == made[0] else made[::-1]

    there = pages(reader, first)
    assert [list(page) for page in there] == [KEYS] * 3
    assert ids(there) == newest_first
    assert [(page["count"], page["current_page"], page["total_pages"]) for page in there] == [
        (7, 1, 3),
        (7, 2, 3),
        (7, 3, 3),
    ]
    assert [len(page["results"]) for page in there] == [3, 3, 1]
    assert [bool(page["previous"]) for page in there] == [False, True, True]
    assert all(f"page_size={SIZE}" in page["next"] for page in there[:-1])

    # The same pages on the way back, and by their numbers.
    back = pages(reader, f"{first}&page=3", "previous")
    assert back[::-1] == there
    assert [reader.get(f"{first}&page={number}") for number in (1, 2, 3)] == there

    # Whatever is new or gone counts on the next read.
    if is_of_comments:
        author.done("DELETE", f"{path}/{made[3]}")
    else:
        author.done("DELETE", f"/v1/posts/{made[3]}")
    assert (reader.get(first)["count"], ids(pages(reader, first))) == (
        6,
        [id_ for id_ in newest_first if id_ != made[3]],
    )
    assert reader.get(f"{first}&page=9")["results"] == []
    assert reader.refused("GET", f"{path}?page_size=0&meta_style=drf")[:2] == (400, "invalid_parameter")
