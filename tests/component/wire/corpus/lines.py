"""First lines and Host: methods x targets x versions x forms of Host, and every byte in each part."""

from collections.abc import Iterator

from tests.component.wire.corpus.message import GET, HOST, SMUGGLER, Field, Line, Message, request

TOKEN_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

# fmt: off
METHODS = {
    **dict.fromkeys((
        b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD", b"PROPFIND", b"REPORT",
        b"M-SEARCH",
    ), "plain"),
    **dict.fromkeys((
        b"BREW", b"get", b"Get", b"X", b"GETT", b"!#$%&'*+-.^_`|~09", b"A" * 32,
    ), "method token"),
    **dict.fromkeys((
        b"A" * 33, b"A" * 60,
    ), "method length"),
    **dict.fromkeys((
        b"CONNECT", b"TRACE",
    ), "CONNECT or TRACE"),
    **dict.fromkeys((
        b"G(T", b"G\xe9T", b"G\x00T", b"G/T", b'"GET"', b"GET:", b"(", b"G\rT",
    ), "method"),
}
# fmt: on

TARGETS: dict[bytes, tuple[str, bytes, bytes | None]] = {
    b"/": ("plain", b"/", None),
    b"/case": ("plain", b"/case", None),
    b"/a/b/../c/./d": ("odd target", b"/a/b/../c/./d", None),
    b"/..": ("odd target", b"/..", None),
    b"//": ("odd target", b"//", None),
    b"//evil.example.com/x": ("odd target", b"//evil.example.com/x", None),
    b"/%2e%2e/%2F%00%0d%0a": ("odd target", b"/%2e%2e/%2F%00%0d%0a", None),
    b"/%zz%": ("odd target", b"/%zz%", None),
    b"/a?b=c&d=%20;e": ("plain", b"/a?b=c&d=%20;e", None),
    b"/??": ("plain", b"/??", None),
    b"/?": ("plain", b"/?", None),
    b"/\\..\\x": ("odd target", b"/\\..\\x", None),
    b"/{a}|^`<>\"'": ("odd target", b"/{a}|^`<>\"'", None),
    b"/;jsessionid=1:2@3": ("plain", b"/;jsessionid=1:2@3", None),
    b"/http://evil.example.com/": ("plain", b"/http://evil.example.com/", None),
    b"http://other.example.com/x?y": ("absolute target", b"/x?y", b"other.example.com"),
    b"http://other.example.com": ("absolute target", b"/", b"other.example.com"),
    b"http://other.example.com?y": ("absolute target", b"/?y", b"other.example.com"),
    b"HTTP://OTHER.example.com:81/": ("absolute target", b"/", b"OTHER.example.com:81"),
    b"https://other.example.com/": ("absolute target", b"/", b"other.example.com"),
    b"http://[::1]:81/x": ("absolute target", b"/x", b"[::1]:81"),
    b"http://user@other.example.com/": ("target", b"", None),
    b"http://user:word@other.example.com/": ("target", b"", None),
    b"http:///x": ("target", b"", None),
    b"http://": ("target", b"", None),
    b"http:/x": ("target", b"", None),
    b"http:x": ("target", b"", None),
    b"http://other.example.com:99999/": ("target", b"", None),
    b"http://a,b/": ("target", b"", None),
    b"http://other.example.com\\@evil/": ("target", b"", None),
    b"ftp://other.example.com/": ("target", b"", None),
    b"gopher://other.example.com/": ("target", b"", None),
    b"javascript:1": ("target", b"", None),
    b"case": ("target", b"", None),
    b"../case": ("target", b"", None),
    b"?x": ("target", b"", None),
    b"other.example.com:80": ("target", b"", None),
    b"other.example.com": ("target", b"", None),
    b"**": ("target", b"", None),
    b"*/x": ("target", b"", None),
    b"/#fragment": ("target byte", b"", None),
    b"/x#": ("target byte", b"", None),
    b"/\xc3\xa9": ("target byte", b"", None),
    b"/\xc0\xae\xc0\xae/": ("target byte", b"", None),
    b"/a\x00b": ("target byte", b"", None),
    b"/a\tb": ("target byte", b"", None),
    b"/a\x7fb": ("target byte", b"", None),
    b"/a\x0bb": ("target byte", b"", None),
}

# fmt: off
VERSIONS = {
    **dict.fromkeys((
        b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.0", b"HTTP/9.9", b"RTSP/1.0",
        b"ICE/1.0", b"HTTPS/1.1",
    ), "version"),
    **dict.fromkeys((
        b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/11", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.01",
        b"HTTP/1,1", b"HTTP 1.1", b"http/1.1", b"Http/1.1", b"HTP/1.1", b"HTTP/A.1", b"HTTP/1.1x",
        b"HTTP/-1.1", b"HTTP/", b"HTTP/ 1.1", b"HTTP/1. 1", b"HTTP /1.1", b"HTTP/1.1 ", b"HTTP/1.1\t",
        b"HTTP/1.1\x00", b"", b"1.1", b"HTTP/1.1;", b"HTTP/1.1/", b"HTTP:1.1", b"\xe9TTP/1.1",
        b"HTTP/1.1,HTTP/1.1", b"HTTP\\1.1",
    ), "version grammar"),
}
# fmt: on

LINES = [
    Line("HTTP/0.9", b"GET /case", "HTTP/0.9"),
    Line("HTTP/0.9 with a space", b"GET /case ", "request line"),
    Line("two spaces first", b"GET  /case HTTP/1.1", "request line"),
    Line("two spaces last", b"GET /case  HTTP/1.1", "request line"),
    Line("tab first", b"GET\t/case HTTP/1.1", "request line"),
    Line("tab last", b"GET /case\tHTTP/1.1", "request line"),
    Line("vertical tab", b"GET\x0b/case HTTP/1.1", "request line"),
    Line("form feed", b"GET /case\x0cHTTP/1.1", "request line"),
    Line("space before", b" GET /case HTTP/1.1", "white space first"),
    Line("tab before", b"\tGET /case HTTP/1.1", "white space first"),
    Line("space in target", b"GET /ca se HTTP/1.1", "request line"),
    Line("two versions", b"GET /case HTTP/1.1 HTTP/1.1", "request line"),
    Line("method alone", b"GET", "request line"),
    Line("no target", b"GET HTTP/1.1", "request line"),
    Line("no target, two spaces", b"GET  HTTP/1.1", "request line"),
    Line("no method", b"/case HTTP/1.1", "request line"),
    Line("no method, space", b" /case HTTP/1.1", "white space first"),
    Line("field first", b"Host: shop.example.com", "request line"),
    Line("answer first", b"HTTP/1.1 200 OK", "request line"),
    Line("bare CR within", b"GET /case\r HTTP/1.1", "request line"),
    Line("bare CR at the end", b"GET /case HTTP/1.1\r", "request line"),
    Line("LF first", b"\nGET /case HTTP/1.1", "request line"),
    Line("CR first", b"\rGET /case HTTP/1.1", "request line"),
    Line("NUL first", b"\x00GET /case HTTP/1.1", "method"),
    Line("byte order mark", b"\xef\xbb\xbfGET /case HTTP/1.1", "method"),
    Line("CRLF first", b"\r\nGET /case HTTP/1.1", "empty lines first", b"GET", b"/case"),
    Line("CRLF twice first", b"\r\n\r\nGET /case HTTP/1.1", "empty lines first", b"GET", b"/case"),
    Line("LF for CRLF", b"GET /case HTTP/1.1\nX: y", "request line"),
    Line("CR for CRLF", b"GET /case HTTP/1.1\rX: y", "request line"),
]

NO_HOST = Field("no Host", b"X-No: host", "no Host", ((b"x-no", b"host"),))

# fmt: off
HOSTS: dict[bytes, str] = {
    **dict.fromkeys((
        b"a", b"a.", b"a.b.c", b"A.B", b"a-b.c", b"1", b"127.0.0.1", b"127.0.0.1:8080", b"[::1]",
        b"[::1]:1", b"a:1", b"a" * 250, b"a:0", b"a:65535", b"xn--bcher-kva.example",
        b"_dmarc.example.com", b"a:00080", b"[::ffff:127.0.0.1]:80",
    ), "plain"),
    **dict.fromkeys((
        b"", b"a/b", b"a/", b"a?b", b"a#b", b"u@a", b"u:p@a", b"@a", b"a@", b"a b", b"a\tb", b"http://a",
        b"a:x", b"a:80x", b"a:-1", b"a:+80", b"a:80:80", b"[::1", b"::1", b"[::1]x", b"[a]", b"[]",
        b"a\\b", b"a:65536", b"a:99999999999999999999", b"a<b", b"a>b", b'"a"', b"a^b", b"a`b", b"a{b}",
        b"a|b", b"a\xe9", b"\xe9", b"a:80 ,b", b"a, b", b"[::1%25eth0]", b":80", b":", b"a%", b"a%g0",
        b"[::g]", b"a\x7f",
    ), "Host"),
    **dict.fromkeys((
        b"a,b", b"a%2eb", b"a!b", b"a$b", b"a&b", b"a'b", b"a(b)", b"a*b", b"a+b", b"a;b", b"a=b", b"a~b",
        b"..", b".", b".a", b"a..b", b"a:", b"[::1]:", b"a" * 300, b"*.example.com", b"[v1.a]",
    ), "Host by policy"),
}
# fmt: on
"""RFC 3986 lets a port be empty and a name be almost anything; what no DNS name can be is refused."""


def host(value: bytes, rule: str, lines: bytes = b"Host: %b") -> Field:
    return Field(f"Host {value[:40]!r}", lines % value, rule, host=value)


def messages() -> Iterator[Message]:
    yield from _targets()
    yield from _versions()
    yield from _hosts()
    yield from _bytes()


def _targets() -> Iterator[Message]:
    for method, method_rule in METHODS.items():
        for target, (rule, means, authority) in TARGETS.items():
            data = b"%b %b HTTP/1.1" % (method, target)
            # RFC 9112 §3.2.4: the server as a whole, where the URL has neither path nor query.
            whole = method == b"OPTIONS" and target == b"http://other.example.com"
            means = b"*" if whole else means  # noqa: PLW2901
            line = Line(f"{data!r}", data, rule, method, means, authority, method_rule=method_rule)
            yield request(line=line, framing=SMUGGLER)
    for method in (b"GET", b"POST", b"HEAD", b"BREW", b"options"):
        rule = METHODS.get(method, "method token")
        yield request(line=Line(f"{method!r} *", method + b" * HTTP/1.1", "target", method, method_rule=rule))
    yield request(line=Line("OPTIONS *", b"OPTIONS * HTTP/1.1", "asterisk target", b"OPTIONS", b"*"))
    for target in (b"other.example.com:80", b"other.example.com:443", b"[::1]:443", b"*", b"http://a/"):
        yield request(line=Line(f"CONNECT {target!r}", b"CONNECT %b HTTP/1.1" % target, "CONNECT or TRACE"))


def _versions() -> Iterator[Message]:
    for version, rule in VERSIONS.items():
        for method in (b"GET", b"POST"):
            data = b"%b /case %b" % (method, version)
            yield request(line=Line(f"{data!r}", data, rule, method), framing=SMUGGLER)
    for line in LINES:
        yield request(line=line)
        yield request(line=line, framing=SMUGGLER)


def _hosts() -> Iterator[Message]:
    absolute = Line(
        "absolute",
        b"GET http://other.example.com/ HTTP/1.1",
        "absolute target",
        b"GET",
        b"/",
        b"other.example.com",
    )
    lines = (GET, absolute, Line("GET 1.0", b"GET /case HTTP/1.0", "HTTP/1.0", b"GET", b"/case", http10=True))
    for line in lines:
        for value, rule in HOSTS.items():
            yield request(line=line, host=host(value, rule))
            yield request(line=line, host=host(value, rule, b"hOsT:\t %b"))
            behind = "white space behind" if rule == "plain" else rule
            yield request(line=line, host=host(value, behind, b"Host: %b \t"))
        for value in (b"shop.example.com", b"other.example.com", b"", b"a b"):
            second = Field(f"second Host {value!r}", b"Host: " + value, "two Hosts")
            yield request(second, line=line)
            yield request(HOST, host=second, line=line, framing=SMUGGLER)
        yield request(Field("Host :", b"Host : evil.example.com", "space before colon"), line=line)
        yield request(Field("Host folded", b"X: y\r\n Host: evil.example.com", "folded"), line=line)
        yield request(
            Field("X-Host", b"X-Host: evil.example.com", means=((b"x-host", b"evil.example.com"),)), line=line
        )
        yield request(line=line, host=NO_HOST if not line.http10 else None)


def _bytes() -> Iterator[Message]:
    """Every byte within each part."""
    for byte in range(256):
        one = bytes((byte,))
        line_end = one in b"\r\n"
        split = "request line" if line_end or one == b" " else None
        data = b"GE%bT /case HTTP/1.1" % one
        rule = split or ("method token" if byte in TOKEN_BYTES else "method")
        yield request(line=Line(f"{data!r}", data, rule, b"GE%bT" % one, b"/case"))
        data = b"GET /a%bb HTTP/1.1" % one
        rule = split or ("odd target" if 0x21 <= byte <= 0x7E and one != b"#" else "target byte")
        yield request(line=Line(f"{data!r}", data, rule, b"GET", b"/a%bb" % one))
        rule = "line end" if line_end else "plain" if one.isalnum() or one in b"-_." else "Host"
        yield request(line=GET, host=host(b"a%bb" % one, rule))
