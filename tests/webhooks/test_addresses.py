"""Which addresses a request may be sent to."""

from ipaddress import ip_address

import pytest

from dues.webhooks.addresses import is_public, parse_address

pytestmark = pytest.mark.unit

PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 169.253.255.255
    169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.1 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
    223.255.255.255 2600::1 2606:4700:4700::1111 2a00:1450:4001:830::200e 2001:4860:4860::8888 2001:200::1
"""
FORBIDDEN = """
    0.0.0.0 0.0.0.1 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
    168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1
    192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
    224.0.0.1 233.252.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::a00:1
    100::1 100:0:0:1::1 2001::1 2001:0:7f00:1::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1
    2002:808:808::1 2620:4f:8000::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 febf::1 fec0::1
    ff02::1 ff0e::1
"""


@pytest.mark.parametrize("text", PUBLIC.split())
def test_the_public_internet_is_let_through(text: str):
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", FORBIDDEN.split())
def test_all_else_is_not(text: str):
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    "text", ["", "127.1", "0177.0.0.1", "0x7f.0.0.1", "2130706433", "fe80::1%eth0", "[::1]", "a.b"]
)
def test_only_the_canonical_spelling_is_an_address(text: str):
    assert parse_address(text) is None
