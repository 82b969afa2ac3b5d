"""One active check: a request of our own, of whose answer only the status counts."""

import asyncio
from socket import AF_INET, AF_INET6, SOCK_STREAM, socket
from typing import Final

from stickyroute_api.snapshot import ActiveCheck
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.wire.connect import lacks_ports

LIMIT: Final = 16 * 1024
"""Bytes of a line of the answer."""
_INTERIMS: Final = 8
"""Interim answers that are read over."""


async def probe(endpoint: Endpoint, check: ActiveCheck) -> bool:
    """Whether the endpoint answers with a status from 200 to 399 within the check's time.

    Raises OSError where this process can open no more files or connections.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + check.timeout
    tls = endpoint.tls
    if tls is not None and tls.problem:
        return False
    sock = socket(AF_INET6 if ":" in endpoint.address else AF_INET, SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout_at(until):
            await loop.sock_connect(sock, (endpoint.address, endpoint.port))
        # uvloop leaks a transport whose making is cancelled: the handshake gets a time of its own.
        reader, writer = await asyncio.open_connection(
            sock=sock,
            limit=LIMIT,
            ssl=None if tls is None else tls.context,
            server_hostname=None if tls is None else tls.given.server_name,
            ssl_handshake_timeout=None if tls is None else max(0.001, until - loop.time()),
        )
    except OSError as error:  # SSLError and TimeoutError are some
        sock.close()
        if lacks_ports(error, endpoint.address):
            raise
        return False
    try:
        writer.write(_request(endpoint, check.path))
        async with asyncio.timeout_at(until):
            return 200 <= await _status(reader) < 400
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError):
        return False
    finally:
        writer.transport.abort()


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the final answer. Raises ValueError, EOFError, LimitOverrunError."""
    for _ in range(_INTERIMS):
        version, status, *_ = (await reader.readuntil(b"\n")).split(maxsplit=2)
        if not version.startswith(b"HTTP/1.") or len(status) != 3:
            raise ValueError("no answer of HTTP/1.1")
        if not status.startswith(b"1"):
            return int(status)
        while (await reader.readuntil(b"\n")).strip():
            pass
    raise ValueError("too many interim answers")


def _request(endpoint: Endpoint, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {endpoint.authority}\r\nUser-Agent: stickyroute-health-check\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode()
