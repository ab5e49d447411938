"""When a right ends: by PostgreSQL's clock, whatever the clock of the machine that serves says."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import redis
import time_machine

from tests.factory import Factory
from tests.servers import Servers, wait_until

NARROW = {"name": "short", "scopes": ["account:read"], "expires_in": 60}


@pytest.mark.parametrize("off", [timedelta(days=40), timedelta(minutes=10), timedelta(days=-40)])
def test_a_token_lives_as_long_as_postgresql_says(client, make: Factory, off: timedelta):
    user = make.user()
    good, over = make.auth(user, expires_in=timedelta(minutes=5)), make.auth(user, expires_in=timedelta(seconds=-1))
    with time_machine.travel(datetime.now(UTC) + off, tick=False):
        # Found out, and then taken from the cache.
        assert [client.get("/v1/me", headers=good).status_code for _ in range(3)] == [200, 200, 200]
        assert client.get("/v1/me", headers=over).status_code == 401


@pytest.mark.parametrize("off", [timedelta(days=1), timedelta(days=-1)])
def test_a_token_is_issued_for_as_long_by_the_same_clock(client, make: Factory, off: timedelta):
    auth = make.auth(make.user())
    with time_machine.travel(datetime.now(UTC) + off, tick=False):
        client.post("/v1/tokens", json=NARROW, headers=auth)
    left = "select extract(epoch from expires_at - created_at)::float8 from api_tokens where name = 'short'"
    assert make.value(left) == 60
    assert make.value("select abs(extract(epoch from expires_at - now())) <= 60 from api_tokens where name = 'short'")


@pytest.mark.one_server("there is no cache")
def test_what_is_kept_of_a_right_is_kept_for_as_long_as_it_lasts(client, make: Factory, servers: Servers):
    auth = make.auth(make.user(), expires_in=timedelta(seconds=100))
    with closing(redis.Redis.from_url(servers.redis_url)) as kept:

        def names() -> list[bytes | str]:
            client.get("/v1/me", headers=auth)
            return kept.keys("dues:*:e:*")

        # What has just been written elsewhere is covered by no snapshot yet.
        wait_until(lambda: len(names()) == 2, what="both to be kept")
        lives_ms = [kept.pttl(name) for name in names()]
    assert min(lives_ms) <= 100_000 < max(lives_ms), "what the token may do, and what it asked for"
    assert min(lives_ms) > 0
