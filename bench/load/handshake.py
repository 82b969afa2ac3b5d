"""Full TLS 1.3 handshakes: one connection, one request; nothing is resumed.

A client works longer on a handshake than a server: one client after another leaves the load's core idle while
the proxy works, and so does not measure itself.
"""

import socket
import ssl
from time import perf_counter

from bench import site
from bench.load.wrk import Answered, LoadError


def client_context() -> ssl.SSLContext:
    """TLS 1.3 only, for whom the certificate says nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def run(port: int, cookies: str, seconds: float) -> Answered:
    """Handshakes in so many seconds, each with one request. Raises LoadError."""
    context = client_context()
    request = site.request(site.PATH, cookies, "Connection: close")
    count = 0
    start = perf_counter()
    try:
        while perf_counter() < start + seconds:
            _ask(port, request, context)
            count += 1
    except OSError as error:
        raise LoadError(f"a client got no answer over TLS: {error}") from None
    return Answered(count, perf_counter() - start)


def _ask(port: int, request: bytes, context: ssl.SSLContext) -> None:
    plain = socket.create_connection((site.ADDRESS, port), timeout=10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with plain, context.wrap_socket(plain, server_hostname=site.HOST) as sock:
        sock.sendall(request)
        answer = sock.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise LoadError(f"no good answer: {answer[:100]!r}")
        while sock.recv(65536):
            pass
