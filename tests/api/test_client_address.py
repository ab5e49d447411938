"""Whose request it is: the address that limits count."""

import pytest

from api.client_address import Proxies, network_of

PEER = "203.0.113.7"


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded_for", "client"),
    [
        ("", PEER, None, PEER),
        ("", PEER, "198.51.100.1", PEER),
        ("127.0.0.1", PEER, "198.51.100.1", PEER),
        ("127.0.0.1", "127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "198.51.100.1", "198.51.100.1"),
        # What stands before the last address that is no proxy's, the client may have written.
        ("127.0.0.1", "127.0.0.1", "10.9.9.9, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1,10.0.0.0/8", "127.0.0.1", "198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("*", "127.0.0.1", "198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1", "198.51.100.1:54321", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1", "[2001:db8::1]:54321", "2001:db8::1"),
        ("127.0.0.1", "127.0.0.1", "2001:DB8:0:0::1", "2001:db8::1"),
        ("127.0.0.1", "::ffff:127.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("::1", "::1", "198.51.100.1", "198.51.100.1"),
        # What is no address ends the list.
        ("127.0.0.1", "127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "198.51.100.1, _hidden", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "1" * 100_000, "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "", "127.0.0.1"),
        # A socket's path has no address.
        ("", "", None, ""),
        ("*", "", "198.51.100.1", "198.51.100.1"),
    ],
)
def test_a_proxy_that_is_trusted_is_believed(trusted: str, peer: str, forwarded_for: str | None, client: str):
    assert Proxies(trusted).client(peer, forwarded_for) == client


@pytest.mark.parametrize("trusted", ["nonsense", "10.0.0.0/33", "127.0.0.1;10.0.0.1"])
def test_what_is_no_network_is_refused(trusted: str):
    with pytest.raises(ValueError, match="does not appear to be"):
        Proxies(trusted)


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("198.51.100.1", "198.51.100.2", False),
        ("198.51.100.1", "198.51.100.1", True),
    ],
)
def test_of_ipv6_a_line_is_one_caller(one: str, other: str, are_one: bool):
    assert (network_of(one) == network_of(other)) is are_one
