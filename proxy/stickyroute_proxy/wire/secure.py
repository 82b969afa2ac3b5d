"""TLS on a connection: the protocol of the transport below it, and the transport of the protocol above.

The event loop's own TLS has no half-closed connections, does not tell a peer that was done from one that was
cut off, and keeps 256 KiB for each connection. This one costs no more for a request or a handshake.
"""

from asyncio import BaseProtocol, Protocol, Transport, get_running_loop
from collections.abc import Callable, Iterable
from contextlib import suppress
from ssl import MemoryBIO, SSLContext, SSLError, SSLWantReadError, SSLZeroReturnError
from typing import Any, Final, cast

from stickyroute_proxy.wire.parser import Slice

RECORD: Final = 16 * 1024
"""The most that a record carries (RFC 8446, section 5.1). OpenSSL gets no more at once: its buffers grow, and
never shrink."""
MAX_IDLE_BYTES: Final = 2 * RECORD
"""Bytes that a peer may send without any for the protocol above: more than the largest record takes, and some
1,200 KeyUpdates, each of which has new keys made."""
MAX_UNREAD: Final = 1 << 20
"""Bytes that a peer may leave unread while what it sends has TLS answer: each KeyUpdate asks for another."""


class Secure(Transport, Protocol):
    """One connection's TLS, as server or as client."""

    __slots__ = (
        "_busy",
        "_closed",
        "_ended",
        "_failed",
        "_full",
        "_held",
        "_idle_bytes",
        "_incoming",
        "_object",
        "_outgoing",
        "_over",
        "_protocol",
        "_ready",
        "_transport",
    )

    def __init__(
        self,
        context: SSLContext,
        ready: Callable[[], Protocol],
        failed: Callable[[SSLError | None], None],
        *,
        server_name: str | None = None,
    ) -> None:
        """`server_name`: whom we want to speak to, as a client; None: we are the server.

        One of the two is called: `ready` at the end of the handshake, for the protocol above; `failed` when
        it does not come to that, None: the connection was closed.
        """
        self._incoming = MemoryBIO()
        self._outgoing = MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._ready = ready
        self._failed = failed
        self._protocol: Protocol | None = None
        self._full = False  # the transport below takes no more for now
        self._busy = False  # the peer has TLS 1.2 begin anew, which takes nothing meanwhile
        self._held = b""  # written since then
        self._idle_bytes = 0  # received since the last that was for the protocol above
        self._ended = False  # the peer has said that it sends no more
        self._closed = False  # we have
        self._over = False  # the protocol above is to be told once it reads on that nothing more comes

    # What the transport below tells

    def connection_made(self, transport: object) -> None:
        self._transport = cast("Transport", transport)
        if not self._object.server_side:
            self._shake_hands()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        parts: list[bytes] = []
        if len(data) <= RECORD:
            more = self._take(data, parts)
        else:
            view, pos, more = memoryview(data), 0, True
            while more and pos < len(data):
                more = self._take(view[pos : pos + RECORD], parts)
                pos += RECORD
        if self._protocol is None:
            return
        if parts:
            self._idle_bytes = 0
            self._protocol.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        else:
            self._idle_bytes += len(data)
            if self._idle_bytes > MAX_IDLE_BYTES:
                self.abort()
                return
        if not self._closed:
            self._flush()  # an alert, or what post-handshake messages ask for
            if self._busy:
                self._write_held()
        if not more:
            self._end()

    def eof_received(self) -> bool:
        """Unless the peer has said that it is done, something is missing (RFC 8446, section 6.1)."""
        if not self._ended:
            self._transport.abort()
        return self._ended

    def connection_lost(self, exc: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        closed, self._closed = self._closed, True
        if protocol is not None:
            protocol.connection_lost(exc)
        elif not closed:
            self._failed(None)

    def pause_writing(self) -> None:
        self._full = True
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._full = False
        if self._protocol is not None and not self._busy:
            self._protocol.resume_writing()

    # Handshake and records

    def _take(self, data: Slice, parts: list[bytes]) -> bool:
        """Add what can be decrypted now; False: nothing more can come."""
        read, incoming = self._object.read, self._incoming
        incoming.write(data)
        if self._protocol is None and not self._shake_hands():
            return not self._closed
        try:
            while incoming.pending:
                part = read(RECORD)
                if not part:
                    self._ended = True
                    return False
                parts.append(part)
        except SSLWantReadError:
            pass  # half a record
        except SSLError as error:
            self._ended = isinstance(error, SSLZeroReturnError)
            return False
        return True

    def _shake_hands(self) -> bool:
        """One step on; whether the handshake is over, and the protocol above there."""
        try:
            self._object.do_handshake()
        except SSLWantReadError:
            self._flush()
            return False
        except SSLError as error:
            self._closed = True
            self._flush()
            self._transport.close()
            self._failed(error)
            return False
        self._flush()
        protocol = self._protocol = self._ready()
        del self._ready, self._failed  # what they hold need not live as long as the connection
        protocol.connection_made(self)
        return True

    def _end_later(self) -> None:
        if self._over:
            self._end()

    def _end(self) -> None:
        self._over = self._ended and not self._transport.is_reading()
        if self._over:
            return  # the end stands behind what has come and is not read yet
        protocol = self._protocol
        if protocol is None:
            return
        if not self._ended:
            self._closed = True
            self._transport.close()
        elif not protocol.eof_received():
            self.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
            if self._transport.get_write_buffer_size() > MAX_UNREAD:
                self.abort()

    def _write_held(self) -> None:
        held, self._held = self._held, b""
        self.write(held)
        if self._held:
            return
        self._busy = False
        if self._protocol is not None and not self._full:
            self._protocol.resume_writing()

    # What the protocol above asks for

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed or not data:
            return
        if self._held:
            self._held += data
            return
        write, outgoing = self._object.write, self._outgoing
        size = len(data)
        records: list[bytes] = []
        pos = 0
        try:
            if size <= RECORD:
                pos = write(data)
                if pos == size:
                    self._transport.write(outgoing.read())
                    return
                records.append(outgoing.read())
            view = memoryview(data)
            while pos < size:
                pos += write(view[pos : pos + RECORD])  # less, when the client has asked for small records
                records.append(outgoing.read())
        except SSLWantReadError:
            self._held = bytes(memoryview(data)[pos:])
        if records:
            self._transport.writelines(records)
        if self._held and not self._busy:
            self._busy = True
            if self._protocol is not None:
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes; what the peer still sends is read."""
        if not self._closed:
            self._say_goodbye()
            self._transport.write_eof()

    def close(self) -> None:
        if not self._closed:
            self._say_goodbye()
        self._transport.close()

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    def _say_goodbye(self) -> None:
        """Send close_notify; nobody waits for the peer's."""
        self._closed = True
        with suppress(SSLError):
            self._object.unwrap()
        self._flush()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
        if self._over:
            get_running_loop().call_soon(self._end_later)

    def set_protocol(self, protocol: BaseProtocol) -> None:
        self._protocol = cast("Protocol", protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
