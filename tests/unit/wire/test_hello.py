"""What a ClientHello asks for, as OpenSSL writes it, however it is cut into records and packets."""

import ssl
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_proxy.wire.hello import MAX_HELLO, MAX_RECORDS, Hello, NoHelloError, read


def written(name="shop.example.com", protocols=()):
    """OpenSSL's own."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


HELLO = written(protocols=("h2", "http/1.1"))


def vector(data, width):
    return len(data).to_bytes(width, "big") + data


def record(data):
    return b"\x16\x03\x01" + vector(data, 2)


def made(*extensions):
    """A ClientHello with these extensions: (type, content)."""
    listed = b"".join(kind.to_bytes(2, "big") + vector(content, 2) for kind, content in extensions)
    body = b"\x03\x03" + bytes(32) + vector(b"", 1) + vector(b"\x13\x01", 2) + vector(b"\x00", 1)
    return record(b"\x01" + vector(body + vector(listed, 2), 3))


def server_name(name):
    return 0, vector(b"\x00" + vector(name, 2), 2)


@pytest.mark.parametrize(
    ("name", "protocols"),
    [
        ("shop.example.com", ()),
        ("Shop.Example.COM", ("http/1.1",)),
        ("shop.example.com", ("h2", "http/1.1")),
        (None, ("h2",)),
        (None, ()),
    ],
)
def test_what_openssl_writes(name, protocols):
    expected = Hello((name or "").lower().encode(), tuple(one.encode() for one in protocols))
    assert read(written(name, protocols)) == expected


def test_each_prefix_is_awaited_to_its_end():
    assert [read(HELLO[:end]) for end in range(len(HELLO))] == [None] * len(HELLO)
    assert read(HELLO) == read(HELLO + b"more") == Hello(b"shop.example.com", (b"h2", b"http/1.1"))


@given(st.lists(st.integers(1, len(HELLO) - 6), max_size=MAX_RECORDS - 1, unique=True))
def test_records_may_cut_it_anywhere(cuts):
    message = HELLO[5:]
    bounds = [0, *sorted(cuts), len(message)]
    data = b"".join(record(message[a:b]) for a, b in pairwise(bounds))
    assert read(data) == read(HELLO)
    assert read(data[:-1]) is None


def test_names_are_compared_in_lower_case_and_without_a_last_dot():
    assert read(made(server_name(b"SHOP.example.com."))) == Hello(b"shop.example.com", ())
    assert read(made(server_name(b"\xff\x00"))) == Hello(b"\xff\x00", ())
    assert read(made()) == Hello(b"", ())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x02\x01",
        record(b"\x02" + vector(bytes(40), 3)),
        record(b"\x01" + vector(bytes(MAX_HELLO), 3)),
        record(b"\x01" + vector(b"", 3)),
        record(b"\x01" + vector(bytes(34) + b"\xff", 3)),
        record(b"") * (MAX_RECORDS + 1),
        made((0, b"")),
        made((0, vector(b"\x01" + vector(b"a", 2), 2))),
        made((0, vector(b"\x00\x00\xff", 2))),
        made((16, vector(b"\x09h2", 2))),
        made((16, b"\xff\xff")),
        made((99, b""))[:-4] + b"\xff\xff\xff\xff",
    ],
    ids=range(14),
)
def test_what_is_no_hello(data):
    with pytest.raises(NoHelloError):
        read(data)


@given(st.binary(max_size=200), st.integers(0, len(HELLO)), st.integers(0, len(HELLO)))
def test_nothing_else_is_raised(noise, start, end):
    for data in (noise, b"\x16\x03\x01" + noise, HELLO[:start] + noise + HELLO[end:]):
        with suppress(NoHelloError):
            found = read(data)
            assert found is None or isinstance(found, Hello)
