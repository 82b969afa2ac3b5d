"""Answers: status lines x fields x framing x who asked, and every byte in each of their parts."""

from collections.abc import Iterator
from dataclasses import replace

from tests.component.wire.corpus.answer import CHUNKED, CLOSE, LENGTH, NOTHING, Answer, Status, answer, chunks
from tests.component.wire.corpus.framing import CODINGS, EXTENSIONS, LENGTHS, ODD_CHUNKS, SIZES, TRAILERS
from tests.component.wire.corpus.lines import TOKEN_BYTES
from tests.component.wire.corpus.message import Field, Framing

POISON = b"HTTP/1.1 200 OK\r\nX-Poison: yes\r\nContent-Length: 6\r\n\r\npoison"
"""An answer that nobody asked for."""


def every_answer() -> list[Answer]:
    """Each answer to GET, to GET in HTTP/1.0, and to HEAD."""
    found: dict[tuple[bytes, bytes, bool], Answer] = {}
    for table in (_statuses, _fields, _framings, _cuts, _bytes):
        for one in table():
            found[one.data, b"GET", False] = one
            found[one.data, b"GET", True] = replace(one, http10=True, interim=())
            if not {"chunks", "truncated"}.intersection(one.rules):
                # To HEAD a body is garbage behind the end.
                found[one.data, b"HEAD", False] = replace(one, method=b"HEAD", body=b"")
    return [replace(one, number=number) for number, one in enumerate(found.values())]


# fmt: off
BAD_STATUS_LINES = (
    b"", b"200 OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2 OK",
    b"HTTP/1.1 2000 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1 -20 OK", b"HTTP/1.1 +20 OK",
    b"HTTP/1.1 2x0 OK", b"HTTP/1.1 0x2 OK", b"HTTP/1.1 20.0 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK",
    b"HTTP/1.1 200\tOK", b"HTTP/1.1200 OK", b" HTTP/1.1 200 OK", b"\tHTTP/1.1 200 OK", b"HTTP/2 200",
    b"HTTP/2.0 200 OK", b"HTTP/3.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/11 200 OK", b"HTTP/1.10 200 OK",
    b"http/1.1 200 OK", b"HTP/1.1 200 OK", b"HTTPS/1.1 200 OK", b"HTTP/1.1 200 OK\x00", b"HTTP/1.1 \x00 OK",
    b"HTTP/1.1 2 00 OK", b"HTTP/1.1: 200 OK", b"HTTP 1.1 200 OK", b"HTTP/1,1 200 OK", b"HTTP/a.b 200 OK",
    b"GET / HTTP/1.1", b"SSH-2.0-OpenSSH", b"220 mail.example.com", b"Content-Length: 5", b"\x15\x03\x01",
    b"RTSP/1.0 200 OK", b"HTTP/1.1 \xb2\xb0\xb0 OK", b"HTTP/1.1 200OK", b"<html>", b"\x00", b"ICY 200 OK",
    b"HTTP/1 200 OK", b"OK", b"HTTP/1.1 OK 200",
)
HOP_BY_HOP = (
    b"Connection: keep-alive", b"Connection: close", b"Connection: X-A\r\nX-A: b", b"Keep-Alive: timeout=5",
    b"X-A: b\r\nConnection: x-a, close", b"Proxy-Connection: close", b"Trailer: X-Sum", b"Upgrade: h2c",
    b"Connection: Upgrade\r\nUpgrade: h2c", b"Connection: upgrade\r\nUpgrade: websocket",
    b"Connection: Content-Length",
)
BAD_FIELDS = {
    **dict.fromkeys((
        b"X-A", b": b", b"X-A : b", b"X A: b", b"X-A: b\x00c", b"X\x00A: b", b"X-\xe9: b", b"X-A: b\x01",
        b"[X]: b", b"Content-Length : 5", b"Transfer-Encoding : chunked", b"X-A: b\x7fc",
    ), "field line"),
    **dict.fromkeys((
        b"X-A: b\r\n c", b"X-A: b\r\n\tc", b"X-A:\r\n b", b"Transfer-Encoding:\r\n chunked", b" X-A: b",
        b"\tX-A: b", b"Set-Cookie: a=b;\r\n Secure", b" ",
    ), "folded"),
    **dict.fromkeys((
        b"X-A: b\nX-B: c", b"X-A: b\rX-B: c", b"X-A: b\rc", b"X-A: b\r", b"X-A: b\n\nX", b"X-A: b\n\r",
        b"\nX-A: b", b"X-A: b\nContent-Length: 0", b"X-A: b\r\r\nX-B: c",
    ), "line end"),
}
# fmt: on

STATUSES = [
    *(
        Status(b"HTTP/1.1 %d X" % code, "odd status", code)
        for code in (200, 201, 206, 299, 300, 400, 404, 418, 499, 500, 503, 599, 600, 799, 999)
    ),
    Status(b"HTTP/1.1 200 ", "odd status"),
    Status(b"HTTP/1.1 200 \xe9\xff \t!", "odd status"),
    Status(b"HTTP/1.1 200 " + b"a" * 2000, "odd status"),
    Status(b"HTTP/1.1 200", "no space behind status"),
    Status(b"\r\nHTTP/1.1 200 OK", "empty line first"),
    Status(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK", "interim", interim=(103,)),
    Status(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK", "interim", interim=(102,)),
    Status(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK", "interim", interim=(100,)),
    Status(b"HTTP/1.1 199 X\r\n\r\nHTTP/1.1 404 No", "interim", 404, interim=(199,)),
    Status(b"HTTP/1.1 102 X\r\n\r\n" * 20 + b"HTTP/1.1 200 OK", "interim", interim=(102,) * 20),
    Status(b"HTTP/1.1 100 X\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK", "interim", interim=(100,)),
    *(
        Status(b"HTTP/1.1 101 X\r\n%b\r\nHTTP/1.1 200 OK" % lines, "unasked upgrade")
        for lines in (
            b"",
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
            b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        )
    ),
    *(Status(data, "status line") for data in BAD_STATUS_LINES),
]

FIELDS = [
    Field("nothing", b"X-A:", "odd field", ((b"x-a", b""),)),
    Field("no white space", b"X-A:b", "odd field", ((b"x-a", b"b"),)),
    Field("much white space", b"X-A: \t b \t ", "odd field", ((b"x-a", b"b"),)),
    Field("8-bit", b"X-A: \xe9\xff\x80", "odd field", ((b"x-a", b"\xe9\xff\x80"),)),
    Field("twice", b"X-A: b\r\nX-A: c", "odd field", ((b"x-a", b"b"), (b"x-a", b"c"))),
    Field("cookie with a comma", b"Set-Cookie: c=d, e", "odd field", ((b"set-cookie", b"c=d, e"),)),
    Field(
        "two cookies",
        b"Set-Cookie: a=b\r\nSet-Cookie: c=d",
        "odd field",
        ((b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")),
    ),
    Field("colon in value", b"X-A:: b", "odd field", ((b"x-a", b": b"),)),
    Field("underscore", b"X_A: b", "odd field", ((b"x_a", b"b"),)),
    Field("long value", b"X-A: " + b"b" * 8000, "odd field", ((b"x-a", b"b" * 8000),)),
    Field("encoding", b"Content-Encoding: gzip", "odd field", ((b"content-encoding", b"gzip"),)),
    Field("Date", b"Date: never", "odd field", ((b"date", b"never"),)),
    Field(
        "Location", b"Location: //evil.example.com/\t", "odd field", ((b"location", b"//evil.example.com/"),)
    ),
    *(Field(f"{data!r}", data, "hop by hop") for data in HOP_BY_HOP),
    *(Field(f"{data!r}", data, rule) for data, rule in BAD_FIELDS.items()),
]


def _statuses() -> Iterator[Answer]:
    for status in STATUSES:
        for framing in (LENGTH, CHUNKED, CLOSE):
            yield answer(status=status, framing=framing, ends=status.rule == "status line")
    old = Status(b"HTTP/1.0 200 OK", "HTTP/1.0 answer")
    kept = Field("keep-alive", b"Connection: keep-alive", "hop by hop")
    for framing in (LENGTH, CLOSE):
        yield answer(status=old, framing=framing, ends=True)
        yield answer(kept, status=old, framing=framing)
    yield answer(status=old, framing=replace(CHUNKED, rule="framing"))
    for code in (204, 304):
        status = Status(b"HTTP/1.1 %d X" % code, "no body here", code)
        none = Framing("none", b"")
        for framing in (none, LENGTH, CHUNKED, replace(none, fields=LENGTH.fields)):
            yield answer(status=status, framing=framing)


def _fields() -> Iterator[Answer]:
    for field in FIELDS:
        for framing in (LENGTH, CHUNKED, CLOSE):
            yield answer(field, framing=framing)
    for count, rule in ((100, "plain"), (127, "plain"), (129, "too long"), (1000, "too long")):
        lines = b"\r\n".join([b"X:"] * (count - 1))
        yield answer(Field(f"{count} fields", lines, rule, ((b"x", b""),) * (count - 1)))
    for size, rule in ((30000, "plain"), (33000, "too long"), (1 << 20, "too long")):
        yield answer(Field(f"{size} bytes", b"X: " + b"a" * size, rule, ((b"x", b"a" * size),)))
    yield Answer("head without end", ("too long",), b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20000)


AS_ANSWERS = {
    "length grammar": "framing",
    "lengths": "framing",
    "length beyond": "framing",
    "length with zeros": "length",
    "coding": "framing",
    "codings": "framing",
    "chunk extension": "chunked",
    "chunk size": "chunks",
    "chunk size beyond": "chunks",
    "chunk extension grammar": "chunks",
    "white space in chunk line": "chunks",
    "chunk data": "chunks",
    "chunk line end": "chunks",
    "chunk line length": "chunks",
    "trailer grammar": "chunks",
    "trailer length": "chunks",
}
"""The answers' rule for one of the requests'; others go by the same name."""


def _framings() -> Iterator[Answer]:
    coding = Field("chunked", b"Transfer-Encoding: chunked", "framing")
    for value, rule in LENGTHS.items():
        body = b"x" * 71
        line = b"Content-Length: %b\r\n" % value
        framing = Framing(f"Content-Length {value[:30]!r}", line, body, AS_ANSWERS.get(rule, rule), body)
        yield answer(framing=framing, ends=True)
        yield answer(coding, framing=framing)
    for value, rule in CODINGS.items():
        framing = chunks(
            f"Transfer-Encoding {value!r}", b"5\r\nhello\r\n0\r\n\r\n", AS_ANSWERS.get(rule, rule)
        )
        framing = replace(framing, fields=b"Transfer-Encoding: %b\r\n" % value)
        yield answer(framing=framing, ends=True)
        yield answer(Field("length", b"Content-Length: 5", "framing"), framing=framing)
        yield answer(coding, framing=framing)
    for first, second in ((b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b"x")):
        again = Framing("length again", b"Content-Length: %b\r\n" % second, b"hello", "framing")
        yield answer(Field("length", b"Content-Length: " + first, "framing"), framing=again)
    for rows, body in (
        (SIZES, b"%b\r\nhello\r\n0\r\n\r\n"),
        (EXTENSIONS, b"5%b\r\nhello\r\n0\r\n\r\n"),
        (TRAILERS, b"5\r\nhello\r\n0\r\n%b\r\n\r\n"),
    ):
        for value, rule in rows.items():
            framing = chunks(f"{value[:30]!r}", body % value, AS_ANSWERS.get(rule, rule))
            yield answer(framing=framing, ends=framing.rule == "chunks")
    for one in ODD_CHUNKS:
        yield answer(framing=replace(one, rule=AS_ANSWERS.get(one.rule, one.rule)), ends=True)


def _cuts() -> Iterator[Answer]:
    for framing in (LENGTH, CHUNKED, NOTHING):
        for behind in (POISON, b"\r\n", b"x", b"\r\n" + POISON, b"\x00" * 9):
            yield answer(framing=replace(framing, body=framing.body + behind, rule="behind the end"))
    for framing in (LENGTH, CHUNKED):
        for cut in range(len(framing.body)):
            part = replace(framing, body=framing.body[:cut], rule="truncated")
            yield answer(framing=replace(part, name=f"{framing.name} cut at {cut}"))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    for cut in range(len(head)):
        yield Answer(f"head cut at {cut}", ("truncated",), head[:cut], ends=True)


def _bytes() -> Iterator[Answer]:
    """Every byte within each part."""
    for byte in range(256):
        one = bytes((byte,))
        line_end = "line end" if one in b"\r\n" else None
        valid = one == b"\t" or (byte >= 0x20 and byte != 0x7F)
        yield answer(status=Status(b"HTTP/1.1 200 O%bK" % one, "odd status" if valid else "status line"))
        data = b"X-A: b%bc" % one
        rule = line_end or ("odd field" if valid else "field line")
        yield answer(Field(f"{data!r}", data, rule, ((b"x-a", b"b%bc" % one),)))
        data = b"X%bY: z" % one
        rule = line_end or ("odd field" if byte in TOKEN_BYTES else "field line")
        if one != b":":
            yield answer(Field(f"{data!r}", data, rule, ((b"x%by" % one.lower(), b"z"),)))
        if one not in b"0123456789abcdefABCDEF":
            body = b"5%b\r\nhello\r\n0\r\n\r\n" % one
            yield answer(framing=chunks(f"size 5 {one!r}", body, "chunks"), ends=True)
        rule = "white space behind" if one in b" \t" else "framing"
        if not one.isdigit():
            line = b"Content-Length: 5%b\r\n" % one
            yield answer(framing=Framing(f"{line!r}", line, b"hello", rule, b"hello"))
        line = b"Transfer-Encoding: chunked%b\r\n" % one
        yield answer(framing=replace(CHUNKED, name=f"{line!r}", fields=line, rule=rule))
