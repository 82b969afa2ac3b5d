"""Who is behind a connection, and how endpoints are told.

The fields are `X-Forwarded-*`, `X-Real-IP` and `Forwarded` (RFC 7239).
What a client says of itself counts only from trusted addresses; everything else is replaced by what is known.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from re import compile as regex
from typing import Final

from stickyroute_proxy.trust import Trust
from stickyroute_proxy.wire.parser import Headers

UNKNOWN: Final = "0.0.0.0"
"""The address of a client that has none, such as one on a UNIX socket."""
_HOP: Final = regex(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")
"""An address as `X-Forwarded-For` has it: IPv6 in brackets or bare, a port behind it or none."""
_LONGEST_HOP: Final = 64
"""Longer ones are no address, and would fill the memory of those seen lately."""
_SCHEMES: Final = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}


class Forwarding:
    """What the requests of one connection tell of the client; `read` takes each head's fields."""

    __slots__ = (
        "_fields",
        "_given",
        "_lines",
        "_lines_of",
        "_named",
        "_own_scheme",
        "_trust",
        "address",
        "peer",
        "scheme",
        "trusted",
    )

    peer: str
    """The address at the connection's other end, or the one that its PROXY header names."""
    address: str
    """The client's: the rightmost hop of `X-Forwarded-For` that is not trusted, else the peer's."""
    scheme: bytes
    """What the client speaks, `http` or `https`: the connection's, or what a trusted peer says."""
    trusted: bool
    """Whether the peer is believed."""

    def __init__(self, peer: str, *, secure: bool, named: bool = True) -> None:
        """`named`: the peer is known to be at that address."""
        self.peer = self.address = peer
        self.scheme = self._own_scheme = b"https" if secure else b"http"
        self.trusted = False
        self._named = named
        self._given: Headers | None = None
        self._trust: Trust | None = None
        self._fields: dict[bytes, bytes] = {}
        self._lines = self._lines_of = b""

    def read(self, given: Headers | None, trust: Trust) -> bool:
        """Take the forwarding fields of a head, None: it has none; and who is trusted now.

        Whether the client may be another one than that of the head before.
        """
        if given is self._given and trust is self._trust:
            return False
        anew = trust is not self._trust
        if anew:
            self._trust = trust
            self.trusted = self._named and trust.holds(self.peer)
        self._given = given
        fields = _joined(given) if given is not None and self.trusted else {}
        if fields == self._fields and not anew:
            return False
        self._fields = fields
        self._lines = b""
        hops = fields.get(b"x-forwarded-for")
        self.address = self.peer if hops is None else _client(hops, self.peer, trust)
        # The last word is the trusted peer's own.
        said = fields.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip(b" \t").lower()
        self.scheme = _SCHEMES.get(said, self._own_scheme)
        return True

    def lines(self, authority: bytes) -> bytes:
        """The fields for the endpoint, complete lines; a trusted peer's own go on, continued."""
        if not self._lines or authority != self._lines_of:
            self._lines_of = authority
            self._lines = self._write(authority)
        return self._lines

    def _write(self, authority: bytes) -> bytes:
        peer = self.peer.encode()
        node = b'"[%b]"' % peer if b":" in peer else peer
        fields = dict(self._fields)
        for name, hop in (
            (b"x-forwarded-for", peer),
            (b"forwarded", b'for=%b;host="%b";proto=%b' % (node, authority, self._own_scheme)),
        ):
            fields[name] = fields[name] + b", " + hop if name in fields else hop
        fields.setdefault(b"x-forwarded-proto", self._own_scheme)
        fields.setdefault(b"x-forwarded-host", authority)
        # Many balancers pass on what clients say of this: it is always ours.
        fields[b"x-real-ip"] = self.address.encode()
        return b"".join([b"%b: %b\r\n" % field for field in fields.items()])


def peer_address(peername: object) -> str:
    """The address in a socket's peer name: IPv4 also where the socket is IPv6, without a zone."""
    if not isinstance(peername, tuple):
        return UNKNOWN
    address: str = peername[0]
    return (_address(address) or UNKNOWN) if ":" in address else address


def _joined(given: Headers) -> dict[bytes, bytes]:
    """Fields by their lower-case name; of several with one name the values in their order."""
    fields: dict[bytes, bytes] = {}
    for name, value in given:
        key = name.lower()
        if value:
            fields[key] = fields[key] + b", " + value if key in fields else value
    return fields


def _client(hops: bytes, peer: str, trust: Trust) -> str:
    """The rightmost hop that is not trusted. One that is no address (`unknown`, `_hidden`) hides what is

    left of it, and the hop that told of it stands for the client; all trusted: the leftmost.
    """
    client = peer
    for hop in reversed(hops.split(b",")):
        hop = hop.strip(b" \t")  # noqa: PLW2901 - the same, as it is meant
        address = _hop(hop) if len(hop) <= _LONGEST_HOP else None
        if address is None:
            break
        client = address
        if not trust.holds(address):
            break
    return client


@lru_cache(maxsize=1024)
def _hop(hop: bytes) -> str | None:
    found = _HOP.fullmatch(hop.decode("latin-1"))
    return None if found is None else _address(found[1] or found[2] or found[3])


def canonical(address: IPv4Address | IPv6Address) -> str:
    """The one form in which addresses are compared: IPv4 also where it is mapped into IPv6, no zone."""
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address)))
    return str(address)


def _address(text: str) -> str | None:
    """None when it is no address."""
    try:
        return canonical(ip_address(text))
    except ValueError:
        return None
