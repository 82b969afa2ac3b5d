"""A client's connection before its first request: PROXY header, ClientHello and handshake, in their time."""

from asyncio import Protocol, Transport
from enum import StrEnum
from math import inf
from ssl import SSLError
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from stickyroute_proxy.certificates import ALPN, Identity
from stickyroute_proxy.wire import hello, proxyprotocol
from stickyroute_proxy.wire.downstream import Downstream
from stickyroute_proxy.wire.forwarding import Forwarding, peer_address
from stickyroute_proxy.wire.secure import Secure

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane

_ALERT: Final = b"\x15\x03\x03\x00\x02\x02%c"
"""A fatal alert, before there are keys (RFC 8446, section 6)."""
_DECODE_ERROR, _MISSING_EXTENSION, _UNRECOGNIZED_NAME, _NO_APPLICATION_PROTOCOL = 50, 109, 112, 120


class Failure(StrEnum):
    """Why a connection carried no request: the metric's label."""

    PROXY_HEADER = "ProxyHeader"
    CLIENT_HELLO = "ClientHello"
    SERVER_NAME = "ServerName"
    """No certificate for the name that the client wants, or it wants none."""
    PROTOCOL = "Protocol"
    """The client speaks others than HTTP/1.1."""
    HANDSHAKE = "Handshake"
    """OpenSSL refused it, such as for an old version of TLS."""
    TIMEOUT = "Timeout"
    CLOSED = "Closed"
    """Midway: by the client, or because the proxy stops."""


class Opening(Protocol):
    """One connection; becomes a `Downstream`, or is closed."""

    __slots__ = (
        "_buffer",
        "_due",
        "_forwarding",
        "_identity",
        "_over",
        "_plane",
        "_proxied",
        "_started",
        "_tls",
        "_transport",
    )

    def __init__(self, plane: "DataPlane", *, proxied: bool, tls: bool) -> None:
        """`proxied`: connections from trusted addresses begin with a PROXY header."""
        self._plane = plane
        self._proxied = proxied
        self._tls = tls
        self._buffer = b""
        self._over = self._started = False

    # What the transport tells

    def connection_made(self, transport: object) -> None:
        plane = self._plane
        self._transport = cast("Transport", transport)
        peer = peer_address(self._transport.get_extra_info("peername"))
        self._forwarding = Forwarding(peer, secure=self._tls)
        self._proxied = self._proxied and plane.trust.holds(peer)
        limit = plane.settings.timeouts.handshake
        self._due = monotonic() + limit if limit else inf
        if plane.begin_opening(self):
            self._go_on()
        else:
            self._over = True
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._started = True
        self._buffer += data
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._end(Failure.CLOSED)

    def expire(self, now: float) -> None:
        """Its time may be over."""
        if now >= self._due:
            self._end(Failure.TIMEOUT)
            self._transport.abort()

    def close_if_idle(self) -> None:
        """Close unless the client has sent something."""
        if not self._started:
            self.abort()

    def abort(self) -> None:
        self._end(Failure.CLOSED)
        self._transport.abort()

    @property
    def peer(self) -> str:
        """Whose connection it is; empty until its PROXY header has come."""
        return "" if self._proxied else self._forwarding.peer

    # The steps

    def _go_on(self) -> None:
        if self._proxied and not self._read_header():
            return
        if self._tls:
            self._read_hello()
            return
        self._end(None)
        self._hand_over(Downstream(self._plane, self._forwarding))

    def _hand_over(self, protocol: Protocol) -> None:
        data, self._buffer = self._buffer, b""
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if data:
            protocol.data_received(data)

    def _read_header(self) -> bool:
        """Whether the PROXY header has been read."""
        try:
            found = proxyprotocol.read(self._buffer)
        except proxyprotocol.NoHeaderError:
            self._end(Failure.PROXY_HEADER)
            self._transport.abort()
            return False
        if found is None:
            return False
        source, end = found
        self._proxied = False
        self._buffer = self._buffer[end:]
        if not source.local:
            # A client that the proxy cannot name is not the proxy: it is believed nothing.
            self._forwarding = Forwarding(
                source.address or self._forwarding.peer, secure=self._tls, named=source.address is not None
            )
        if self._tls:
            # From here on it counts as what it is: whoever is behind a proxy can stall, too.
            self._plane.end_opening(self, None)
            if not self._plane.begin_opening(self):
                self._over = True
                self._transport.abort()
                return False
        return True

    def _read_hello(self) -> None:
        try:
            asked = hello.read(self._buffer)
        except hello.NoHelloError:
            self._refuse(_DECODE_ERROR, Failure.CLIENT_HELLO)
            return
        if asked is None:
            return
        table = self._plane.table
        served = None if table is None else table.certificates.find(asked.name)
        if served is None:
            alert = _UNRECOGNIZED_NAME if asked.name else _MISSING_EXTENSION
            self._refuse(alert, Failure.SERVER_NAME)
        elif asked.protocols and ALPN.encode() not in asked.protocols:
            self._refuse(_NO_APPLICATION_PROTOCOL, Failure.PROTOCOL)
        else:
            self._identity = Identity(asked.name, served.name)
            self._hand_over(Secure(served.context, self._shaken, self._failed))

    def _refuse(self, alert: int, failure: Failure) -> None:
        self._end(failure)
        self._transport.write(_ALERT % alert)
        self._transport.close()

    def _shaken(self) -> Downstream:
        self._plane.counters.handshakes += 1
        self._end(None)
        return Downstream(self._plane, self._forwarding, self._identity)

    def _failed(self, error: SSLError | None) -> None:
        self._end(Failure.CLOSED if error is None else Failure.HANDSHAKE)

    def _end(self, failure: Failure | None) -> None:
        if not self._over:
            self._over = True
            self._plane.end_opening(self, failure)
