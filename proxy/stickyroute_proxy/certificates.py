"""Certificates in use: which one each host is served with, ready for handshakes."""

import os
from collections.abc import Iterable
from ssl import (
    OP_CIPHER_SERVER_PREFERENCE,
    OP_NO_RENEGOTIATION,
    PROTOCOL_TLS_SERVER,
    SSLContext,
    SSLError,
    TLSVersion,
)
from typing import Final, NamedTuple

from stickyroute_api.snapshot import Certificate, Route

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2's: forward secrecy and authenticated encryption. Those of 1.3 are OpenSSL's."""
ALPN: Final = "http/1.1"


class Served(NamedTuple):
    """A certificate as handshakes need it."""

    name: str
    """`namespace/name` of its Secret."""
    given: Certificate
    context: SSLContext


class Identity(NamedTuple):
    """As whom a TLS client reached us."""

    host: bytes
    """The name that it asked for, in lower case; empty: none."""
    certificate: str
    """The name of the one that it was shown."""


class Certificates:
    """The certificate of each host that routes serve over TLS."""

    __slots__ = ("_any", "_exact", "_wildcards", "served")

    served: dict[str, Served]
    """All, by the name of their Secret."""

    def __init__(
        self,
        routes: Iterable[Route] = (),
        given: dict[str, Certificate] | None = None,
        previous: "Certificates | None" = None,
    ) -> None:
        """What has not changed is taken from `previous`.

        Of several routes for one host the oldest decides. Raises ValueError naming what cannot be served.
        """
        before = {} if previous is None else previous.served
        self.served = {
            name: old
            if (old := before.get(name)) is not None and old.given == certificate
            # One that has been renewed gets a context of its own: live connections keep the former.
            else Served(name, certificate, _context(name, certificate))
            for name, certificate in (given or {}).items()
        }
        hosts: dict[bytes, Served] = {}
        for route in sorted(routes, key=lambda route: (route.created, route.key)):
            if route.tls is None:
                continue
            served = self.served.get(route.tls.certificate)
            if served is None:
                raise ValueError(f"route {route.key}: tls.certificate: {route.tls.certificate} is not there")
            for host in route.hosts or ("",):
                hosts.setdefault(host.encode(), served)
        self._any = hosts.pop(b"", None)
        self._exact = hosts
        self._wildcards = {host[1:]: served for host, served in hosts.items() if host.startswith(b"*.")}

    def find(self, host: bytes) -> Served | None:
        """The certificate of a host in lower case: its own, the longest wildcard's, or any host's.

        An empty one is that of a client that names none.
        """
        found = self._exact.get(host)
        if found is not None:
            return found
        if self._wildcards:
            dot = host.find(b".", 1)
            while dot != -1:
                found = self._wildcards.get(host[dot:])
                if found is not None:
                    return found
                dot = host.find(b".", dot + 1)
        return self._any

    def cover(self, identity: Identity, host: bytes) -> bool:
        """Whether a client that reached us so may ask for this host: by its name, or the same certificate."""
        if host == identity.host:
            return True
        found = self.find(host)
        return found is not None and found.name == identity.certificate


def _context(name: str, given: Certificate) -> SSLContext:
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.minimum_version = TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols([ALPN])
    # All ciphers are good: the client knows best which is fast on its machine.
    context.options = (context.options & ~OP_CIPHER_SERVER_PREFERENCE) | OP_NO_RENEGOTIATION
    # OpenSSL takes a chain from a file only: one in memory, gone with its descriptor.
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(f"{given.chain}\n{given.key}\n".encode())
        file.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_password)
        except (SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or "no certificate and key in PEM"
            raise ValueError(
                f"certificate {name} cannot be served ({reason}): tls.crt must hold a chain in PEM, the "
                "server's certificate first, and tls.key its key without a password"
            ) from None
    return context


def _no_password() -> str:
    """For keys that need one: OpenSSL would ask at a terminal."""
    return ""
