"""redis-py's client as Dues uses it."""

from dues.redis.client import redis_client, takes_writes
from tests.servers import Servers, taking_no_writes


def test_whether_a_redis_takes_writes(servers: Servers) -> None:
    client = redis_client(servers.redis_url, 0.5)
    assert takes_writes(client, "club:")
    assert 0 < int(str(client.pttl("club:probe"))) <= 1000
    for why in ("full", "replica"):
        with taking_no_writes(servers.redis, why):
            assert not takes_writes(client, "club:")
    assert takes_writes(client, "club:")


def test_one_that_is_away_takes_none() -> None:
    assert not takes_writes(redis_client("redis://127.0.0.1:1", 0.5), "dues:")
