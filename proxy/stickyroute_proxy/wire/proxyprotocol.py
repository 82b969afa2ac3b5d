"""The PROXY protocol, versions 1 and 2: a header before a connection's first byte that tells of the client.

As HAProxy's `proxy-protocol.txt` has it (2.8). Nothing here knows sockets.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from re import compile as regex
from typing import Final, NamedTuple

from stickyroute_proxy.wire.forwarding import canonical

_PREFIX: Final = b"PROXY "
_MAX_LINE: Final = 107
"""The longest header of version 1, its end included."""
_LINE: Final = regex(
    rb"PROXY (?:UNKNOWN(?: [\x20-\x7e]*)?"
    rb"|TCP(?:(4)|6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5}))"
)
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_TRANSPORTS: Final = frozenset((0, 1, 2))
"""None said, stream, datagram."""
_ADDRESSES: Final = {0: 0, 1: 12, 2: 36, 3: 216}
"""How many bytes the addresses take, by family: none said, IPv4, IPv6, UNIX."""
MAX_HEADER: Final = 4096
"""The longest header of version 2. Its fields (TLVs) are skipped, whatever they say."""


class Source(NamedTuple):
    """What a header tells."""

    address: str | None
    """The client's, in its canonical form; None: the header does not say, it is the connection's own."""
    local: bool = False
    """The proxy speaks for itself, as to see whether we live."""


class NoHeaderError(Exception):
    """What came is no header, or one that cannot be."""


def read(data: bytes) -> tuple[Source, int] | None:
    """The header that `data` begins with, and where it ends; None: there is more to come.

    Raises NoHeaderError.
    """
    if _PREFIX.startswith(data[:6]):
        return _read_line(data)
    if _SIGNATURE.startswith(data[:12]):
        return _read_binary(data)
    raise NoHeaderError


def _read_line(data: bytes) -> tuple[Source, int] | None:
    end = data.find(b"\r\n", 0, _MAX_LINE)
    if end == -1:
        if len(data) >= _MAX_LINE:
            raise NoHeaderError
        return None
    found = _LINE.fullmatch(data[:end])
    if found is None:
        raise NoHeaderError
    four, *addresses, source_port, target_port = found.groups()
    if source_port is None:
        return Source(None), end + 2
    if max(int(source_port), int(target_port)) > 65535:
        raise NoHeaderError
    try:
        source, target = (ip_address(address.decode()) for address in addresses)
    except ValueError:
        raise NoHeaderError from None
    if not source.version == target.version == (4 if four else 6):
        raise NoHeaderError
    return Source(canonical(source)), end + 2


def _read_binary(data: bytes) -> tuple[Source, int] | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16])
    size = _ADDRESSES.get(family >> 4)
    if size is None or family & 0xF not in _TRANSPORTS or 16 + length > MAX_HEADER:
        raise NoHeaderError
    if command not in (_LOCAL, _PROXY) or (command == _PROXY and length < size):
        raise NoHeaderError
    end = 16 + length
    if len(data) < end:
        return None
    if command == _LOCAL:
        return Source(None, local=True), end
    if family >> 4 == 1:
        return Source(canonical(IPv4Address(data[16:20]))), end
    if family >> 4 == 2:
        return Source(canonical(IPv6Address(data[16:32]))), end
    return Source(None), end
