"""Addresses that a customer's URL must never lead to: this machine, its network, or anything that stands for them.

An address is let through only if it is known to be somebody's on the public internet. The networks are those of IANA's
special-purpose registries, written out, because Python's own idea of them differs from version to version and calls
some global that lead back inside: NAT64 and 6to4 carry an IPv4 address of the caller's choice.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_FORBIDDEN_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, seen from its machines
        "169.254.0.0/16",  # link-local; clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Only this part of IPv6 was ever given out to the public: loopback, link-local, unique local, multicast, IPv4-mapped,
# IPv4-compatible, NAT64 (64:ff9b::/96 and 64:ff9b:1::/48) and segment routing all lie outside.
_PUBLIC_V6 = IPv6Network("2000::/3")
_FORBIDDEN_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def is_public(address: Address) -> bool:
    """Whether a request may be sent to this address."""
    if isinstance(address, IPv4Address):
        listed = any(address in network for network in _FORBIDDEN_V4)
    else:
        listed = address not in _PUBLIC_V6 or any(address in network for network in _FORBIDDEN_V6)
    return not listed and address.is_global and not address.is_multicast


def parse_address(text: str) -> Address | None:
    """An address in its canonical spelling, IPv6 without a zone; None for any other text."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address
