"""What a field is to a proxy, by its name: what goes on, what is read, what ends here."""

from re import compile as regex
from typing import Final

from stickyroute_proxy.fieldname import plain

# 0 is everything else: it goes on untouched.
DROP, LENGTH, CODING, CONNECTION, UPGRADE, TRAILER = range(1, 7)
HOST, COOKIE, EXPECT, ID, FORWARDED, NOTICE, TE, HOPS = range(7, 15)
CACHE_CONTROL, CONTENT_TYPE, DATE, SET_COOKIE = range(15, 19)

_REQUESTS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"proxy-connection": CONNECTION,  # llhttp reads it so, and both have to agree on the connection's end
    b"upgrade": UPGRADE,
    b"cookie": COOKIE,
    b"expect": EXPECT,
    b"x-request-id": ID,
    b"forwarded": FORWARDED,
    b"x-real-ip": FORWARDED,
    b"te": TE,
    b"max-forwards": HOPS,
    # Trailers of requests are dropped: nothing tells whether the endpoint would take them (RFC 9110, 6.5.1).
    b"trailer": DROP,
    b"keep-alive": DROP,
    b"proxy-authorization": DROP,
    b"http2-settings": DROP,
    b"proxy": DROP,  # CGI makes HTTP_PROXY of it, which programs heed (httpoxy)
}
_ANSWERS: Final = {
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"proxy-connection": CONNECTION,  # llhttp reads it so, and both have to agree on the connection's end
    b"upgrade": UPGRADE,
    b"trailer": TRAILER,
    b"cache-control": CACHE_CONTROL,
    b"content-type": CONTENT_TYPE,
    b"date": DATE,
    b"set-cookie": SET_COOKIE,
    b"keep-alive": DROP,
}
_NEVER_TRAILERS: Final = frozenset(
    b"age authorization cache-control connection content-encoding content-length content-range content-type"
    b" cookie date expect expires forwarded host keep-alive location max-forwards pragma proxy-authenticate"
    b" proxy-authorization proxy-connection range retry-after set-cookie strict-transport-security te trailer"
    b" transfer-encoding upgrade vary warning www-authenticate x-real-ip x-request-id".split()
)
"""Framing, routing, authentication, cookies, how an answer is to be taken, and ours (RFC 9110, 6.5.1)."""

_MOST: Final = 4096
"""How many spellings of field names a `Kinds` remembers."""
_LONGEST: Final = 64
"""The longest it remembers, in bytes."""

DIGITS: Final = regex(rb"[0-9]{1,18}")


class Kinds(dict[bytes, int]):
    """What each field name of requests is to us, by its spelling; learns spellings as they come.

    `notices`: the rules' notice headers in lower case. Which of them a request loses depends on its rule.
    """

    def __init__(self, notices: frozenset[bytes] = frozenset()) -> None:
        super().__init__()
        self.notices = notices

    def __missing__(self, name: bytes) -> int:
        kind = self._kind(name.lower())
        if len(name) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()  # else names made up once would keep out for ever what all clients send
            self[name] = kind
        return kind

    def _kind(self, lower: bytes) -> int:
        kind = _REQUESTS.get(lower, 0)
        if kind:
            return kind
        name = plain(lower)
        if name.startswith(b"x-forwarded-"):
            # Applications read X_Forwarded_For as X-Forwarded-For: such aliases are dropped.
            return FORWARDED if name == lower else DROP
        if name in self.notices:
            return NOTICE
        return DROP if name in _REQUESTS else 0


class AnswerKinds(Kinds):
    """The same for answers, where aliases mean nothing."""

    def _kind(self, lower: bytes) -> int:
        return _ANSWERS.get(lower, 0)


def may_trail(name: bytes) -> bool:
    """Whether a field of that name may come behind an answer's body."""
    name = plain(name)
    return name not in _NEVER_TRAILERS and not name.startswith(b"x-forwarded-")


def tokens(value: bytes) -> list[bytes]:
    """The elements of a list of tokens, in lower case (RFC 9110, section 5.6.1)."""
    return [token.strip(b" \t") for token in value.lower().split(b",")]
