"""What Secrets and ConfigMaps hold: certificates and authorities, checked as TLS libraries check them."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ssl import PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER, SSLContext, SSLError
from typing import Any, Self, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from stickyroute_api.reasons import ConditionReason
from stickyroute_api.snapshot import Certificate
from stickyroute_operator.objects import ABSENT, TLS_TYPE, ConfigMap, Missing, Reference, Referent, Secret
from stickyroute_operator.translate.form import TlsUse
from stickyroute_operator.translate.verdicts import Trouble

SOON = timedelta(days=14)
"""How long before its end a certificate is warned of: who renews by machine has done so by then."""

MAX_PEM = 256 * 1024
"""Characters of certificates in one object: as many as a system's whole bundle has. All proxies hold them."""

T = TypeVar("T")
_Kept = dict[tuple[Reference, Callable[[Referent], Any]], tuple[Referent, Any]]


class Unusable(ValueError):  # noqa: N818 - what a person wrote is so; the program has no error
    """What a Secret or ConfigMap holds cannot serve; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    part: Certificate = field(repr=False)
    names: frozenset[str]
    """DNS names, lower case."""
    begins: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class ServedTls:
    """A route's certificate, resolved."""

    certificate: ServerCertificate | None
    """None: HTTPS is refused."""
    trouble: Trouble | None = None
    """Why it is None."""
    warning: Trouble | None = None
    """What is wrong although it serves."""


@dataclass
class Referents:
    """What references lead to. What was read of one is kept as long as it stays the same object."""

    found: Mapping[Reference, Referent]
    _before: _Kept = field(default_factory=dict)
    _read: _Kept = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[Reference, Referent], previous: Self | None) -> Self:
        return cls(found, previous._read if previous else {})  # noqa: SLF001 - one of ours

    def serve(self, use: TlsUse, hosts: Iterable[str], now: datetime | None) -> ServedTls:
        """The certificate for a route's hosts."""
        reference = use.certificate
        try:
            certificate = self._once(reference, _server_certificate)
        except Unusable as error:
            message = f"spec.tls.secretName: {reference} {error}; until then HTTPS is refused"
            return ServedTls(None, trouble=Trouble(ConditionReason.INVALID_CERTIFICATE_REF, message))
        return ServedTls(certificate, warning=_warning(reference, certificate, hosts, now))

    def authorities(self, reference: Reference) -> str:
        """The certificates of `ca.crt`, PEM. Raises Unusable."""
        try:
            return self._once(reference, _authorities)
        except Unusable as error:
            raise Unusable(f"{reference} {error}") from None

    def _once(self, reference: Reference, read: Callable[[Referent], T]) -> T:
        referent = self.found.get(reference, ABSENT)
        entry = self._read.get((reference, read)) or self._before.get((reference, read))
        if entry is None or entry[0] is not referent:
            try:
                entry = referent, read(referent)
            except Unusable as error:
                entry = referent, error
            except Exception as error:  # noqa: BLE001 - what a stranger's certificate breaks is its own route
                broken = f"holds what cannot be read ({type(error).__name__}); store a valid certificate"
                entry = referent, Unusable(broken)
        self._read[reference, read] = entry
        result = entry[1]
        if isinstance(result, Unusable):
            raise Unusable(*result.args)
        return result


def covers(names: Iterable[str], host: str) -> bool:
    """Whether a certificate of these names is good for a host; its star stands for one label (RFC 9525)."""
    return host in names or f"*.{host.partition('.')[2]}" in names


def _server_certificate(found: Referent) -> ServerCertificate:
    secret = _tls_secret(found)
    chain = _certificates(secret.chain, "tls.crt")
    key = _key(secret.key)
    leaf = chain[0]
    if _public(leaf.public_key()) != _public(key.public_key()):
        raise Unusable(
            "has a tls.key that is not of the first certificate in tls.crt; put the server's certificate"
            " first, or store the pair that belongs together"
        )
    part = Certificate(
        chain=_pem(chain), key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    _load(part.chain + part.key)
    return ServerCertificate(
        part=part,
        names=frozenset(_names(leaf)),
        begins=leaf.not_valid_before_utc,
        expires=leaf.not_valid_after_utc,
    )


def _authorities(found: Referent) -> str:
    ca = found.ca if isinstance(found, ConfigMap) else _tls_secret(found).ca
    pem = _pem(_certificates(ca, "ca.crt"))
    try:
        SSLContext(PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except SSLError as error:
        raise Unusable(f"has a ca.crt that {_refused(error)}; store it anew") from None
    return pem


def _tls_secret(found: Referent) -> Secret:
    if isinstance(found, Missing):
        raise Unusable(found.why)
    if isinstance(found, ConfigMap):
        raise TypeError("a ConfigMap was read for a Secret")
    if found.type != TLS_TYPE:
        raise Unusable(f"is of type {found.type}; name one of type {TLS_TYPE}")
    return found


def _certificates(text: str, where: str) -> list[x509.Certificate]:
    if len(text) > MAX_PEM:
        raise Unusable(f"has a {where} of more than {MAX_PEM // 1024} KiB; leave out what is not needed")
    if not text.strip():
        raise Unusable(f"has no {where}; store certificates there, PEM")
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable(f"has a {where} that holds no PEM certificates; store them anew") from None


_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def _key(text: str) -> _Key:
    if not text.strip():
        raise Unusable("has no tls.key; store the certificate's private key there, PEM")
    try:
        key = load_pem_private_key(text.encode(), None)
    except TypeError:
        raise Unusable("has a tls.key with a passphrase; store it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable("has a tls.key that is no PEM private key; store it anew") from None
    if not isinstance(key, _Key):
        raise Unusable("has a tls.key of a kind that TLS does not use; make one of RSA or ECDSA")
    return key


def _load(pem: str) -> None:
    """Raises Unusable for what OpenSSL refuses, short keys and weak digests among it: proxies would too."""
    context = SSLContext(PROTOCOL_TLS_SERVER)
    # It takes a chain from a file only: one in memory, gone with its descriptor.
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(pem.encode())
        file.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        except SSLError as error:
            raise Unusable(
                f"holds what {_refused(error)}; have a certificate issued that browsers take"
            ) from None


def _refused(error: SSLError) -> str:
    reason = (error.reason or "no reason told").replace("_", " ").lower()
    return f"TLS libraries refuse ({reason})"


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(certificates: list[x509.Certificate]) -> str:
    """Without what may stand around them."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _warning(
    reference: Reference, certificate: ServerCertificate, hosts: Iterable[str], now: datetime | None
) -> Trouble | None:
    if now is not None and (timing := _timing(certificate, now)):
        reason, message = timing
        return Trouble(reason, f"the certificate in {reference} {message}")
    bare = [host for host in hosts if not covers(certificate.names, host)]
    if bare:
        known = ", ".join(sorted(certificate.names)[:5]) or "no host"
        message = (
            f"the certificate in {reference} names {known}, not {', '.join(bare)}, where clients refuse it;"
            " have it issued for all hosts"
        )
        return Trouble(ConditionReason.CERTIFICATE_MISMATCH, message)
    return None


def _timing(certificate: ServerCertificate, now: datetime) -> tuple[ConditionReason, str] | None:
    if now < certificate.begins:
        since = _shown(certificate.begins)
        return ConditionReason.CERTIFICATE_MISMATCH, f"is not valid before {since}: clients refuse it"
    if now >= certificate.expires:
        end = _shown(certificate.expires)
        return ConditionReason.CERTIFICATE_EXPIRING, f"expired at {end}: clients refuse it; renew it"
    if now >= certificate.expires - SOON:
        return ConditionReason.CERTIFICATE_EXPIRING, f"expires at {_shown(certificate.expires)}; renew it"
    return None


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
