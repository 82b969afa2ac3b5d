"""Whom requests come from, as endpoints are told, and who can make them believe otherwise."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_proxy.trust import Trust
from stickyroute_proxy.wire.forwarding import Forwarding, _hop, peer_address

NOBODY = Trust()
PROXIES = Trust(("10.0.0.0/8", "2001:db8:1::/48"))


def read(peer, *fields, trust=PROXIES, secure=False, named=True):
    forwarding = Forwarding(peer, secure=secure, named=named)
    forwarding.read([(name.encode(), value.encode()) for name, value in fields] or None, trust)
    return forwarding


def lines(forwarding, authority=b"shop.example.com"):
    written = forwarding.lines(authority).decode("latin-1")
    assert written.endswith("\r\n")
    return dict(line.split(": ", 1) for line in written[:-2].split("\r\n"))


@pytest.mark.parametrize(
    ("peer", "hops", "client"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1,10.0.0.3", " 10.0.0.2\t"], "1.1.1.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.1.1.1:5678"], "1.1.1.1"),
        ("10.0.0.1", ["2001:DB8:0:0:0:0:0:1"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["1.1.1.1, ::ffff:10.0.0.2"], "1.1.1.1"),
        ("2001:db8:1::1", ["2001:db8:2::2, 2001:db8:1::9"], "2001:db8:2::2"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["1.1.1.1, _hidden"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, 2.2.2"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1,"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%eth0"], "10.0.0.1"),
        ("10.0.0.1", ["[1.1.1.1]"], "1.1.1.1"),
        ("9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        ("9.9.9.9", ["10.0.0.1"], "9.9.9.9"),
    ],
)
def test_the_client_is_the_rightmost_hop_that_is_not_trusted(peer, hops, client):
    fields = [("X-Forwarded-For", hop) for hop in hops]
    forwarding = read(peer, *fields)
    assert forwarding.address == client
    assert read(peer, *fields, trust=NOBODY).address == peer
    assert read(peer, *fields, named=False).address == peer


SPOOFED = (
    ("X-Forwarded-For", "6.6.6.6"),
    ("x-forwarded-proto", "https"),
    ("X-FORWARDED-HOST", "evil.example.com"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Real-Ip", "6.6.6.6"),
    ("Forwarded", "for=6.6.6.6;proto=https"),
)


def test_what_an_untrusted_client_says_of_itself_is_replaced():
    forwarding = read("9.9.9.9", *SPOOFED)
    assert (forwarding.trusted, forwarding.address, forwarding.scheme) == (False, "9.9.9.9", b"http")
    assert lines(forwarding) == {
        "x-forwarded-for": "9.9.9.9",
        "forwarded": 'for=9.9.9.9;host="shop.example.com";proto=http',
        "x-forwarded-proto": "http",
        "x-forwarded-host": "shop.example.com",
        "x-real-ip": "9.9.9.9",
    }


def test_what_a_trusted_peer_says_is_continued():
    forwarding = read("10.0.0.1", *SPOOFED, ("X-Forwarded-For", "7.7.7.7"))
    assert (forwarding.trusted, forwarding.address, forwarding.scheme) == (True, "7.7.7.7", b"https")
    assert lines(forwarding) == {
        "x-forwarded-for": "6.6.6.6, 7.7.7.7, 10.0.0.1",
        "forwarded": 'for=6.6.6.6;proto=https, for=10.0.0.1;host="shop.example.com";proto=http',
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.example.com",
        "x-forwarded-prefix": "/evil",
        "x-real-ip": "7.7.7.7",
    }


def test_a_trusted_peer_that_says_little_is_completed():
    told = lines(read("10.0.0.1", ("X-Forwarded-For", "7.7.7.7"), secure=True))
    assert (told["x-forwarded-proto"], told["x-real-ip"]) == ("https", "7.7.7.7")


def test_an_ipv6_address_is_quoted_where_rfc_7239_wants_it():
    told = lines(read("2001:db8:5::1"))
    assert told["x-forwarded-for"] == told["x-real-ip"] == "2001:db8:5::1"
    assert told["forwarded"].startswith('for="[2001:db8:5::1]";')


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ("https", b"https"),
        ("HTTPS", b"https"),
        ("wss", b"https"),
        ("http", b"http"),
        ("ws", b"http"),
        ("http, https", b"https"),
        ("https,http", b"http"),
        ("gopher", b"https"),
        ("", b"https"),
    ],
)
def test_the_scheme_is_the_last_one_said_or_the_connections(said, scheme):
    assert read("10.0.0.1", ("X-Forwarded-Proto", said), secure=True).scheme == scheme


def test_a_connection_follows_its_heads_and_who_is_trusted():
    forwarding = Forwarding("10.0.0.1", secure=False)
    seen = []
    one, two = ([(b"X-Forwarded-For", hop)] for hop in (b"1.1.1.1", b"2.2.2.2"))
    for fields, trust in ((one, PROXIES), (two, PROXIES), (two, NOBODY), (None, PROXIES), (one, PROXIES)):
        forwarding.read(fields, trust)
        seen.append((forwarding.address, lines(forwarding, b"a")["x-forwarded-for"]))
    assert seen == [
        ("1.1.1.1", "1.1.1.1, 10.0.0.1"),
        ("2.2.2.2", "2.2.2.2, 10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("1.1.1.1", "1.1.1.1, 10.0.0.1"),
    ]
    assert lines(forwarding, b"a")["x-forwarded-host"] == "a"
    assert lines(forwarding, b"b")["x-forwarded-host"] == "b"


hops = (
    st.ip_addresses().map(str)
    | st.sampled_from(["unknown", "", "10.1.1.1", "_x"])
    | st.text("0.:[]", max_size=9)
)


@given(st.lists(hops, max_size=6), st.ip_addresses(v=4).map(str))
def test_nothing_left_of_the_true_client_matters(spoofed, client):
    """What a client writes itself stands left of what the trusted proxy adds: its own address."""
    if PROXIES.holds(client):
        return
    forwarding = read("10.0.0.1", ("X-Forwarded-For", ",".join([*spoofed, client])))
    assert forwarding.address == client


@given(st.lists(hops, max_size=6))
def test_an_address_is_always_canonical(given_hops):
    address = read("10.0.0.1", ("X-Forwarded-For", ",".join(given_hops))).address
    assert str(ip_address(address)) == address


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("127.0.0.1", 1), "127.0.0.1"),
        (("::ffff:127.0.0.1", 1, 0, 0), "127.0.0.1"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        ("", "0.0.0.0"),
        (None, "0.0.0.0"),
    ],
)
def test_peers_of_sockets(name, address):
    assert peer_address(name) == address


def test_a_bad_cidr_is_named():
    with pytest.raises(ValueError, match=r"^settings.trusted_proxies: '10.0.0.0/99' does not"):
        Trust(("10.0.0.0/99",))


def test_who_is_trusted_may_change_while_a_connection_lives():
    given = [(b"X-Forwarded-For", b"1.1.1.1, 10.0.0.2")]
    forwarding = Forwarding("10.0.0.1", secure=False)
    for trusted, client in (
        (("10.0.0.0/24",), "1.1.1.1"),
        (("10.0.0.1/32",), "10.0.0.2"),
        ((), "10.0.0.1"),
        (("10.0.0.0/24",), "1.1.1.1"),
    ):
        forwarding.read(given, Trust(trusted))
        assert forwarding.address == client
        assert b"x-real-ip: %b\r\n" % client.encode() in forwarding.lines(b"a")


def test_hops_that_are_no_addresses_are_not_remembered():
    _hop.cache_clear()
    for number in range(100):
        long = f"{number}" + "1" * 5000
        assert read("10.0.0.1", ("X-Forwarded-For", f"{long}, 10.0.0.2")).address == "10.0.0.2"
    assert _hop.cache_info().currsize == 1
