"""Messages put together from parts: what is sent, and what it means."""

from dataclasses import dataclass, replace

from tests.component.wire.corpus.rules import Outcome, outcome

NUMBER = b"@CASE"
"""Where a message carries its number, in five digits; it is unique in a run."""
MARKER = b"GET /smuggled/@CASE HTTP/1.1\r\nHost: evil.example.com\r\nX-Case: @CASE\r\n\r\n"
"""A request that hides in other messages' bodies and must never be one of its own."""


@dataclass(frozen=True)
class Line:
    """A request line, or whatever stands for one; `method` and `target` are what it means upstream."""

    name: str
    data: bytes
    rule: str = "plain"
    method: bytes = b"POST"
    target: bytes = b"/"
    authority: bytes | None = None
    """What it says in Host's place."""
    http10: bool = False
    method_rule: str = "plain"


@dataclass(frozen=True)
class Field:
    """Field lines without the last line end; `means`: what of them goes on, names in lower case."""

    name: str
    data: bytes
    rule: str = "plain"
    means: tuple[tuple[bytes, bytes], ...] = ()
    host: bytes | None = None
    closes: bool = False
    """Nothing behind the request is served."""
    keeps: bool = False
    """An HTTP/1.0 connection lives on."""


@dataclass(frozen=True)
class Framing:
    """Framing fields, complete lines, and the body as it is sent; `content`: what it means."""

    name: str
    fields: bytes
    body: bytes = b""
    rule: str = "plain"
    content: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Meaning:
    """A request as its origin has to read it. `host` is None where any will do."""

    method: bytes
    target: bytes
    host: bytes | None
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    trailers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Message:
    """A request, odd or hostile."""

    name: str
    rules: tuple[str, ...]
    data: bytes
    meaning: Meaning
    closes: bool = False
    """Nothing behind it is served."""
    ends: bool = False
    """The client closes its half behind it."""
    number: int = 0
    template: "Message | None" = None
    """The same without its number."""

    @property
    def outcome(self) -> Outcome:
        return outcome(self.rules)

    def numbered(self, number: int) -> "Message":
        digits = b"%05d" % number

        def put(data: bytes) -> bytes:
            return data.replace(NUMBER, digits)

        meaning = self.meaning
        return replace(
            self,
            template=self,
            number=number,
            data=put(self.data),
            meaning=replace(
                meaning,
                target=put(meaning.target),
                fields=tuple((name, put(value)) for name, value in meaning.fields),
                body=put(meaning.body),
            ),
        )


POST = Line("POST", b"POST /case HTTP/1.1", target=b"/case")
GET = Line("GET", b"GET /case HTTP/1.1", method=b"GET", target=b"/case")
POST10 = Line("POST 1.0", b"POST /case HTTP/1.0", "HTTP/1.0", target=b"/case", http10=True)
HOST = Field("Host", b"Host: shop.example.com", host=b"shop.example.com")
CASE = Field("X-Case", b"X-Case: " + NUMBER, means=((b"x-case", NUMBER),))
NONE = Framing("no body", b"")


def length(content: bytes) -> Framing:
    """A body of that length."""
    return Framing("length", b"Content-Length: %d\r\n" % len(content), content, "length", content)


SMUGGLER = length(MARKER)
"""The marker as an honest body."""


def request(
    *fields: Field, line: Line = POST, host: Field | None = HOST, framing: Framing = NONE, ends: bool = False
) -> Message:
    """The message of these parts; the number comes last, so that odd fields may come first."""
    every = (*((host,) if host else ()), *fields, CASE)
    odd = [part.name for part in (line, *((host,) if host else ()), *fields, framing)]
    rules = {line.method_rule: None} | {part.rule: None for part in (line, *every, framing)}
    authority = line.authority
    for one in every:
        authority = one.host if authority is None else authority
    return Message(
        name=" | ".join(odd),
        rules=tuple(rules),
        data=b"\r\n".join((line.data, *(one.data for one in every), framing.fields + b"\r\n" + framing.body)),
        meaning=Meaning(
            method=line.method,
            target=line.target,
            host=authority,
            fields=tuple(pair for one in every for pair in one.means),
            body=framing.content,
            trailers=framing.trailers,
        ),
        closes=any(one.closes for one in every) or (line.http10 and not any(one.keeps for one in every)),
        ends=ends,
    )
