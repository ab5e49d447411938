"""An author and a follower: what is posted is on the next page that the follower reads, whatever happens to the journal
of changes that feeds follow."""

import json
from contextlib import suppress
from typing import Any

import urllib3

from dues.ids import new_id
from tests.faults.house import House
from tests.servers import wait_until

_PATIENCE_S = 90.0


class Readers:
    """One who writes, and one who follows them and reads."""

    def __init__(self, house: House) -> None:
        author, follower = house.make.user(), house.make.user()
        house.make.follow(follower, author)
        self._author, self._follower = house.make.auth(author), house.make.auth(follower)
        self._url = house.web.url
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=15))
        self.posts: list[str] = []

    def post(self, count: int) -> None:
        """So many posts, each of which the follower sees at once; a like of each, too."""
        for _ in range(count):
            body = {"body": "News", "privacy": "followers"}
            made = self._until_done("POST", "/v1/posts", body, self._author | {"Idempotency-Key": new_id().hex})
            self.posts.insert(0, made["id"])
            self._require_shown(likes=0)
            self._until_done("PUT", f"/v1/posts/{made['id']}/like", None, self._author)
            self._require_shown(likes=1)

    def _require_shown(self, likes: int) -> None:
        page = self._until_done("GET", "/v1/newsfeed?cursor=&limit=100", None, self._follower)["data"]
        assert [post["id"] for post in page] == self.posts[:100], "a newsfeed is stale"
        assert page[0]["likes_count"] == likes, "a newsfeed shows an older number"

    def _until_done(self, method: str, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        """What is answered once it is; a client that got no answer asks again."""
        found: list[dict[str, Any]] = []

        def ask() -> bool:
            with suppress(urllib3.exceptions.HTTPError):
                sent = {"Content-Type": "application/json", **headers}
                answer = self._http.request(
                    method, self._url + path, body=json.dumps(body) if body else None, headers=sent
                )
                assert answer.status < 300 or answer.status in (409, 503), answer.data
                if answer.status < 300:
                    found.append(answer.json())
            return bool(found)

        wait_until(ask, _PATIENCE_S, f"{method} {path}")
        return found[0]
