"""The web server of the tests leaves nothing behind when it does not start."""

import pytest

from tests.servers import Servers
from tests.webserver import WebServer


def test_one_that_ends_as_it_starts_is_said_to_at_once(servers: Servers):
    web = WebServer(servers, target="nowhere:app")
    with pytest.raises(AssertionError, match="ended as it started"):
        web.__enter__()
    assert web.process.poll() is not None


def test_one_that_nobody_waits_for_any_longer_is_ended(servers: Servers, monkeypatch: pytest.MonkeyPatch):
    def give_up(web: WebServer) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(WebServer, "_is_up", give_up)
    web = WebServer(servers)
    with pytest.raises(KeyboardInterrupt):
        web.__enter__()
    assert web.process.poll() is not None
