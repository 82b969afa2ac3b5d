"""PROXY headers, versions 1 and 2: what they say, and what is none."""

from contextlib import suppress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_proxy.wire.proxyprotocol import MAX_HEADER, NoHeaderError, Source, read

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def binary(command, family, body, length=None):
    return SIGNATURE + bytes((command, family)) + (length or len(body)).to_bytes(2, "big") + body


def addresses(source, target="10.0.0.1"):
    return ip_address(source).packed + ip_address(target).packed + b"\x12\x34\x01\xbb"


HEADERS = {
    "v1 IPv4": (b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", Source("192.0.2.1")),
    "v1 IPv6": (b"PROXY TCP6 2001:DB8:0::1 ::1 4124 443\r\n", Source("2001:db8::1")),
    "v1 IPv4 in IPv6": (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:10.0.0.1 1 2\r\n", Source("192.0.2.1")),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", Source(None)),
    "v1 unknown, and more": (b"PROXY UNKNOWN ffff:f...f:ffff ffff 65535 65535\r\n", Source(None)),
    "v1, the longest": (
        b"PROXY UNKNOWN" + b" ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" * 2 + b" 65535 65535\r\n",
        Source(None),
    ),
    "v2 IPv4": (binary(0x21, 0x11, addresses("192.0.2.1")), Source("192.0.2.1")),
    "v2 IPv4 with fields": (
        binary(0x21, 0x11, addresses("192.0.2.1") + b"\x04\x00\x03abc" * 9),
        Source("192.0.2.1"),
    ),
    "v2 IPv4, datagrams": (binary(0x21, 0x12, addresses("192.0.2.1")), Source("192.0.2.1")),
    "v2 IPv6": (binary(0x21, 0x21, addresses("2001:db8::1", "::1")), Source("2001:db8::1")),
    "v2 IPv4 in IPv6": (binary(0x21, 0x21, addresses("::ffff:192.0.2.1", "::1")), Source("192.0.2.1")),
    "v2 UNIX": (binary(0x21, 0x31, bytes(216)), Source(None)),
    "v2 unspecified": (binary(0x21, 0x00, b""), Source(None)),
    "v2 unspecified, and more": (binary(0x21, 0x00, b"\x04\x00\x00"), Source(None)),
    "v2 local": (binary(0x20, 0x00, b""), Source(None, local=True)),
    "v2 local, with an address": (binary(0x20, 0x11, addresses("192.0.2.1")), Source(None, local=True)),
}
MALFORMED = {
    "HTTP": b"GET / HTTP/1.1\r\n",
    "lower case": b"proxy TCP4",
    "no kind": b"PROXY \r\n",
    "other kind": b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
    "glued": b"PROXY TCP4192.0.2.1 10.0.0.1 1 2\r\n",
    "glued unknown": b"PROXY UNKNOWNX\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n",
    "trailing space": b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 \r\n",
    "too few": b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
    "IPv6 as IPv4": b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
    "IPv4 as IPv6": b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
    "mixed": b"PROXY TCP6 2001:db8::1 10.0.0.1 1 2\r\n",
    "no address": b"PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n",
    "leading zero": b"PROXY TCP4 192.0.2.010 10.0.0.1 1 2\r\n",
    "port": b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n",
    "negative port": b"PROXY TCP4 192.0.2.1 10.0.0.1 1 -2\r\n",
    "bare LF": b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n" + b"x" * 107,
    "too long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "NUL": b"PROXY UNKNOWN \0\r\n",
    "wrong signature": b"\r\n\r\n\x00\r\nQUIX",
    "version 1 in binary": binary(0x11, 0x11, addresses("192.0.2.1")),
    "command": binary(0x22, 0x11, addresses("192.0.2.1")),
    "family": binary(0x21, 0x41, addresses("192.0.2.1")),
    "transport": binary(0x21, 0x13, addresses("192.0.2.1")),
    "short IPv4": binary(0x21, 0x11, bytes(11)),
    "short IPv6": binary(0x21, 0x21, bytes(35)),
    "short UNIX": binary(0x21, 0x31, bytes(215)),
    "long": binary(0x21, 0x11, b"", MAX_HEADER),
    "longest": binary(0x20, 0x00, b"", 0xFFFF),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_and_their_end(name):
    header, source = HEADERS[name]
    for rest in (b"", b"GET / HTTP/1.1\r\n", header):
        assert read(header + rest) == (source, len(header))
    assert [read(header[:end]) for end in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize("name", MALFORMED)
def test_no_headers(name):
    with pytest.raises(NoHeaderError):
        read(MALFORMED[name])


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=300))
def test_any_address_by_either_version(address, port, fields):
    version = 4 if address.version == 4 else 6
    line = f"PROXY TCP{version} {address} {address} {port} {port}\r\n".encode()
    body = addresses(str(address), str(address)) + fields
    mapped = getattr(address, "ipv4_mapped", None)
    expected = Source(str(mapped or address))
    assert read(line + fields) == (expected, len(line))
    header = binary(0x21, 0x11 if version == 4 else 0x21, body)
    assert read(header) == (expected, len(header))


prefixes = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1.1.1.1 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])


@given(prefixes, st.binary(max_size=120))
def test_nothing_else_is_raised_and_waiting_is_bounded(prefix, noise):
    with suppress(NoHeaderError):
        assert read(prefix + noise) is None or len(prefix + noise) >= 15
    with suppress(NoHeaderError):
        assert read(prefix + noise + bytes(MAX_HEADER)) is not None
