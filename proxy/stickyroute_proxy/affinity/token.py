"""The sealed token: a binding that only the fleet can read or make.

    version 1 · key id 1 · nonce 12 · AES-256-GCM( session 12 · endpoint 12 · created 6 · bound 6 · sealed 6
    · epoch 4 · flags 1 ) · tag 16          in base64url without padding

The scope identity is associated data, so a token of one scope is nothing to another; where the token wraps a
value of the application's, `~` and the value follow it there. Times are Unix milliseconds. Nothing readable
names a pod or an address.
"""

import base64
import binascii
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stickyroute_api.reasons import BindingReason
from stickyroute_api.snapshot import TokenKeys

VERSION: Final = 1
SESSION_BYTES: Final = 12
"""The length of a session id."""
DIGEST_BYTES: Final = 16
LONG_LIVED: Final = 1
"""Flag: set on the answer that began a tunnel or an event stream; the idle timer waits."""
NAMED: Final = 2
"""Flag: the endpoint is named by what a StatefulSet's pod shares with its successors: it may come back."""

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_CONTENT: Final = Struct(">12s12sHIHIHIIB")
_SEALED: Final = 2 + _NONCE_BYTES
"""Where the sealed part begins."""
_RAW_LENGTH: Final = _SEALED + _CONTENT.size + _TAG_BYTES
LENGTH: Final = (_RAW_LENGTH * 4 + 2) // 3
"""The length of every token."""
SEPARATOR: Final = b"~"
"""Between a token and the value of the application's that it was sealed with."""

# Decoding maps base64url to plain base64 and the two characters that only plain base64 has to one that no
# alphabet has. Encoding goes the other way.
_DECODE: Final = bytes.maketrans(b"-_+/", b"+/!!")
_ENCODE: Final = bytes.maketrans(b"+/", b"-_")
# The last character carries four bits of the token and two that must be zero: one spelling for each token.
_CANONICAL_LAST: Final = frozenset(b"AEIMQUYcgkosw048")


class Binding(NamedTuple):
    """The fact that a session belongs to an endpoint. Times are Unix seconds, true to the millisecond."""

    session: bytes
    endpoint: bytes
    """What its scope names the endpoint by: `Scope.name`."""
    created: float
    """When the session began; the absolute timer counts from it, over every move."""
    bound: float
    """When it was bound to this endpoint."""
    sealed: float
    """When this token was made; the idle timer counts from it."""
    epoch: int
    flags: int
    key: int
    """The number of the key that sealed the token; the one that will seal it need not be told."""


Refusal = BindingReason
"""Why a token was not opened: InvalidToken or KeyRetired."""


class Keyring:
    """The keys that the fleet seals and opens tokens with."""

    __slots__ = ("_cipher", "_ciphers", "_entropy", "_hashing", "_head", "sealing")

    sealing: int
    """The number of the key that seals now."""

    def __init__(self, keys: TokenKeys, entropy: Callable[[int], bytes] = os.urandom) -> None:
        """`entropy` makes nonces: each must differ from every other of the whole fleet.

        Raises ValueError naming the key that is not 32 bytes of base64, or the sealing key that is missing.
        """
        self._entropy = entropy
        self._ciphers = {number: AESGCM(_key(f"keys[{number}]", text)) for number, text in keys.keys.items()}
        # Without a key of its own hashing is consistent all the same, but clients can foresee it.
        self._hashing = _key("hashing", keys.hashing) if keys.hashing else bytes(_KEY_BYTES)
        if keys.sealing not in self._ciphers:
            raise ValueError(
                f"keys.sealing: key {keys.sealing} is not among keys.keys; add it or name another"
            )
        self.sealing = keys.sealing
        self._cipher = self._ciphers[keys.sealing]
        self._head = bytes((VERSION, keys.sealing))

    def number(self, value: bytes) -> int:
        """The keyed digest of 64 bits by which consistent hashing places a value."""
        return int.from_bytes(blake2b(value, key=self._hashing, digest_size=8).digest(), "big")

    def digest(self, value: bytes) -> bytes:
        """The keyed digest of 128 bits that stands for a value which is not to be told."""
        return blake2b(value, key=self._hashing, digest_size=DIGEST_BYTES).digest()

    def seal_with(self, value: bytes, binding: Binding, scope: bytes) -> bytes:
        """The token that carries the binding beside this value, and beside no other."""
        return self.seal(binding, scope + SEPARATOR + value)

    def seal(self, binding: Binding, scope: bytes) -> bytes:
        """The token that carries the binding in the scope of that identity."""
        session, endpoint, created, bound, sealed, epoch, flags, _ = binding
        times = *_halves(created), *_halves(bound), *_halves(sealed)
        content = _CONTENT.pack(session, endpoint, *times, epoch, flags)
        nonce = self._entropy(_NONCE_BYTES)
        raw = self._head + nonce + self._cipher.encrypt(nonce, content, scope)
        return b2a_base64(raw, newline=False).translate(_ENCODE, b"=")

    def open(self, token: bytes, scope: bytes) -> Binding | Refusal:
        """The binding that a token carries, or why there is none. Any bytes at all are safe to give.

        A token that was sealed with a value is followed by it, behind SEPARATOR.
        """
        if len(token) > LENGTH and token[LENGTH : LENGTH + 1] == SEPARATOR:
            scope += token[LENGTH:]
            token = token[:LENGTH]
        if len(token) != LENGTH or token[-1] not in _CANONICAL_LAST:
            return BindingReason.INVALID_TOKEN
        try:
            raw = a2b_base64(token.translate(_DECODE) + b"=", strict_mode=True)
        except binascii.Error:
            return BindingReason.INVALID_TOKEN
        if len(raw) != _RAW_LENGTH or raw[0] != VERSION:
            return BindingReason.INVALID_TOKEN
        cipher = self._ciphers.get(raw[1])
        if cipher is None:
            return BindingReason.KEY_RETIRED
        try:
            content = cipher.decrypt(raw[2:_SEALED], raw[_SEALED:], scope)
        except InvalidTag:
            return BindingReason.INVALID_TOKEN
        session, endpoint, c1, c0, b1, b0, s1, s0, epoch, flags = _CONTENT.unpack(content)
        created, bound, sealed = (c1 << 32 | c0) / 1000, (b1 << 32 | b0) / 1000, (s1 << 32 | s0) / 1000
        # A named tuple's own constructor takes four times as long.
        return tuple.__new__(Binding, (session, endpoint, created, bound, sealed, epoch, flags, raw[1]))


def _halves(seconds: float) -> tuple[int, int]:
    """Milliseconds in 16 and 32 bits."""
    return divmod(int(seconds * 1000 + 0.5), 1 << 32)


def _key(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"keys.{name}: not {_KEY_BYTES} bytes of base64; have the operator make it anew")
    return key
