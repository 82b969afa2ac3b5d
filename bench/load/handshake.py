"""Full TLS 1.3 handshakes: one connection, one request; nothing is resumed."""

import multiprocessing
import socket
import ssl
from time import perf_counter
from typing import Final

from bench import site
from bench.load.wrk import LoadError

CLIENTS: Final = 12
"""Processes that each do one after another."""


def run(port: int, cookies: str, seconds: float) -> int:
    """Handshakes in so many seconds, each with one request. Raises LoadError."""
    with multiprocessing.get_context("fork").Pool(CLIENTS) as pool:
        counts = pool.starmap(_client, [(port, cookies, seconds)] * CLIENTS)
    if not all(counts):
        raise LoadError("a client got no answer over TLS")
    return sum(counts)


def _client(port: int, cookies: str, seconds: float) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = site.request(site.PATH, cookies, "Connection: close")
    count = 0
    end = perf_counter() + seconds
    while perf_counter() < end:
        with (
            socket.create_connection((site.ADDRESS, port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=site.HOST) as sock,
        ):
            sock.sendall(request)
            answer = sock.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                return 0
            while sock.recv(65536):
                pass
        count += 1
    return count
