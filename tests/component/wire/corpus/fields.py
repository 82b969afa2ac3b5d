"""Fields: their syntax, those that mean something to a proxy, and every byte in names and values."""

from collections.abc import Iterator

from tests.component.wire.corpus.lines import TOKEN_BYTES
from tests.component.wire.corpus.message import (
    GET,
    HOST,
    POST,
    POST10,
    SMUGGLER,
    Field,
    Framing,
    Message,
    length,
    request,
)

SYNTAX = [
    Field("space before colon", b"X-A : b", "space before colon"),
    Field("tab before colon", b"X-A\t: b", "space before colon"),
    Field("Content-Length with a space before colon", b"Content-Length : 9", "space before colon"),
    Field(
        "Transfer-Encoding with a space before colon", b"Transfer-Encoding : chunked", "space before colon"
    ),
    Field("folded by space", b"X-A: b\r\n c", "folded"),
    Field("folded by tab", b"X-A: b\r\n\tc", "folded"),
    Field("folded from nothing", b"X-A:\r\n b", "folded"),
    Field("folded to nothing", b"X-A: b\r\n ", "folded"),
    Field("folded Transfer-Encoding", b"Transfer-Encoding:\r\n chunked", "folded"),
    Field("folded Content-Length", b"Content-Length:\r\n 9", "folded"),
    Field("no colon", b"X-A", "field line"),
    Field("no colon, two words", b"GET /smuggled HTTP/1.1", "field line"),
    Field("no name", b": b", "field line"),
    Field("colon alone", b":", "field line"),
    Field("two colons", b"X-A:: b", "odd field", ((b"x-a", b": b"),)),
    Field("nothing", b"X-A:", "odd field", ((b"x-a", b""),)),
    Field("white space alone", b"X-A: \t ", "odd field", ((b"x-a", b""),)),
    Field("no white space", b"X-A:b", "odd field", ((b"x-a", b"b"),)),
    Field("much white space", b"X-A: \t\t b \t ", "odd field", ((b"x-a", b"b"),)),
    Field("inner white space", b"X-A: b \t c", "odd field", ((b"x-a", b"b \t c"),)),
    Field("8-bit", b"X-A: \xe9\xff\x80", "odd field", ((b"x-a", b"\xe9\xff\x80"),)),
    Field("quoted", b'X-A: "b, \\"c\\""', "odd field", ((b"x-a", b'"b, \\"c\\""'),)),
    Field("twice", b"X-A: b\r\nX-A: c", "odd field", ((b"x-a", b"b"), (b"x-a", b"c"))),
    Field("odd case", b"x-A: b", "odd field", ((b"x-a", b"b"),)),
    Field("bare CR", b"X-A: b\rc", "line end"),
    Field("bare CR before a name", b"X-A: b\rTransfer-Encoding: chunked", "line end"),
    Field("bare CR at the end", b"X-A: b\r", "line end"),
    Field("bare LF", b"X-A: b\nX-C: d", "line end"),
    Field("bare LF before framing", b"X-A: b\nContent-Length: 9", "line end"),
    Field("LF CR", b"X-A: b\n\rX-C: d", "line end"),
    Field("empty line by LF", b"X-A: b\n\nGET /smuggled HTTP/1.1", "line end"),
    Field("empty line by LF CRLF", b"X-A: b\n\r\nGET /smuggled HTTP/1.1", "line end"),
    Field("empty line by CR", b"X-A: b\r\rGET /smuggled HTTP/1.1", "line end"),
    Field("NUL", b"X-A: b\x00c", "field value"),
    Field("NUL before framing", b"X-A: b\x00\r\nTransfer-Encoding: chunked", "field value"),
    Field("NUL in a name", b"X\x00A: b", "field name"),
    Field("8-bit name", b"X-\xe9: b", "field name"),
    Field("white space line", b" \r\nX-A: b", "folded"),
    Field("name in brackets", b"[X-A]: b", "field name"),
    Field("space in name", b"X A: b", "field name"),
    Field("CRLF encoded", b"X-A: b%0d%0aX-C: d", "odd field", ((b"x-a", b"b%0d%0aX-C: d"),)),
    Field("long name", b"X-" + b"a" * 4000 + b": b", "odd field", ((b"x-" + b"a" * 4000, b"b"),)),
    Field("long value", b"X-A: " + b"b" * 8000, "odd field", ((b"x-a", b"b" * 8000),)),
]

FIRST = [
    Field("space before the first field", b" X-A: b", "white space first"),
    Field("tab before the first field", b"\tX-A: b", "white space first"),
    Field("white space line first", b" ", "white space first"),
    Field("folded Host", b" Host: evil.example.com", "white space first"),
]

HOP = [
    *(
        Field(name.decode(), b"%b: %b" % (name, value), "hop by hop")
        for name, value in (
            (b"Keep-Alive", b"timeout=5, max=9"),
            (b"Proxy-Connection", b"keep-alive"),
            (b"Proxy-Authorization", b"Basic Zm9vOmJhcg=="),
            (b"TE", b"trailers"),
            (b"TE", b"gzip;q=0.5, trailers"),
            (b"Trailer", b"X-Sum"),
            (b"Trailer", b"Content-Length, Host"),
            (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"),
            (b"Connection", b"keep-alive"),
            (b"Connection", b""),
            (b"Connection", b",, ,"),
        )
    ),
    Field("Proxy-Connection: close", b"Proxy-Connection: close", "close out of place"),
    Field("nominated", b"Connection: X-A\r\nX-A: b", "hop by hop"),
    Field("nominated before", b"X-A: b\r\nConnection: keep-alive ,\tx-a,", "hop by hop"),
    Field("nominated on two lines", b"Connection: X-A\r\nX-B: c\r\nConnection: x-b\r\nX-A: b", "hop by hop"),
    Field("nominated and twice", b"X-A: b\r\nx-a: c\r\nConnection: X-A", "hop by hop"),
    Field("nominated close", b"Connection: close, X-A\r\nX-A: b", "hop by hop", closes=True),
    Field("close", b"Connection: close", "hop by hop", closes=True),
    Field("CLOSE", b"cOnNeCtIoN: CLOSE", "hop by hop", closes=True),
    Field("close and keep-alive", b"Connection: keep-alive, close", "hop by hop", closes=True),
    Field(
        "close on a second line", b"Connection: keep-alive\r\nConnection: close", "hop by hop", closes=True
    ),
    *(
        Field(f"nominates {name.decode()}", b"Connection: keep-alive, " + name, "nominated by Connection")
        for name in (b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"host, content-length")
    ),
    Field(
        "nominates Cookie",
        b"Cookie: a=b\r\nConnection: Cookie",
        "nominated by Connection",
        ((b"cookie", b"a=b"),),
    ),
    Field(
        "nominates forwarding",
        b"Connection: X-Forwarded-For, Forwarded, X-Forwarded-Host",
        "nominated by Connection",
    ),
]

OURS = [
    *(
        Field(name.decode(), name + b": 192.0.2.66", "forwarding field")
        for name in (
            b"X-Forwarded-For",
            b"x-forwarded-host",
            b"X-Forwarded-Proto",
            b"X-Forwarded-Port",
            b"X-Forwarded-Prefix",
            b"X-Real-IP",
            b"Forwarded",
        )
    ),
    Field(
        "X-Forwarded-For twice",
        b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2",
        "forwarding field",
    ),
    *(
        Field(name.decode(), name + b": 9", "alias")
        for name in (
            b"Content_Length",
            b"CONTENT_LENGTH",
            b"Transfer_Encoding",
            b"X_Forwarded_For",
            b"X-Forwarded_For",
            b"X_Real_IP",
            b"X_Request_Id",
            b"X_Session_Lost",
            b"Proxy_Authorization",
            b"HTTP2_Settings",
        )
    ),
    Field("X-Session-Lost", b"X-Session-Lost: PodTerminated", "alias"),
    Field("our cookie", b"Cookie: a=b; sr=forged; c=d", "hop by hop", ((b"cookie", b"a=b; c=d"),)),
    Field("our cookie twice", b"Cookie: sr=1; sr=2; c=d", "hop by hop", ((b"cookie", b"c=d"),)),
    Field("our cookie alone", b"Cookie: sr=" + b"A" * 200, "hop by hop"),
    Field("odd cookies", b'Cookie: ;;=;a;b=="c;d\xe9', "odd field", ((b"cookie", b';;=;a;b=="c;d\xe9'),)),
    Field(
        "two cookies", b"Cookie: a=b\r\nCookie: c=d", "odd field", ((b"cookie", b"a=b"), (b"cookie", b"c=d"))
    ),
]

EXPECTED = [
    Field("100-continue", b"Expect: 100-continue", "expectation"),
    Field("100-Continue", b"expect: 100-CONTINUE", "expectation"),
    *(
        Field(f"Expect {value!r}", b"Expect: " + value, "expectation unknown")
        for value in (
            b"miracles",
            b"200-ok",
            b"100-continue-x",
            b"100",
            b"100-continue; a=b",
            b"x, 100-continue",
        )
    ),
]

UPGRADES = [
    *(
        Field(f"{value!r}", b"Connection: Upgrade\r\nUpgrade: " + value, "upgrade ignored")
        for value in (
            b"h2c",
            b"H2C",
            b"h2c, websocket",
            b"websocket, h2c",
            b"TLS/1.0",
            b"HTTP/2.0",
            b"",
            b"websocket/13",
        )
    ),
    Field(
        "h2c with settings",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "upgrade ignored",
    ),
    Field(
        "h2c on two lines", b"Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: upgrade", "upgrade ignored"
    ),
    Field("not nominated", b"Upgrade: websocket", "upgrade ignored"),
    Field("nominated, none", b"Connection: upgrade", "upgrade ignored"),
]
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ=="
)
WEBSOCKET_MEANS = ((b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"dGhlIHNhbXBsZQ=="))

MARKER_CHUNK = Framing(
    "marker in a chunk",
    b"Transfer-Encoding: chunked\r\n",
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLER.body), SMUGGLER.body),
    "chunked",
    SMUGGLER.body,
)


def messages() -> Iterator[Message]:
    for one in SYNTAX:
        for framing in (SMUGGLER, MARKER_CHUNK):
            yield request(one, framing=framing)
        yield request(HOST, line=GET, host=one)
    for one in FIRST:
        yield request(line=GET, host=one)
        yield request(HOST, host=one, framing=SMUGGLER)
    for one in (*HOP, *OURS):
        yield request(one, line=GET)
        yield request(one, framing=SMUGGLER)
        yield request(one, framing=MARKER_CHUNK)
    for value, keeps in (
        (b"keep-alive", True),
        (b"Keep-Alive", True),
        (b"close, keep-alive", False),
        (b"x", False),
    ):
        yield request(
            Field(f"1.0 {value!r}", b"Connection: " + value, "hop by hop", keeps=keeps), line=POST10
        )
    for one in EXPECTED:
        yield request(one, line=GET)
        yield request(one, framing=SMUGGLER)
        yield request(one, framing=MARKER_CHUNK)
    yield request(EXPECTED[0], line=POST10, framing=SMUGGLER)
    for one in UPGRADES:
        yield request(one, line=GET)
        yield request(one, framing=SMUGGLER)
        yield request(one, framing=MARKER_CHUNK)
        yield request(one, line=POST10)
    yield from _websockets()
    yield from _bytes()


def _websockets() -> Iterator[Message]:
    means = WEBSOCKET_MEANS
    yield request(Field("WebSocket", WEBSOCKET, "upgrade to WebSocket", means), line=GET)
    yield request(Field("WebSocket", WEBSOCKET, "WebSocket with a body"), line=GET, framing=SMUGGLER)
    yield request(Field("WebSocket", WEBSOCKET, "WebSocket with a body"), line=GET, framing=MARKER_CHUNK)
    yield request(Field("WebSocket", WEBSOCKET, "WebSocket with a body"), line=POST, framing=SMUGGLER)
    yield request(
        Field("WebSocket by POST", WEBSOCKET, "upgrade ignored", means), line=POST, framing=length(b"")
    )
    for version in (b"12", b"9999", b"", b"x"):
        lines = WEBSOCKET.replace(b"13", version)
        odd = ((b"sec-websocket-version", version), means[1])
        yield request(Field(f"WebSocket {version!r}", lines, "upgrade to WebSocket", odd), line=GET)


def _bytes() -> Iterator[Message]:
    """Every byte within a name and a value."""
    for byte in range(256):
        one = bytes((byte,))
        line_end = "line end" if one in b"\r\n" else None
        data = b"X%bY: z" % one
        if one == b":":
            field = Field(f"{data!r}", data, "odd field", ((b"x", b"Y: z"),))
        else:
            rule = line_end or ("plain" if byte in TOKEN_BYTES else "field name")
            field = Field(f"{data!r}", data, rule, ((b"x%by" % one.lower(), b"z"),))
        yield request(field, framing=SMUGGLER)
        data = b"X-A: b%bc" % one
        valid = one == b"\t" or (byte >= 0x20 and byte != 0x7F)
        field = Field(
            f"{data!r}",
            data,
            line_end or ("odd field" if valid else "field value"),
            ((b"x-a", b"b%bc" % one),),
        )
        yield request(field, framing=SMUGGLER)
