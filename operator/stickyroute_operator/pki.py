"""The control channel's certificates: a CA of the fleet's own, made and renewed by the operator.

The chart creates the Secrets empty, under fixed names; what is empty is filled, what is good stays, what
nears its end is renewed. Whatever else stands in a Secret is never overwritten: a message names the remedy.
"""

import logging
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stickyroute_api.control import Role, role_uri, roles

logger = logging.getLogger(__name__)

CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=90)
RENEW_AFTER = 2 / 3
"""The part of a certificate's life after which it is renewed."""
CLOCK_SKEW = timedelta(hours=1)
"""How far a peer's clock may be behind the operator's."""

CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"


class SecretStore(Protocol):
    """The operator's own Secrets, by name."""

    async def read(self, name: str) -> dict[str, bytes]: ...

    async def write(self, name: str, data: Mapping[str, bytes]) -> None: ...


class SecretError(Exception):
    """A Secret holds what is of no use; the text names it and the remedy, never its content."""


@dataclass(frozen=True, slots=True)
class Names:
    """The fixed names of the Secrets that the chart creates."""

    ca: str
    operator: str
    proxy: str
    token_keys: str

    @classmethod
    def of(cls, fullname: str) -> "Names":
        """Those of a release; `fullname` is the chart's."""
        return cls(
            ca=f"{fullname}-ca",
            operator=f"{fullname}-operator-tls",
            proxy=f"{fullname}-proxy-tls",
            token_keys=f"{fullname}-token-keys",
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """What the operator proves itself with, and whom it believes."""

    fleet: str
    ca: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Identity(fleet={self.fleet!r})"

    def client_context(self) -> ssl.SSLContext:
        """TLS 1.3 to proxies of this fleet and to nobody else: checked before a byte is sent."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the certificate names a role, not a host
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.ca.decode("ascii"))
        _load_pair(context, self.certificate, self.key)
        context.sslobject_class = _peer_of(self.fleet, Role.PROXY)
        return context


async def ensure(secrets: SecretStore, names: Names, fleet: str, now: datetime) -> Identity:
    """Fill and renew the CA's, the operator's and the proxies' Secrets. Idempotent.

    Raises SecretError when one holds what can be neither used nor safely replaced.
    """
    ca = await _ensure_ca(secrets, names.ca, fleet, now)
    operator = await _ensure_leaf(secrets, names.operator, ca, fleet=fleet, role=Role.OPERATOR, now=now)
    await _ensure_leaf(secrets, names.proxy, ca, fleet=fleet, role=Role.PROXY, now=now)
    return Identity(fleet, ca.certificate_pem, operator.certificate_pem, operator.key_pem)


def issue_ca(fleet: str, now: datetime) -> Pair:
    """A new CA that signs this fleet's certificates and nothing below them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("StickyRoute CA", fleet)
    certificate = (
        _builder(key, name, name, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issue(ca: Pair, fleet: str, role: Role, now: datetime) -> Pair:
    """A new certificate of this role; an operator's is good for no server: none can pose as a proxy."""
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role is Role.PROXY:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    life = min(LEAF_LIFE, ca.certificate.not_valid_after_utc - now)
    certificate = (
        _builder(key, _name(f"stickyroute-{role}", fleet), ca.certificate.subject, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(role_uri(fleet, role))]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(ca.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def leaf_data(ca: Pair, leaf: Pair) -> dict[str, bytes]:
    """The content of a certificate's Secret, as the pods mount it."""
    return {CERTIFICATE: leaf.certificate_pem, KEY: leaf.key_pem, AUTHORITY: ca.certificate_pem}


async def _ensure_ca(secrets: SecretStore, name: str, fleet: str, now: datetime) -> Pair:
    data = await secrets.read(name)
    if _is_empty(data):
        ca = issue_ca(fleet, now)
        await secrets.write(name, {CERTIFICATE: ca.certificate_pem, KEY: ca.key_pem})
        logger.info("made the fleet's CA in Secret %s", name)
        return ca
    ca = _parse(name, data)
    if not _is_ca(ca.certificate):
        raise SecretError(f"Secret {name}: {CERTIFICATE} is no CA certificate: {_REMEDY}")
    if ca.certificate.not_valid_after_utc <= now:
        raise SecretError(
            f"Secret {name}: the CA ended on {ca.certificate.not_valid_after_utc:%Y-%m-%d}: {_REMEDY}; "
            "proxies take the new one up within two minutes"
        )
    return ca


async def _ensure_leaf(
    secrets: SecretStore, name: str, ca: Pair, *, fleet: str, role: Role, now: datetime
) -> Pair:
    data = await secrets.read(name)
    if _is_empty(data):
        why = "was empty"
    else:
        leaf = _parse(name, data)
        why = _flaw(leaf.certificate, data.get(AUTHORITY, b""), ca, fleet=fleet, role=role, now=now)
        if not why:
            return leaf
    leaf = issue(ca, fleet, role, now)
    await secrets.write(name, leaf_data(ca, leaf))
    logger.info(
        "made the %s certificate in Secret %s, which %s; it lasts until %s",
        role,
        name,
        why,
        leaf.certificate.not_valid_after_utc.date(),
    )
    return leaf


def _flaw(
    certificate: x509.Certificate, authority: bytes, ca: Pair, *, fleet: str, role: Role, now: datetime
) -> str:
    """Why a certificate must be made anew; empty when it is good."""
    try:
        certificate.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return "was signed by another CA"
    if authority.strip() != ca.certificate_pem.strip():
        return "named another CA"
    if role not in roles(_names(certificate), fleet):
        return f"was not for role {role} of fleet {fleet}"
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if now >= certificate.not_valid_before_utc + life * RENEW_AFTER:
        return f"was due (it ends on {certificate.not_valid_after_utc:%Y-%m-%d})"
    return ""


_REMEDY = (
    'empty the Secret (kubectl patch secret NAME --type=json -p \'[{"op":"remove","path":"/data"}]\'), '
    "and the operator fills it anew"
)


def _parse(name: str, data: Mapping[str, bytes]) -> Pair:
    for field in (CERTIFICATE, KEY):
        if not data.get(field):
            raise SecretError(f"Secret {name}: {field} is missing beside other data: {_REMEDY}")
    try:
        certificate = x509.load_pem_x509_certificate(data[CERTIFICATE])
    except ValueError:
        raise SecretError(f"Secret {name}: {CERTIFICATE} is no PEM certificate: {_REMEDY}") from None
    try:
        key = serialization.load_pem_private_key(data[KEY], password=None)
    except (ValueError, TypeError):
        raise SecretError(f"Secret {name}: {KEY} is no PEM private key: {_REMEDY}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise SecretError(f"Secret {name}: {KEY} is not the key of {CERTIFICATE}: {_REMEDY}")
    return Pair(certificate, key)


def _is_empty(data: Mapping[str, bytes]) -> bool:
    return not any(value.strip() for value in data.values())


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate) -> dict[str, list[tuple[str, str]]]:
    """The certificate's URIs in the form of `getpeercert()`."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    return {
        "subjectAltName": [("URI", uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    }


def _name(common: str, fleet: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, fleet[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    now = now.astimezone(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _peer_of(fleet: str, role: Role) -> type[ssl.SSLObject]:
    """A TLS object whose handshake fails unless the peer has this role in this fleet."""

    class Peer(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            if role not in roles(self.getpeercert(), fleet):
                raise ssl.SSLCertVerificationError(
                    f"the peer's certificate does not carry {role_uri(fleet, role)}"
                )

    return Peer


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes keys from files only: from memory where the system can, else from a private file."""
    content = certificate + key
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("stickyroute-tls")
        try:
            os.write(handle, content)
            context.load_cert_chain(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)
        return
    with tempfile.TemporaryDirectory() as directory:  # 0700
        path = Path(directory, "pair.pem")
        path.write_bytes(content)
        context.load_cert_chain(path)
