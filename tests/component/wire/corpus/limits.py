"""Messages at the limits and one beyond, and what is no HTTP/1 at all."""

from collections.abc import Iterator

from tests.component.wire.corpus.message import (
    CASE,
    GET,
    HOST,
    NUMBER,
    Field,
    Line,
    Meaning,
    Message,
    request,
)

from stickyroute_api.settings import Limits

LIMITS = Limits()

OTHERS = {
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)),
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "SMTP": b"EHLO evil.example.com\r\n",
    "zeros": bytes(64),
    "all bytes": bytes(range(256)),
    "all bytes backwards": bytes(range(255, -1, -1)),
    "PROXY v1": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PROXY v2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
    "WebSocket frame": b"\x81\x85\x00\x00\x00\x00hello",
    "answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "JSON": b'{"method": "GET"}\r\n\r\n',
    "FastCGI": b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00",
    "LF only": b"\n\n\n\n",
    "spaces": b"    \r\n\r\n",
    "RTSP": b"DESCRIBE rtsp://a/ RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    "ICE": b"SOURCE /mount ICE/1.0\r\n\r\n",
    "SIP": b"OPTIONS sip:a@b SIP/2.0\r\nHost: a\r\n\r\n",
    "memcached": b"get key\r\nset smuggled 0 0 1\r\nx\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
}


def messages() -> Iterator[Message]:
    for name, data in OTHERS.items():
        yield Message(name, ("other protocol",), data, Meaning(b"", b"", None, (), b""), ends=True)
    yield from _targets()
    yield from _heads()


def _targets() -> Iterator[Message]:
    """The limit is the target's; a first line of so many bytes is within it however it is counted."""
    most = LIMITS.target_bytes
    within = b"/" + b"a" * (most - len(b"GET / HTTP/1.1"))
    for target, rule in (
        (within, "plain"),
        (b"/" + b"a" * most, "target length"),
        (b"/?" + b"a" * 2 * most, "target length"),
    ):
        yield request(
            line=Line(f"target of {len(target)}", b"GET %b HTTP/1.1" % target, rule, b"GET", target)
        )
        url = b"http://shop.example.com" + target[: most + 1]
        if rule != "plain":
            yield request(line=Line(f"URL of {len(url)}", b"GET %b HTTP/1.1" % url, rule, b"GET", target))
    yield request(line=Line("long method", b"A" * (2 * most) + b" / HTTP/1.1", "first line length"))
    yield request(line=Line("line without end", b"GET /" + b"a" * 4 * most, "target length"))


def _heads() -> Iterator[Message]:
    empty = len(request(Field("", b"X-A: "), line=GET).data)
    for size, rule in ((0, "plain"), (1, "head length"), (1000, "head length"), (1 << 20, "head length")):
        value = b"a" * (LIMITS.head_bytes - empty + size)
        yield request(
            Field(f"head of the limit + {size}", b"X-A: " + value, rule, ((b"x-a", value),)), line=GET
        )
        name = b"x" * len(b"X-A" + value)
        yield request(Field(f"name, limit + {size}", name + b": ", rule, ((name, b""),)), line=GET)
    for more, rule in ((0, "plain"), (1, "field count"), (500, "field count")):
        count = LIMITS.head_fields + more - len((HOST, CASE))
        means = ((b"x", b""),) * count
        yield request(Field(f"limit + {more} fields", b"\r\n".join([b"X:"] * count), rule, means), line=GET)
        hosts = Field(f"limit + {more} Hosts", b"\r\n".join([HOST.data] * count), "two Hosts")
        yield request(Field("Host again", HOST.data, rule), line=GET, host=hosts)
    assert NUMBER in CASE.data
