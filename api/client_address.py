"""Whose request it is, by address: the peer's, or the one that a trusted proxy says it had from its own peer."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from urls import read_networks

Address = IPv4Address | IPv6Address

# Longer than an address with a port and a zone can be.
_LONGEST = 64
# At most this many addresses of X-Forwarded-For are looked at, the last first.
_MOST_HOPS = 20


class Proxies:
    """The proxies that are believed: networks, as `FORWARDED_ALLOW_IPS` lists them; `*` is every peer, and an empty
    list nobody."""

    def __init__(self, networks: str) -> None:
        """Raises: ValueError for what is no network."""
        self._all = "*" in map(str.strip, networks.split(","))
        self._networks = read_networks(networks)

    def client(self, peer: str, forwarded_for: str | None) -> str:
        """The client's address: the last of X-Forwarded-For that is no trusted proxy's own, where the peer is one.

        What stands before it the client may have written itself.
        """
        address = _parse(peer)
        if not forwarded_for or not self._trusts(address):
            return str(address or peer)
        for hop in reversed(forwarded_for.rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]):
            found = _parse(hop.strip()) if len(hop) <= _LONGEST else None
            if found is None:
                break
            address = found
            if not self._trusts(found):
                break
        return str(address or peer)

    def _trusts(self, address: Address | None) -> bool:
        return self._all or (address is not None and _is_in(address, self._networks))


def _is_in(address: Address, networks: Sequence[object]) -> bool:
    return any(address in network for network in networks)  # type: ignore[operator]


def _parse(text: str) -> Address | None:
    """An address, perhaps with a port, as proxies write it; one of IPv4 mapped into IPv6 is returned as IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """What limits count an address as: of IPv6 its first 64 bits, all of whose addresses are one line's to use (RFC
    6177, RFC 8981). `address` is one that `client()` gave."""
    try:
        found = ip_address(address)
    except ValueError:
        return address[:_LONGEST]
    return str(IPv6Network((found, 64), strict=False)) if isinstance(found, IPv6Address) else address
