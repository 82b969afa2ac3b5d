"""Why a TLS handshake with an endpoint failed, in words that say what to mend."""

from enum import StrEnum
from ssl import SSLCertVerificationError, SSLError
from typing import Final, NamedTuple

_EXPIRED, _NOT_YET_VALID, _WRONG_NAMES = 10, 9, (62, 64)
"""Of X509_V_ERR_*, OpenSSL's codes; 62 is about a name, 64 about an address."""
_NO_TLS: Final = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE"))
"""OpenSSL's reasons for what is no TLS at all."""


class Cause(StrEnum):
    """The metric's label."""

    NAME = "Name"
    EXPIRED = "Expired"
    AUTHORITY = "Authority"
    NO_TLS = "NoTLS"
    CLOSED = "Closed"
    HANDSHAKE = "Handshake"
    UNUSABLE = "Unusable"
    """Not even tried: nobody could be believed."""


class Failure(NamedTuple):
    cause: Cause
    text: str


class HandshakeError(Exception):
    """The handshake failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def explain(error: SSLError | None, server_name: str) -> Failure:
    """None: the endpoint closed the connection."""
    if error is None:
        return Failure(Cause.CLOSED, "it closed the connection: does it speak TLS on this port?")
    if isinstance(error, SSLCertVerificationError):
        if error.verify_code in _WRONG_NAMES:
            return Failure(Cause.NAME, f"its certificate does not name {server_name}")
        if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
            return Failure(Cause.EXPIRED, f"its {error.verify_message}")
        return Failure(
            Cause.AUTHORITY,
            f"its certificate is not of the authority that is trusted: {error.verify_message}",
        )
    if error.reason in _NO_TLS:
        return Failure(Cause.NO_TLS, "it does not speak TLS on this port")
    return Failure(Cause.HANDSHAKE, f"OpenSSL says {error.reason}")
