"""How long a body is: Content-Length, Transfer-Encoding, both, and what chunks can be made of."""

from collections.abc import Iterator

from tests.component.wire.corpus.lines import TOKEN_BYTES
from tests.component.wire.corpus.message import (
    GET,
    MARKER,
    POST,
    POST10,
    Field,
    Framing,
    Line,
    Message,
    request,
)

DELETE = Line("DELETE", b"DELETE /case HTTP/1.1", method=b"DELETE", target=b"/case")
OPTIONS = Line("OPTIONS", b"OPTIONS /case HTTP/1.1", method=b"OPTIONS", target=b"/case")
HEAD = Line("HEAD", b"HEAD /case HTTP/1.1", method=b"HEAD", target=b"/case")
LINES = (POST, GET, DELETE, OPTIONS, HEAD)

SIZE = b"%d" % len(MARKER)

# fmt: off
LENGTHS: dict[bytes, str] = {
    SIZE: "length",
    b"0" + SIZE: "length with zeros",
    b"00000" + SIZE: "length with zeros",
    b"\t" + SIZE: "length",
    b"  \t" + SIZE: "length",
    SIZE + b" ": "white space behind",
    SIZE + b"\t": "white space behind",
    b" " + SIZE + b"  \t": "white space behind",
    **dict.fromkeys((
        b"", b"+" + SIZE, b"-" + SIZE, b"-0", b"+0", b"-1", b"0x10", b"0x0", b"0o7", b"0b1", b"1e1",
        b"1.0", b"1_0", b"1 0", b"1\t0", b"x", SIZE + b"x", b"x" + SIZE, SIZE + b";", SIZE + b",",
        b"," + SIZE, b'"' + SIZE + b'"', b"'0'", b"\xb2", b"\xd9\xa0", b"0\x00", b"0\x0b", b"0\x0c",
        b"\x0b0", b"0\r", b"0\n0", b"0;a=b", b"NaN", b"%30", b"(0)0", b"0, ", b", 0", b"chunked",
    ), "length grammar"),
    **dict.fromkeys((
        b"0, 0", b"0,0,0", SIZE + b", " + SIZE, b"0, " + SIZE, SIZE + b", 0",
    ), "lengths"),
    **dict.fromkeys((
        b"9223372036854775808", b"18446744073709551616", b"18446744073709551617", b"4294967296" * 3,
        b"9" * 100,
    ), "length beyond"),
}
# fmt: on

# fmt: off
CODINGS: dict[bytes, str] = {
    b"chunked": "chunked",
    b"Chunked": "chunked",
    b"CHUNKED": "chunked",
    b"\tchunked": "chunked",
    b" \t chunked": "chunked",
    b"chunked ": "white space behind",
    b" chunked\t": "white space behind",
    **dict.fromkeys((
        b"", b"identity", b"gzip", b"xchunked", b"chunkedx", b"chunke", b"chunked;q=1", b"chunked; a=b",
        b"chunked ;", b'"chunked"', b"'chunked'", b"chunked\x00", b"\x00chunked", b"\x0bchunked",
        b"chunked\x0c", b"chun\tked", b"chun ked", b"c\xe8unked", b"chunk\xe9d", b"chunked\xa0",
        b"\xa0chunked", b"chunked\x85", b"cow", b"5", b"chunked=", b"chunked/1.1", b"deflate", b"compress",
        b"x-gzip", b"br", b"trailers", b"chunked;", b"=chunked", b"(chunked)", b"\xef\xbc\xa3hunked",
        b"chunKed\xe2\x84\xaa", b"chun\xe2\x84\xaaed", b"0", b"null", b"undefined", b"*",
    ), "coding"),
    **dict.fromkeys((
        b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity, chunked",
        b"chunked, identity", b"chunked,", b",chunked", b", chunked", b"chunked, ", b"chunked,,",
        b"chunked\t,\tchunked", b"x, chunked", b"chunked chunked", b"chunked, cow", b"gzip,chunked",
        b"identity,identity", b"chunked;chunked", b"chunked,trailers",
    ), "codings"),
}
# fmt: on

CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(MARKER), MARKER)


def lengthy(value: bytes, rule: str) -> Framing:
    return Framing(f"Content-Length {value[:30]!r}", b"Content-Length: %b\r\n" % value, MARKER, rule, MARKER)


def coded(value: bytes, rule: str, name: bytes = b"Transfer-Encoding") -> Framing:
    return Framing(f"{name!r} {value!r}", b"%b: %b\r\n" % (name, value), CHUNKS, rule, MARKER)


def chunks(name: str, body: bytes, rule: str = "chunked", content: bytes = b"hello") -> Framing:
    return Framing(name, b"Transfer-Encoding: chunked\r\n", body, rule, content)


def messages() -> Iterator[Message]:
    for value, rule in LENGTHS.items():
        for line in (*LINES, POST10):
            yield request(line=line, framing=lengthy(value, rule))
    for value, rule in CODINGS.items():
        for line in LINES:
            yield request(line=line, framing=coded(value, rule))
        yield request(
            line=POST10,
            framing=coded(value, "coding on 1.0" if rule in ("chunked", "white space behind") else rule),
        )
        # Beside a length that would hide what follows, or leave it as the next request.
        for length in (b"0", SIZE, b"%d" % len(CHUNKS)):
            first = Field(f"Content-Length {length!r}", b"Content-Length: " + length, "length and coding")
            yield request(first, framing=coded(value, rule))
        second = Framing(
            f"Transfer-Encoding {value!r} before Content-Length",
            b"Transfer-Encoding: %b\r\nContent-Length: %d\r\n" % (value, len(CHUNKS)),
            CHUNKS,
            "length and coding",
        )
        yield request(framing=second)
        again = Field("chunked before", b"Transfer-Encoding: chunked", "codings")
        yield request(again, framing=coded(value, rule))
    yield from _pairs()
    yield from _chunked()
    yield from _bytes()
    yield from _truncated()


def _pairs() -> Iterator[Message]:
    for first in (b"0", SIZE, b"5"):
        for second in (b"0", SIZE, b"5", b"x"):
            field = Field(f"Content-Length {first!r} before", b"Content-Length: " + first, "lengths")
            yield request(field, framing=lengthy(second, "lengths"))
            between = Field("another between", b"Content-Length: %b\r\nX-A: b" % first, "lengths")
            yield request(between, line=GET, framing=lengthy(second, "lengths"))
    for name in (b"Transfer-Encoding ", b"Transfer\xadEncoding", b"Transfer Encoding", b" Transfer-Encoding"):
        for value in (b"chunked", b"identity"):
            for line in (POST, GET):
                yield request(line=line, framing=coded(value, "field name", name))
    for name, rule in (
        (b"Transfer_Encoding", "alias"),
        (b"X-Transfer-Encoding", "plain"),
        (b"Content-Encoding", "plain"),
        (b"TE", "hop by hop"),
    ):
        means = ((name.lower(), b"chunked"),) if rule == "plain" else ()
        field = Field(f"{name.decode()} alone", name + b": chunked", rule, means)
        yield request(field)
        yield request(field, framing=lengthy(SIZE, "length"))


# fmt: off
SIZES: dict[bytes, str] = {
    **dict.fromkeys((
        b"5", b"05", b"0000005", b"00000000000005",
    ), "chunked"),
    **dict.fromkeys((
        b"", b"+5", b"-5", b"0x5", b"0X5", b"5h", b"x", b"5_", b"0_5", b"5.", b"5.0", b"\xb5", b"5\x00",
        b"5\x0b", b"5,", b"5,5", b"'5'", b'"5"', b"5%", b"5:", b"5=", b"5-", b"G", b"0x", b"-0", b"-1",
        b"5L", b"\\x05",
    ), "chunk size"),
    **dict.fromkeys((
        b" 5", b"\t5", b"5 ", b"5\t", b"5  ", b"5 ;a", b"5; a", b"5;a ", b"5;a =b", b"5\t;a=b",
    ), "white space in chunk line"),
    **dict.fromkeys((
        b"10000000000000005", b"100000000000000000000000000000005", b"FFFFFFFFFFFFFFFF",
        b"FFFFFFFFFFFFFFFFF", b"8000000000000005",
    ), "chunk size beyond"),
}
# fmt: on

# fmt: off
EXTENSIONS: dict[bytes, str] = {
    **dict.fromkeys((
        b";a", b";a=b", b';a="b"', b";a;b;c", b";a=b;c=d", b';a="b;c"', b';a="\\""', b';a=""',
        b";" + b"a" * 200, b";!#$%&'*+-.^_`|~=1", b';a="\xe9"', b';a="b c\t"',
    ), "chunk extension"),
    **dict.fromkeys((b";a=", b";=", b";=b"), "odd extension"),
    **dict.fromkeys((
        b";", b";;", b";a;", b';a="', b';a="b', b";a=b\x00", b";a\x00", b";\x01",
        b";a b", b";a=b c", b";(a)", b";a=(b)", b";a\xe9", b";a\x7f", b';a="b"c', b';"a"', b";a=b=c",
        b';a="\x00"', b";a/b", b";[a]",
    ), "chunk extension grammar"),
    **dict.fromkeys((
        b";a\n", b";\n", b";a\r", b";a\rb", b";a\nb", b"\r", b"\n", b";a=\r", b';a="\r"', b";a\n0\r\n",
    ), "chunk line end"),
    b";" + b"a" * 20000: "chunk line length",
}
# fmt: on

ODD_CHUNKS = [
    chunks("one byte each", b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + b"0\r\n\r\n"),
    chunks("empty", b"0\r\n\r\n", content=b""),
    chunks("upper case", b"A\r\n0123456789\r\n0\r\n\r\n", content=b"0123456789"),
    chunks("lower case", b"a\r\n0123456789\r\n0\r\n\r\n", content=b"0123456789"),
    chunks("long", b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n", content=b"x" * 65536),
    chunks("last of zeros", b"5\r\nhello\r\n0000\r\n\r\n"),
    chunks("extension on the last", b"5\r\nhello\r\n0;a=b\r\n\r\n", "chunk extension"),
    chunks("CRLF as data", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", content=b"\r\n\r\n"),
    chunks("last chunk as data", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", content=b"0\r\n\r\n"),
    chunks("marker as data", CHUNKS, content=MARKER),
    chunks("too long by one", b"5\r\nhelloX\r\n0\r\n\r\n", "chunk data"),
    chunks("too long by much", b"1\r\nhello\r\n0\r\n\r\n", "chunk data"),
    chunks("too short by one", b"6\r\nhello\r\n0\r\n\r\n", "chunk data"),
    chunks("no line end behind data", b"5\r\nhello0\r\n\r\n", "chunk data"),
    chunks("LF behind data", b"5\r\nhello\n0\r\n\r\n", "chunk line end"),
    chunks("CR behind data", b"5\r\nhello\r0\r\n\r\n", "chunk line end"),
    chunks("two line ends behind data", b"5\r\nhello\r\n\r\n0\r\n\r\n", "chunk size"),
    chunks("LF behind size", b"5\nhello\r\n0\r\n\r\n", "chunk line end"),
    chunks("CR behind size", b"5\rhello\r\n0\r\n\r\n", "chunk line end"),
    chunks("CR CR LF behind size", b"5\r\r\nhello\r\n0\r\n\r\n", "chunk line end"),
    chunks("LF CR behind size", b"5\n\rhello\r\n0\r\n\r\n", "chunk line end"),
    chunks("LF behind last", b"5\r\nhello\r\n0\n\r\n", "chunk line end"),
    chunks("LF at the end", b"5\r\nhello\r\n0\r\n\n", "chunk line end"),
    chunks("LF LF at the end", b"5\r\nhello\r\n0\n\n", "chunk line end"),
    chunks("CR at the end", b"5\r\nhello\r\n0\r\n\rX", "chunk line end"),
    chunks("no chunk at all", MARKER, "chunk size"),
    chunks("size in decimal", b"10\r\n0123456789\r\n0\r\n\r\n", "chunk data"),
]

# fmt: off
TRAILERS: dict[bytes, str] = {
    **dict.fromkeys((b"Content-Length: 5", b"Transfer-Encoding: chunked"), "framing trailer"),
    **dict.fromkeys((
        b"X-Sum: 1", b"Connection: close", b"X-Sum: 1\r\nX-More: 2", b"x-sum:",
        b"Host: evil.example.com", b"Authorization: Basic x",
        b"Content-Type: text/html", b"Cookie: sr=1", b"X-Forwarded-For: 192.0.2.66",
        b"X-Session-Lost: x", b"Content-Encoding: gzip", b"Trailer: X", b"Upgrade: h2c",
        b"Expect: 100-continue", b"Cache-Control: no-store", b"Range: bytes=0-1",
    ), "trailer"),
    **dict.fromkeys((
        b"X-Sum", b" X-Sum: 1", b"X-Sum : 1", b"X-Sum: 1\r\n folded", b"X\x00: 1", b"X: \x00", b": 1",
        b"X\xe9: 1", b"X Y: 1", b"GET /smuggled HTTP/1.1", b"X: a\rb", b"X: a\nb", b"X: a\nY: b",
        b"\nX: a", b"X: \x7f", b"X: \x01",
    ), "trailer grammar"),
    b"X-Sum: " + b"a" * 40000: "trailer length",
    b"\r\n".join(b"X-%d: a" % i for i in range(2000)): "trailer length",
}
# fmt: on


def _chunked() -> Iterator[Message]:
    for size, rule in SIZES.items():
        for before in (b"", b"5\r\nhello\r\n"):
            content = before[3:8] + b"hello"
            framing = chunks(f"size {size!r}", before + size + b"\r\nhello\r\n0\r\n\r\n", rule, content)
            yield request(framing=framing)
        if rule != "chunked":
            last = size.replace(b"5", b"0")
            yield request(framing=chunks(f"last size {last!r}", b"5\r\nhello\r\n%b\r\n\r\n" % last, rule))
    for extension, rule in EXTENSIONS.items():
        yield request(framing=chunks(f"{extension[:30]!r}", b"5%b\r\nhello\r\n0\r\n\r\n" % extension, rule))
        yield request(
            framing=chunks(f"last {extension[:30]!r}", b"5\r\nhello\r\n0%b\r\n\r\n" % extension, rule)
        )
    for framing in ODD_CHUNKS:
        yield request(framing=framing)
        yield request(line=GET, framing=framing)
    for lines, rule in TRAILERS.items():
        pairs = tuple(
            (name.lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines.split(b"\r\n"))
        )
        body = b"5\r\nhello\r\n0\r\n%b\r\n\r\n" % lines
        framing = Framing(
            f"trailer {lines[:30]!r}", b"Transfer-Encoding: chunked\r\n", body, rule, b"hello", pairs
        )
        yield request(framing=framing)
        yield request(Field("TE: trailers", b"TE: trailers", "hop by hop"), framing=framing)


def _bytes() -> Iterator[Message]:
    """Every byte where it could be taken for something else."""
    for byte in range(256):
        one = bytes((byte,))
        bad = "line end" if one in b"\r\n" else "field value" if byte < 0x20 or byte == 0x7F else None
        space = one in b" \t"
        if not one.isdigit():
            rule = "length" if space else bad or "length grammar"
            yield request(framing=lengthy(SIZE + one, "white space behind" if space else rule))
            yield request(framing=lengthy(one + SIZE, rule))
        rule = "chunked" if space else bad or "coding"
        yield request(framing=coded(b"chunked" + one, "white space behind" if space else rule))
        yield request(framing=coded(one + b"chunked", rule))
        if one not in b"0123456789abcdefABCDEF":
            rule = "chunk line end" if one in b"\r\n" else "chunk size"
            yield request(framing=chunks(f"size 5 {one!r}", b"5%b\r\nhello\r\n0\r\n\r\n" % one, rule))
        named = byte in TOKEN_BYTES or one in b";="
        rule = (
            "chunk line end" if one in b"\r\n" else "chunk extension" if named else "chunk extension grammar"
        )
        yield request(framing=chunks(f"extension {one!r}", b"5;a%bb\r\nhello\r\n0\r\n\r\n" % one, rule))


def _truncated() -> Iterator[Message]:
    whole = (
        Framing("length", b"Content-Length: 9\r\n", b"hello", "truncated"),
        Framing("length, nothing", b"Content-Length: 9\r\n", b"", "truncated"),
        Framing("length of 18 digits", b"Content-Length: 999999999999999999\r\n", MARKER, "truncated"),
        *(
            chunks(f"chunks until {cut}", b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"[:cut], "truncated")
            for cut in range(len(b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"))
        ),
        chunks("huge chunk", b"FFFFFFFFFFFFFFF\r\n" + MARKER, "truncated"),
    )
    for framing in whole:
        yield request(framing=framing, ends=True)
