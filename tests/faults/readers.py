"""An author and a follower: what is posted is on the next page that the follower reads, whatever happens to the journal
of changes that feeds follow."""

from dues.ids import new_id
from tests.faults.client import Client
from tests.faults.house import House


class Readers:
    """One who writes, and one who follows them and reads."""

    def __init__(self, house: House) -> None:
        author, follower = house.make.user(), house.make.user()
        house.make.follow(follower, author)
        self._author, self._follower = Client(house, author), Client(house, follower)
        self.posts: list[str] = []

    def post(self, count: int) -> None:
        """So many posts, each of which the follower sees at once; a like of each, too."""
        for _ in range(count):
            body = {"body": "News", "privacy": "followers"}
            made = self._author.done("POST", "/v1/posts", body, key=new_id().hex)
            self.posts.insert(0, made["id"])
            self._require_shown(likes=0)
            self._author.done("PUT", f"/v1/posts/{made['id']}/like")
            self._require_shown(likes=1)

    def _require_shown(self, likes: int) -> None:
        page = self._follower.done("GET", "/v1/newsfeed?cursor=&limit=100")["data"]
        assert [post["id"] for post in page] == self.posts[:100], "a newsfeed is stale"
        assert page[0]["likes_count"] == likes, "a newsfeed shows an older number"
