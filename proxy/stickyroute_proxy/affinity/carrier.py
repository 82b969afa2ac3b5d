"""What carries a scope's keys: which part of a request shows them, and what becomes of it on the way.

Ours is given out by the proxy and taken out of requests; a learned one is the application's, which gets back
what it gave out.
"""

from collections.abc import Iterator
from typing import ClassVar, Final

from stickyroute_api import snapshot
from stickyroute_proxy.affinity import envelope
from stickyroute_proxy.affinity.cookie import attributes, sets, strip
from stickyroute_proxy.affinity.envelope import Seal
from stickyroute_proxy.affinity.keys import MAX_PRESENTED, Facts
from stickyroute_proxy.fieldname import plain

_BLANKS: Final = b" \t"


class Carrier:
    """Carries nothing: the scope keeps no sessions, or knows them by what every request has."""

    learns: ClassVar[bool] = False
    """The application gives the key out."""
    cleans: ClassVar[bool] = False
    """What the application sets under our name is taken out of answers: see `down_fields`."""

    def presented(self, _facts: Facts) -> list[bytes]:
        """The keys that a request shows, in order, at most MAX_PRESENTED."""
        return []

    def up_cookie(self, field: bytes) -> bytes | None:
        """What of a Cookie field goes upstream; None: nothing."""
        return field

    def up_fields(self, lines: list[bytes]) -> list[bytes]:
        """The other fields of a request as they go upstream."""
        return lines

    def down_fields(self, lines: list[bytes]) -> list[bytes]:
        """The fields of an answer without those of our name; the same list where it has none."""
        return lines

    def clashes(self, _lines: list[bytes], _now: float) -> int:
        """How many fields of an answer give something out under our name; those that end it are none."""
        return 0

    def given(self, _token: bytes, _secure: bool) -> bytes:
        """The complete line that gives the client a token of ours, or with an empty one takes it back.

        `secure`: the client came by TLS.
        """
        return b""

    def minted(self, _lines: list[bytes], _now: float) -> list[bytes]:
        """The values that an answer of these fields gives out; those that it ends are none."""
        return []

    def wrapped(self, lines: list[bytes], _seal: Seal, _now: float) -> list[bytes]:
        """The fields of an answer with what they give out in envelopes; all else byte for byte.

        The same list where they give nothing out.
        """
        return lines


NOTHING: Final = Carrier()


class OurCookie(Carrier):
    """Type Cookie."""

    cleans = True

    def __init__(self, cookie: snapshot.Cookie, absolute_timeout: float | None) -> None:
        self._name = cookie.name.encode()
        self._prefix = self._name + b"="
        self._tails = tuple(
            attributes(cookie, absolute_timeout, secure=secure) + b"\r\n" for secure in (False, True)
        )
        ended = cookie.model_copy(update={"permanent": True})
        self._ends = tuple(attributes(ended, 0.0, secure=secure) + b"\r\n" for secure in (False, True))

    def presented(self, facts: Facts) -> list[bytes]:
        return facts.presented(self._prefix) if facts.cookies else []

    def up_cookie(self, field: bytes) -> bytes | None:
        return strip(field, self._name)

    def down_fields(self, lines: list[bytes]) -> list[bytes]:
        kept = [line for line in lines if self._name not in line or not sets(line, self._name)]
        return lines if len(kept) == len(lines) else kept

    def clashes(self, lines: list[bytes], now: float) -> int:
        fields = (line.partition(b":") for line in lines if self._name in line)
        return sum(
            name.lower() == b"set-cookie" and envelope.minted(_named(value), self._name, now) is not None
            for name, _, value in fields
        )

    def given(self, token: bytes, secure: bool) -> bytes:
        tails = self._tails if token else self._ends
        return b"set-cookie: " + self._prefix + token + tails[secure]


class OurHeader(Carrier):
    """Type Header, where the application has no part in it (GEP-1619).

    What the application says under that name in final answers goes with what the rule changes there, see
    `changes.compiled`.
    """

    def __init__(self, name: str) -> None:
        self._header = name.lower().encode()
        self._given = name.encode() + b": "

    def presented(self, facts: Facts) -> list[bytes]:
        # Who passes it on may have joined several.
        joined = b",".join(facts.values(self._header))
        return [value.strip(_BLANKS) for value in joined.split(b",", MAX_PRESENTED)[:MAX_PRESENTED] if value]

    def up_fields(self, lines: list[bytes]) -> list[bytes]:
        ours = plain(self._header)
        return [line for line in lines if plain(line.partition(b":")[0]) != ours]

    def down_fields(self, lines: list[bytes]) -> list[bytes]:
        kept = [line for line in lines if line.partition(b":")[0].lower() != self._header]
        return lines if len(kept) == len(lines) else kept

    def clashes(self, lines: list[bytes], _now: float) -> int:
        fields = (line.partition(b":") for line in lines)
        return sum(name.lower() == self._header and bool(value.strip(_BLANKS)) for name, _, value in fields)

    def given(self, token: bytes, _secure: bool) -> bytes:
        return self._given + token + b"\r\n"


class Learned(Carrier):
    """A cookie or header that the application gives out: as it is, or in our envelope."""

    learns = True
    _field: bytes
    """The field of answers that gives it out, in lower case."""

    def __init__(self, name: str, *, wraps: bool) -> None:
        self._name = name.encode()
        self._wraps = wraps

    def _shown(self, _facts: Facts) -> list[bytes]:
        """The values that a request has, as they are."""
        return []

    def presented(self, facts: Facts) -> list[bytes]:
        """The values, or with envelopes what `Keyring.open` takes: raw values are no keys then."""
        values = self._shown(facts)
        if not self._wraps:
            return values
        return [found for value in values if (found := envelope.shown(value)) is not None]

    def minted(self, lines: list[bytes], now: float) -> list[bytes]:
        values = (self._minted(value, now) for _, value in self._giving(lines))
        return [value for value in values if value is not None]

    def wrapped(self, lines: list[bytes], seal: Seal, now: float) -> list[bytes]:
        found = dict(self._giving(lines))
        if not found:
            return lines
        lines = list(lines)
        for index, value in found.items():
            before = lines[index][: len(lines[index]) - len(value)]
            lines[index] = before + self._wrapped(value, seal, now)
        return lines

    def _giving(self, lines: list[bytes]) -> Iterator[tuple[int, bytes]]:
        """The answer's fields of the right name: which, and their values."""
        for index, line in enumerate(lines):
            name, _, value = line.partition(b":")
            if len(name) == len(self._field) and name.lower() == self._field:
                yield index, value.lstrip(_BLANKS)

    def _minted(self, value: bytes, _now: float) -> bytes | None:
        return value or None

    def _wrapped(self, value: bytes, seal: Seal, _now: float) -> bytes:
        return envelope.wrap(value, seal) if value else value


class AppCookie(Learned):
    """Type AppCookie."""

    _field = b"set-cookie"

    def __init__(self, name: str, *, wraps: bool) -> None:
        super().__init__(name, wraps=wraps)
        self._prefix = self._name + b"="

    def _shown(self, facts: Facts) -> list[bytes]:
        return [value.strip(_BLANKS) for value in facts.presented(self._prefix)] if facts.cookies else []

    def up_cookie(self, field: bytes) -> bytes | None:
        return envelope.unwrap_cookie(field, self._name) if self._wraps else field

    def _minted(self, value: bytes, now: float) -> bytes | None:
        return envelope.minted(value, self._name, now)

    def _wrapped(self, value: bytes, seal: Seal, now: float) -> bytes:
        return envelope.wrap_cookie(value, self._name, seal, now)


class AppHeader(Learned):
    """Type Header with `learn`."""

    def __init__(self, name: str, *, wraps: bool) -> None:
        super().__init__(name, wraps=wraps)
        self._field = self._name.lower()

    def _shown(self, facts: Facts) -> list[bytes]:
        return [value for value in facts.values(self._field)[:MAX_PRESENTED] if value]

    def up_fields(self, lines: list[bytes]) -> list[bytes]:
        if not self._wraps:
            return lines
        lines = list(lines)
        for index, value in self._giving(lines):
            before = lines[index][: len(lines[index]) - len(value)]
            lines[index] = before + envelope.unwrap(value)
        return lines


def _named(value: bytes) -> bytes:
    """A Set-Cookie field's value as clients read one that begins with `=`: see `cookie.sets`."""
    return value.lstrip(_BLANKS).removeprefix(b"=")


def carrier(policy: snapshot.Persistence) -> Carrier:
    """What carries the keys of a scope of this policy."""
    wraps = policy.learn == "Envelope"
    match policy.type:
        case "Cookie" if policy.cookie is not None:
            return OurCookie(policy.cookie, policy.absolute_timeout)
        case "AppCookie":
            return AppCookie(policy.name, wraps=wraps)
        case "Header" if policy.learn is not None:
            return AppHeader(policy.name, wraps=wraps)
        case "Header":
            return OurHeader(policy.name)
    return NOTHING
