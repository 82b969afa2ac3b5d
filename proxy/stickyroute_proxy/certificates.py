"""Certificates in use: which one each host is served with, and which of endpoints are believed."""

import os
from collections.abc import Iterable
from ssl import (
    OP_CIPHER_SERVER_PREFERENCE,
    OP_NO_RENEGOTIATION,
    PROTOCOL_TLS_CLIENT,
    PROTOCOL_TLS_SERVER,
    MemoryBIO,
    SSLContext,
    SSLError,
    TLSVersion,
    VerifyFlags,
)
from typing import Final, NamedTuple

from stickyroute_api.snapshot import BackendTls, Certificate, Route

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

        Of several routes for one host the oldest decides. One whose certificate is not there, as the operator
        tells its author, is as good as none: it must not harm others. Raises ValueError naming what cannot be
        served.
        """
        before = {} if previous is None else previous.served
        self.served = {
            name: old
            if (old := before.get(name)) is not None and old.given == certificate
            # One that has been renewed gets a context of its own: live connections keep the former.
            else Served(name, certificate, _server(name, certificate))
            for name, certificate in (given or {}).items()
        }
        hosts: dict[bytes, Served] = {}
        for route in sorted(routes, key=lambda route: (route.created, route.key)):
            served = self.served.get(route.tls.certificate) if route.tls is not None else None
            if served is None:
                continue
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


class EndpointTls(NamedTuple):
    """How an endpoint is spoken to by TLS."""

    given: BackendTls
    context: SSLContext
    """Of its authority; sets with the same one share it."""


def endpoint_tls(
    given: dict[str, BackendTls], previous: dict[str, EndpointTls] | None = None
) -> dict[str, EndpointTls]:
    """By the key of the set of endpoints; contexts are taken from `previous` where there are.

    Raises ValueError naming the set and the field.
    """
    previous = previous or {}
    if given.keys() == previous.keys() and all(previous[key].given == one for key, one in given.items()):
        return previous
    contexts = {one.given.ca: one.context for one in previous.values()}
    found = {}
    for key, one in given.items():
        context = contexts.get(one.ca)
        if context is None:
            context = contexts[one.ca] = _authority(key, one.ca)
        try:
            context.wrap_bio(MemoryBIO(), MemoryBIO(), server_hostname=one.server_name)
        except ValueError as error:
            raise ValueError(f"endpoints {key}: server_name: {error}") from None
        found[key] = EndpointTls(one, context)
    return found


def _authority(key: str, ca: str) -> SSLContext:
    """What believes this authority, empty: the system's."""
    context = _context(PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    if not ca:
        context.load_default_certs()
        return context
    # What is given is trusted, be it an intermediate authority or the endpoint's own certificate.
    context.verify_flags |= VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca)
    except (SSLError, ValueError):
        raise ValueError(f"endpoints {key}: ca: there is no certificate in PEM") from None
    return context


def _server(name: str, given: Certificate) -> SSLContext:
    context = _context(PROTOCOL_TLS_SERVER)
    # All ciphers are good: the client knows best which is fast on its machine.
    context.options = (context.options & ~OP_CIPHER_SERVER_PREFERENCE) | OP_NO_RENEGOTIATION
    context.num_tickets = 1  # each is 15 µs of a handshake's 250, and a kept connection asks for none
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


def _context(protocol: int) -> SSLContext:
    context = SSLContext(protocol)
    context.minimum_version = TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols([ALPN])
    return context


def _no_password() -> str:
    """For keys that need one: OpenSSL would ask at a terminal."""
    return ""
