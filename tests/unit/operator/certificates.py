"""Certificates of a throw-away authority, as Secrets hold them."""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from stickyroute_operator.objects import Secret

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
AUTHORITY = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Authority")])


@cache
def authority():
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _signed(
        AUTHORITY, key.public_key(), key, (), (NOW - timedelta(days=1), NOW + timedelta(days=900))
    )


def issue(*hosts, key=None, begins=NOW - timedelta(days=1), days=90):
    """The key and the PEM chain of a server's certificate."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer, top = authority()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    leaf = _signed(name, key.public_key(), signer, hosts, (begins, NOW + timedelta(days=days)))
    return key, _pem(leaf) + _pem(top)


def secret(*hosts, **options):
    key, chain = issue(*hosts, **options)
    return Secret("kubernetes.io/tls", chain, private(key), authorities())


def authorities():
    return _pem(authority()[1])


def private(key, passphrase=None):
    seal = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, seal).decode()


def weak():
    return rsa.generate_private_key(65537, 1024)


def _pem(certificate):
    return certificate.public_bytes(Encoding.PEM).decode()


def _signed(name, public, signer, hosts, times):
    made = x509.CertificateBuilder(AUTHORITY, name, public, x509.random_serial_number(), *times)
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        made = made.add_extension(names, critical=False)
    return made.sign(signer, hashes.SHA256())
