"""The envelope: a value of the application's that travels behind our token.

    token ~ value          as a cookie's or a header's value; in a quoted value it stands within the quotes

The token is sealed for the scope and for this very value: neither of the two can be put beside another. What
has the envelope's shape is opened for the application whatever its token is worth, so that it gets what it
would have got without us; all else goes on as it came.
"""

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from re import DOTALL
from re import compile as regex
from typing import Final

from stickyroute_proxy.affinity.token import LENGTH, SEPARATOR

MAX_COOKIE: Final = 4096
"""Browsers drop a cookie whose name and value are longer together (RFC 6265bis, section 5.6)."""

_ENVELOPE: Final = regex(rb'("?)([A-Za-z0-9_-]{%d})%b(.*)' % (LENGTH, SEPARATOR), DOTALL)
_BLANKS: Final = b" \t"
_EMPTY: Final = (b"", b'""')
_AGE: Final = regex(rb"-?[0-9]+")

Seal = Callable[[bytes], bytes]
"""Makes the token for a value."""


def wrap(value: bytes, seal: Seal) -> bytes:
    """The envelope of a value."""
    quote = b'"' if value[:1] == b'"' else b""
    return quote + seal(value) + SEPARATOR + value[len(quote) :]


def unwrap(value: bytes) -> bytes:
    """The value in an envelope; what is none, as it is."""
    found = _ENVELOPE.fullmatch(value)
    return value if found is None else found[1] + found[3]


def shown(value: bytes) -> bytes | None:
    """An envelope as `Keyring.open` takes it: the token, and behind it the value; None: it is none."""
    found = _ENVELOPE.fullmatch(value)
    return None if found is None else found[2] + SEPARATOR + found[1] + found[3]


def unwrap_cookie(field: bytes, name: bytes) -> bytes:
    """A Cookie field with the envelopes of that name opened; all else byte for byte."""
    if name not in field or SEPARATOR not in field:
        return field
    return b";".join([_unwrapped(pair, name) if name in pair else pair for pair in field.split(b";")])


def _unwrapped(pair: bytes, name: bytes) -> bytes:
    key, equals, padded = pair.partition(b"=")
    if key.strip(_BLANKS) != name:
        return pair
    before, value, after = _bare(padded)
    return key + equals + before + unwrap(value) + after


def minted(field: bytes, name: bytes, now: float) -> bytes | None:
    """The value that a Set-Cookie field gives the cookie of that name; None: another's, or its end."""
    pair, _, attributes = field.partition(b";")
    key, equals, padded = pair.partition(b"=")
    if not equals or key.strip(_BLANKS) != name:
        return None
    value = padded.strip(_BLANKS)
    return None if value in _EMPTY or _is_over(attributes, now) else value


def wrap_cookie(field: bytes, name: bytes, seal: Seal, now: float) -> bytes:
    """A Set-Cookie field with the value of that name in an envelope; attributes byte for byte.

    A field that ends the cookie stays as it is, and so does one that browsers would drop for its length.
    """
    value = minted(field, name, now)
    if value is None or len(name) + LENGTH + len(SEPARATOR) + len(value) > MAX_COOKIE:
        return field
    pair, semicolon, attributes = field.partition(b";")
    key, equals, padded = pair.partition(b"=")
    before, value, after = _bare(padded)
    return key + equals + before + wrap(value, seal) + after + semicolon + attributes


def _bare(padded: bytes) -> tuple[bytes, bytes, bytes]:
    """A value and the white space around it."""
    rest = padded.lstrip(_BLANKS)
    value = rest.rstrip(_BLANKS)
    return padded[: len(padded) - len(rest)], value, rest[len(value) :]


def _is_over(attributes: bytes, now: float) -> bool:
    """Whether a cookie of these attributes has ended: Max-Age counts before Expires, the last of each."""
    age = expires = None
    for attribute in attributes.split(b";"):
        name, _, value = attribute.partition(b"=")
        match name.strip(_BLANKS).lower():
            case b"max-age":
                value = value.strip(_BLANKS)
                age = value if _AGE.fullmatch(value) else age
            case b"expires":
                moment = _moment(value)
                expires = expires if moment is None else moment
    if age is not None:
        return age[:1] == b"-" or not age.strip(b"0")
    return expires is not None and expires <= now


def _moment(text: bytes) -> float | None:
    """A date as cookies have it (Unix seconds); None: it is none."""
    try:
        date = parsedate_to_datetime(text.decode("latin-1").strip())
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
