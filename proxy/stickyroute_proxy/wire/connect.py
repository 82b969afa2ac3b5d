"""Opening a connection to an endpoint: the one thing on the data path that takes a task."""

from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Callable
from enum import Enum, auto
from errno import EADDRNOTAVAIL
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket
from ssl import SSLError

from stickyroute_proxy.certificates import EndpointTls
from stickyroute_proxy.table import Endpoint
from stickyroute_proxy.wire.handshake import Cause, Failure, HandshakeError, explain
from stickyroute_proxy.wire.secure import Secure
from stickyroute_proxy.wire.upstream import Upstream


class Lack(Enum):
    """What this process has run out of, which is no fault of the endpoint's."""

    FILES = auto()
    PORTS = auto()
    """Of its own, for connections to that endpoint; others may be reached."""


class Connect:
    """An attempt under way; it tells exactly one of its callbacks, or none once it is cancelled."""

    __slots__ = (
        "_adopting",
        "_cancelled",
        "_connected",
        "_failed",
        "_refused",
        "_upstream",
        "handshake",
        "task",
    )

    task: Task[None]
    handshake: bool
    """It has come to the TLS handshake."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        endpoint: Endpoint,
        upstream: Upstream,
        connected: Callable[[Upstream], None],
        failed: Callable[[Lack | None], None],
        *,
        refused: Callable[[Endpoint, Failure], None],
    ) -> None:
        """`failed` is told what was lacking here, if that is the reason.

        `refused` is told before `failed` if it was for the handshake.
        """
        self._upstream = upstream
        self._connected = connected
        self._failed = failed
        self._refused = refused
        self._adopting = self._cancelled = self.handshake = False
        self.task = loop.create_task(self._run(loop, endpoint))

    def cancel(self) -> None:
        """Give it up; whatever has been opened is closed."""
        self._cancelled = True
        # uvloop leaks a transport whose making is cancelled: from there on let it come, and close it then.
        if not self._adopting:
            self.task.cancel()

    async def _run(self, loop: AbstractEventLoop, endpoint: Endpoint) -> None:
        address, tls = endpoint.address, endpoint.tls
        if tls is not None and tls.problem:
            self.handshake = True
            self._refused(endpoint, Failure(Cause.UNUSABLE, tls.problem))
            self._failed(None)
            return
        try:
            sock = socket(AF_INET6 if ":" in address else AF_INET, SOCK_STREAM)
        except OSError:
            self._failed(Lack.FILES)
            return
        try:
            sock.setblocking(False)
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            await loop.sock_connect(sock, (address, endpoint.port))
            self._adopting = True
            if tls is None:
                await loop.create_connection(lambda: self._upstream, sock=sock)
            else:
                await self._shake_hands(loop, sock, tls)
        except OSError as error:
            sock.close()
            if not self._cancelled:
                self._failed(Lack.PORTS if lacks_ports(error, address) else None)
            return
        except HandshakeError as error:
            if not self._cancelled:
                self._refused(endpoint, error.failure)
                self._failed(None)
            return
        except BaseException:
            sock.close()
            raise
        if self._cancelled:
            self._upstream.close()
        else:
            self._connected(self._upstream)

    async def _shake_hands(self, loop: AbstractEventLoop, sock: socket, tls: EndpointTls) -> None:
        """Adopt the socket and put TLS between it and the upstream. Raises HandshakeError."""
        over: Future[Failure | None] = loop.create_future()

        def ready() -> Upstream:
            if not over.done():
                over.set_result(None)
            return self._upstream

        def failed(error: SSLError | None) -> None:
            if not over.done():
                over.set_result(explain(error, tls.given.server_name))

        secure = Secure(tls.context, ready, failed, server_name=tls.given.server_name)
        self.handshake = True
        await loop.create_connection(lambda: secure, sock=sock)
        self._adopting = False
        try:
            if self._cancelled:
                self.task.cancel()
            failure = await over
        except BaseException:
            secure.abort()
            raise
        if failure is not None:
            raise HandshakeError(failure)


def lacks_ports(error: OSError, address: str) -> bool:
    """Whether a connection failed as all ports of ours that can lead there are in use.

    By IPv6 the same error may mean that this host has no address of that kind.
    """
    return error.errno == EADDRNOTAVAIL and ":" not in address
