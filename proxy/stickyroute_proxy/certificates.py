"""Certificates in use: which one each host is served with, and which of endpoints are believed."""

import logging
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

logger = logging.getLogger(__name__)

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

    __slots__ = ("_any", "_exact", "_wildcards", "served", "unusable")

    served: dict[str, Served]
    """By the name of their Secret."""
    unusable: dict[str, Certificate]
    """Those that OpenSSL refuses: HTTPS for their hosts is refused as if there were none."""

    def __init__(
        self,
        routes: Iterable[Route] = (),
        given: dict[str, Certificate] | None = None,
        previous: "Certificates | None" = None,
    ) -> None:
        """What has not changed is taken from `previous`.

        Of several routes for one host the oldest decides. One whose certificate is not there, as the operator
        tells its author, or of no use, which the operator has looked at before, is as good as none: it must
        not harm others.
        """
        self.served = {}
        self.unusable = {}
        for name, certificate in (given or {}).items():
            self._take(name, certificate, previous)
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

    def _take(self, name: str, given: Certificate, previous: "Certificates | None") -> None:
        if previous is not None:
            old = previous.served.get(name)
            if old is not None and old.given == given:
                self.served[name] = old
                return
            if previous.unusable.get(name) == given:
                self.unusable[name] = given
                return
        try:
            # One that has been renewed gets a context of its own: live connections keep the former.
            self.served[name] = Served(name, given, _server(name, given))
        except ValueError as error:
            logger.warning("%s", error)
            self.unusable[name] = given

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
    problem: str = ""
    """Why nobody could be believed: the endpoints are not spoken to at all."""


def endpoint_tls(
    given: dict[str, BackendTls], previous: dict[str, EndpointTls] | None = None
) -> dict[str, EndpointTls]:
    """By the key of the set of endpoints; contexts are taken from `previous` where there are."""
    previous = previous or {}
    if given.keys() == previous.keys() and all(previous[key].given == one for key, one in given.items()):
        return previous
    contexts = {one.given.ca: one.context for one in previous.values() if not one.problem}
    found = {}
    for key, one in given.items():
        try:
            context = contexts.get(one.ca)
            if context is None:
                context = contexts[one.ca] = _authority(one.ca)
            found[key] = EndpointTls(one, context, _problem(context, one.server_name))
        except ValueError as error:
            found[key] = EndpointTls(one, _context(PROTOCOL_TLS_CLIENT), str(error))
    return found


def _problem(context: SSLContext, server_name: str) -> str:
    """What is wrong with a name to ask for; empty: nothing."""
    try:
        context.wrap_bio(MemoryBIO(), MemoryBIO(), server_hostname=server_name)
    except ValueError as error:
        return f"{server_name!r} is no name to ask for: {error}"
    return ""


def _authority(ca: str) -> SSLContext:
    """What believes this authority, empty: the system's. Raises ValueError."""
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
        raise ValueError("its authority has no certificate in PEM") from None
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
                f"certificate {name} cannot be served ({reason}), and HTTPS for its hosts is refused: "
                "tls.crt must hold a chain in PEM, the server's certificate first, and tls.key its key "
                "without a password"
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
