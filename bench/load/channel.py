"""One connection to a proxy, plain or by TLS: what is to be sent is made ready first, and goes when due.

Sealing a request takes the load longer than the proxy takes to wake. Requests that are due together would
come one after another, and each of them would find the proxy asleep.
"""

import socket
import ssl

from bench import site


class Channel:
    """Plain."""

    def __init__(self, port: int, timeout: float) -> None:
        self.sock = socket.create_connection((site.ADDRESS, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sealed(self, data: bytes) -> bytes:
        """As it is to go over the wire."""
        return data

    def recv(self) -> bytes:
        """What has come, opened. Raises BlockingIOError when nothing has, ConnectionError at its end."""
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("it was closed")
        return data


class SecureChannel(Channel):
    """By TLS."""

    def __init__(self, port: int, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(port, timeout)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=site.HOST)
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(super().recv())
            else:
                self.sock.sendall(self._outgoing.read())
                return

    def sealed(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._outgoing.read()

    def recv(self) -> bytes:
        if not self._incoming.pending:
            self._incoming.write(super().recv())
        try:
            return self._object.read(65536)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None  # session tickets, or half a record
