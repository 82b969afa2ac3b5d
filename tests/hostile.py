"""Keys that are no keys: made of a good one, or of nothing."""

import base64
from dataclasses import dataclass
from random import Random

from stickyroute_api.snapshot import TokenKeys
from stickyroute_proxy.affinity.token import Binding, Keyring

KEYS = TokenKeys(sealing=1, keys={1: base64.b64encode(b"k" * 32).decode()})
"""Those of the fleet."""
OTHER_KEYS = TokenKeys(sealing=1, keys={1: base64.b64encode(b"o" * 32).decode()})
RETIRED = TokenKeys(sealing=7, keys={7: base64.b64encode(b"k" * 32).decode()})
SCOPE = b"shop/shop/web"
ANYWHERE = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
"""What a field's value may hold."""


@dataclass(frozen=True)
class Good:
    token: bytes
    endpoint: bytes
    """The name of a pod."""
    value: bytes = b""
    """What follows the token in an envelope, `~` included."""
    now: float = 1_800_000_000.0


def sealed(random: Random, good: Good, keys=KEYS, scope=SCOPE):
    binding = Binding(random.randbytes(12), good.endpoint, good.now, good.now, good.now, 0, 0, 0)
    return Keyring(keys).seal(binding, scope + good.value)


def flipped(random: Random, good: Good):
    token = good.token
    at = random.randrange(len(token))
    return token[:at] + bytes([token[at] ^ 1 << random.randrange(8)]) + token[at + 1 :]


def replaced(random: Random, good: Good):
    at = random.randrange(len(good.token))
    return good.token[:at] + random.choice(ANYWHERE[0x5F:]).to_bytes() + good.token[at + 1 :]


HOSTILE = {
    "a flipped bit": flipped,
    "cut off": lambda random, good: good.token[: random.randrange(len(good.token))],
    "cut off in front": lambda random, good: good.token[1 + random.randrange(len(good.token) - 1) :],
    "lengthened": lambda random, good: good.token + random.choice([b"=", b"A", b"\0", b" x", b"=="]),
    "twice": lambda _, good: good.token * 2,
    "another scope": lambda random, good: sealed(
        random, good, scope=random.choice([b"shop/shop/other", b"shop/other/web", b""])
    ),
    "another key": lambda random, good: sealed(random, good, OTHER_KEYS),
    "a retired key": lambda random, good: sealed(random, good, RETIRED),
    "any bytes": lambda random, _: random.randbytes(random.randrange(200)).replace(b";", b""),
    "no ASCII": replaced,
    "8 KiB": lambda random, _: bytes(random.choices(b"ABab01-_", k=8192)),
    "padded": lambda _, good: base64.b64encode(base64.urlsafe_b64decode(good.token + b"=")),
    "in the other alphabet": lambda _, good: good.token.translate(bytes.maketrans(b"-_", b"+/")) + b"=",
    "base64 of base64": lambda _, good: base64.b64encode(good.token),
    "base32": lambda _, good: base64.b32encode(base64.urlsafe_b64decode(good.token + b"=")),
    "hexadecimal": lambda _, good: good.token.hex().encode(),
    "the other case": lambda _, good: good.token.swapcase(),
    "in quotes": lambda random, good: (
        random.choice([b'"%b"', b"'%b'", b'"%b', b'%b"', b'\\"%b\\"']) % good.token
    ),
    "escaped": lambda _, good: b"%%%02X" % good.token[0] + good.token[1:],
    "wholly escaped": lambda _, good: b"".join(b"%%%02x" % byte for byte in good.token),
    "UTF-16": lambda _, good: good.token.decode("latin-1").encode("utf-16"),
    "full width": lambda _, good: "".join(chr(byte + 0xFEE0) for byte in good.token).encode(),
}
"""By randomness and a good key. Some hold bytes that no field's value may."""
