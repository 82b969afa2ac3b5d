"""Opening a connection to an endpoint: the one thing on the data path that takes a task."""

from asyncio import AbstractEventLoop, Task
from collections.abc import Callable
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket

from stickyroute_proxy.table import Endpoint
from stickyroute_proxy.wire.upstream import Upstream


class Connect:
    """An attempt under way; it tells exactly one of its callbacks, or none once it is cancelled."""

    __slots__ = ("_adopting", "_cancelled", "_connected", "_failed", "_upstream", "task")

    task: Task[None]

    def __init__(
        self,
        loop: AbstractEventLoop,
        endpoint: Endpoint,
        upstream: Upstream,
        connected: Callable[[Upstream], None],
        failed: Callable[[bool], None],
    ) -> None:
        """`failed` is told whether the reason is ours, as no more files can be opened."""
        self._upstream = upstream
        self._connected = connected
        self._failed = failed
        self._adopting = self._cancelled = False
        self.task = loop.create_task(self._run(loop, endpoint.address, endpoint.port))

    def cancel(self) -> None:
        """Give it up; whatever has been opened is closed."""
        self._cancelled = True
        # uvloop leaks a transport whose making is cancelled: from there on let it come, and close it then.
        if not self._adopting:
            self.task.cancel()

    async def _run(self, loop: AbstractEventLoop, address: str, port: int) -> None:
        try:
            sock = socket(AF_INET6 if ":" in address else AF_INET, SOCK_STREAM)
        except OSError:
            self._failed(True)
            return
        try:
            sock.setblocking(False)
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            await loop.sock_connect(sock, (address, port))
            self._adopting = True
            await loop.create_connection(lambda: self._upstream, sock=sock)
        except OSError:
            sock.close()
            if not self._cancelled:
                self._failed(False)
            return
        except BaseException:
            sock.close()
            raise
        if self._cancelled:
            self._upstream.close()
        else:
            self._connected(self._upstream)
