"""Which URLs no request is sent to, and how the others are read."""

import pytest

from dues.webhooks.outbound import BadTarget, Target, parse_allowed, parse_target

pytestmark = pytest.mark.unit

# What reaches into a network, or might with some parser: none gets as far as a connection.
HOSTILE = {
    # Loopback and its neighbours, plainly
    "http://127.0.0.1/": "url_forbidden_address",
    "https://127.0.0.1:8443/hooks": "url_forbidden_address",
    "http://127.255.255.254/": "url_forbidden_address",
    "http://0.0.0.0/": "url_forbidden_address",
    "http://0.1.2.3/": "url_forbidden_address",
    "http://10.0.0.5/": "url_forbidden_address",
    "http://172.16.0.1/": "url_forbidden_address",
    "http://192.168.1.1/": "url_forbidden_address",
    "http://100.64.0.1/": "url_forbidden_address",
    "http://169.254.169.254/latest/meta-data/": "url_forbidden_address",
    "http://168.63.129.16/machine": "url_forbidden_address",
    "http://224.0.0.1/": "url_forbidden_address",
    "http://255.255.255.255/": "url_forbidden_address",
    # IPv4 as only some read it
    "http://2130706433/": "url_malformed",
    "http://017700000001/": "url_malformed",
    "http://0x7f000001/": "url_malformed",
    "http://0x7F.1/": "url_malformed",
    "http://0x7f.0x0.0x0.0x1/": "url_malformed",
    "http://0177.0.0.1/": "url_malformed",
    "http://127.1/": "url_malformed",
    "http://127.0.1/": "url_malformed",
    "http://127.0.0.01/": "url_malformed",
    "http://127.0.0.1./": "url_malformed",
    "http://127.0.0.256/": "url_malformed",
    "http://0/": "url_malformed",
    "http://1.1.1.0x1/": "url_malformed",
    # IPv6, and IPv4 inside of it
    "http://[::1]/": "url_forbidden_address",
    "http://[::]/": "url_forbidden_address",
    "http://[0:0:0:0:0:0:0:1]/": "url_forbidden_address",
    "http://[::ffff:127.0.0.1]/": "url_forbidden_address",
    "http://[::ffff:7f00:1]/": "url_forbidden_address",
    "http://[::127.0.0.1]/": "url_forbidden_address",
    "http://[64:ff9b::7f00:1]/": "url_forbidden_address",
    "http://[64:ff9b::169.254.169.254]/": "url_forbidden_address",
    "http://[2002:7f00:1::]/": "url_forbidden_address",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/": "url_forbidden_address",
    "http://[fe80::1]/": "url_forbidden_address",
    "http://[fd00:ec2::254]/": "url_forbidden_address",
    "http://[ff02::1]/": "url_forbidden_address",
    "http://[fe80::1%25eth0]/": "url_malformed",
    "http://[fe80::1%eth0]/": "url_malformed",
    "http://[::1/": "url_malformed",
    "http://[127.0.0.1]/": "url_malformed",
    "http://::1/": "url_malformed",
    # Who is the host?
    "http://user:password@example.com/": "url_credentials",
    "http://example.com@127.0.0.1/": "url_credentials",
    "http://127.0.0.1:80@example.com/": "url_credentials",
    "http://example.com:80@127.0.0.1:80/": "url_credentials",
    "http://example.com\\@127.0.0.1/": "url_malformed",
    "http://example.com\\.127.0.0.1/": "url_malformed",
    "http:\\\\127.0.0.1\\": "url_malformed",
    "http://127.0.0.1#@example.com/": "url_malformed",
    "http://example.com/#x": "url_malformed",
    "http://127.0.0.1?@example.com/": "url_forbidden_address",
    "http://example.com%2f@127.0.0.1/": "url_credentials",
    "http://127.0.0.1%2f.example.com/": "url_malformed",
    "http://exa%6dple.com/": "url_malformed",
    "http://example.com:80:80/": "url_malformed",
    "http://example.com:/": "url_malformed",
    "http://example.com:80a/": "url_malformed",
    "http:///etc/passwd": "url_malformed",
    "http://": "url_malformed",
    "http://.example.com/": "url_malformed",
    "http://example..com/": "url_malformed",
    "http://-example.com/": "url_malformed",
    "http://exam_ple.com/": "url_malformed",
    "http://" + "a" * 64 + ".com/": "url_malformed",
    "http://" + "a." * 130 + "com/": "url_malformed",
    "http:/127.0.0.1/": "url_scheme",
    "http:127.0.0.1": "url_scheme",
    "//127.0.0.1/": "url_scheme",
    # Characters that become others
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/": "url_malformed",
    "http://①②⑦.⓪.⓪.①/": "url_malformed",
    "http://127。0。0。1/": "url_malformed",
    "http://ⓛocalhost/": "url_malformed",
    "http://loc\u0430lhost/": "url_malformed",
    "http://exam\u00adple.com/": "url_malformed",
    "http://example.com\u2025/": "url_malformed",
    "http://example.com/\r\nHost: 127.0.0.1": "url_malformed",
    "http://example.com/ HTTP/1.1": "url_malformed",
    "http://example.com\t/": "url_malformed",
    " http://example.com/": "url_malformed",
    "http://example.com/\0": "url_malformed",
    "http://example.com/{x}": "url_malformed",
    # Other protocols
    "ftp://example.com/": "url_scheme",
    "file:///etc/passwd": "url_scheme",
    "gopher://127.0.0.1:6379/_FLUSHALL": "url_scheme",
    "javascript:alert(1)": "url_scheme",
    "https+unix://example.com/": "url_scheme",
    "http://example.com:25/": "url_port",
    "http://example.com:6/": "url_port",
    "http://example.com:0/": "url_port",
    "http://example.com:65536/": "url_port",
    "http://example.com:99999/": "url_port",
    "http://example.com/" + "a" * 2048: "url_malformed",
    "": "url_malformed",
}


@pytest.mark.parametrize(("url", "code"), HOSTILE.items(), ids=lambda value: ascii(value)[:50])
def test_a_hostile_url_is_refused(url: str, code: str):
    with pytest.raises(BadTarget) as refused:
        parse_target(url)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/", False)),
        ("HTTPS://Example.COM/Path?q=1&r=%20", Target("https", "example.com", 443, "/Path?q=1&r=%20", False)),
        ("http://example.com:8080?q", Target("http", "example.com", 8080, "/?q", False)),
        ("https://xn--bcher-kva.example/a@b", Target("https", "xn--bcher-kva.example", 443, "/a@b", False)),
        ("https://1.1.1.1/", Target("https", "1.1.1.1", 443, "/", False)),
        ("https://[2606:4700:4700:0::1111]/", Target("https", "2606:4700:4700::1111", 443, "/", False)),
    ],
)
def test_a_plain_url_is_taken_apart(url: str, target: Target):
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com:443/", "example.com"),
        ("http://example.com:443/", "example.com:443"),
        ("https://[2606:4700::1]:8443/", "[2606:4700::1]:8443"),
    ],
)
def test_the_host_header_names_no_port_that_goes_without_saying(url: str, netloc: str):
    assert parse_target(url).netloc == netloc


class TestHostsOfTheOperator:
    def test_they_may_be_anywhere(self):
        for url, allowed in (
            ("http://127.0.0.1:25/", "127.0.0.1"),
            ("http://localhost:9000/", "10.0.0.5,localhost:9000"),
            ("http://LOCALHOST:9000/", "LocalHost:9000"),
            ("http://[::1]:9000/", "[0::1]:9000"),
        ):
            assert parse_target(url, allowed).trusted

    def test_a_port_that_is_named_is_the_only_one(self):
        assert not parse_target("http://localhost:9001/", "localhost:9000").trusted

    def test_nothing_that_only_looks_like_them(self):
        for url in ("http://localhost.example.com/", "http://alocalhost/"):
            assert not parse_target(url, "localhost").trusted
        with pytest.raises(BadTarget):
            parse_target("http://127.1/", "127.0.0.1")

    def test_nobody_is_trusted_unless_named(self):
        assert parse_allowed("") == frozenset()
