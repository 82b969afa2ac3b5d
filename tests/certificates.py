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
"""When the tests of pure parts happen."""
EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
AUTHORITY = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Authority")])


@cache
def authority():
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _signed(AUTHORITY, key.public_key(), key, (), EVER)


def issue(*hosts, key=None, now=NOW, begins=None, days=90):
    """The key and the PEM chain of a server's certificate."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer, top = authority()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    times = begins or now - timedelta(days=1), now + timedelta(days=days)
    return key, _pem(_signed(name, key.public_key(), signer, hosts, times)) + _pem(top)


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
    # What strict verifiers (Python 3.13's default) ask of an authority and of a server.
    made = made.add_extension(x509.BasicConstraints(ca=name == AUTHORITY, path_length=None), critical=True)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    made = made.add_extension(identifier, critical=False)
    if name == AUTHORITY:
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        made = made.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
    if hosts:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        made = made.add_extension(names, critical=False)
    return made.sign(signer, hashes.SHA256())
