"""The cookie that carries the token: taken out of requests, put into answers."""

from re import compile as regex
from typing import Final

from stickyroute_api import snapshot

_SHARED: Final = (b"public", b"s-maxage")
_DIRECTIVE: Final = regex(rb'(?:"(?:[^"\\]|\\.)*"?|[^,"])+')


def strip(value: bytes, name: bytes) -> bytes | None:
    """A Cookie field's value without the pairs of that name; None when nothing is left.

    The other pairs stay as they are, byte for byte.
    """
    if name not in value:
        return value
    pairs = value.split(b";")
    usual = b" " + name + b"="  # most need no closer look
    kept = [
        pair for pair in pairs if name not in pair or not (pair.startswith(usual) or _is_named(pair, name))
    ]
    if len(kept) == len(pairs):
        return value
    rest = b";".join(kept)
    if not rest.strip(b"; \t"):
        return None
    # What followed the first pair begins with the white space that parted the two.
    return rest if kept[0] is pairs[0] else rest.lstrip(b" \t")


def sets(line: bytes, name: bytes) -> bool:
    """Whether a field of an answer sets the cookie of that name, or ends it.

    One without a name is sent back as its value alone (RFC 6265bis, section 5.8.3): `=sr=x` as `sr=x`.
    """
    field, _, value = line.partition(b":")
    pair = value.partition(b";")[0].strip(b" \t")
    return field.lower() == b"set-cookie" and _is_named(pair.removeprefix(b"="), name)


def _is_named(pair: bytes, name: bytes) -> bool:
    """White space around a name is no part of it; a pair without `=` has no name."""
    found, equals, _ = pair.partition(b"=")
    return bool(equals) and found.strip(b" \t") == name


def attributes(cookie: snapshot.Cookie, absolute_timeout: float | None, *, secure: bool) -> bytes:
    """Everything behind the token in a Set-Cookie field, for a client that came by TLS or not."""
    # Browsers drop a cookie of these names without Secure, whatever it came by.
    secure = secure or cookie.name.lower().startswith(("__host-", "__secure-"))
    secure = cookie.secure == "Always" or (cookie.secure == "Auto" and secure)
    parts = [f"Path={cookie.path}"]
    if cookie.domain:
        parts.append(f"Domain={cookie.domain}")
    if cookie.permanent and absolute_timeout is not None:
        parts.append(f"Max-Age={int(absolute_timeout)}")
    if secure:
        parts.append("Secure")
    if cookie.http_only:
        parts.append("HttpOnly")
    # Browsers drop a cookie that has SameSite=None or Partitioned without Secure.
    if secure or cookie.same_site != "None":
        parts.append(f"SameSite={cookie.same_site}")
    if secure and cookie.partitioned:
        parts.append("Partitioned")
    return "".join(f"; {part}" for part in parts).encode()


def may_set(status: int, cache_control: bytes | None) -> bool:
    """Whether an answer may carry our cookie: not where a shared cache would keep or ignore it.

    `cache_control` holds the answer's Cache-Control values, joined by commas; None without any.
    """
    if status == 304:
        return False
    if cache_control is None:
        return True
    directives = (part.split(b"=", 1)[0].strip(b" \t") for part in cache_control.lower().split(b","))
    return not any(directive in _SHARED for directive in directives)


def unshared(cache_control: bytes) -> bytes:
    """A value of Cache-Control without what lets shared caches keep an answer that they would not else."""
    directives = [found.strip(b" \t") for found in _DIRECTIVE.findall(cache_control)]
    return b", ".join(
        [each for each in directives if each and each.split(b"=", 1)[0].rstrip(b" \t").lower() not in _SHARED]
    )
