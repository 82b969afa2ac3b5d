"""The small types of the spec: names, hosts, durations, ports; each with its form in words for messages."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from stickyroute_api.check import Check
from stickyroute_api.duration import PATTERN, parse_duration

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"  # the DNS has none that is longer, nor has TLS

DURATION: Final = PATTERN
DNS_LABEL: Final = rf"^{_LABEL}$"
DNS_NAME: Final = rf"^{_LABEL}(\.{_LABEL})*$"
HOST: Final = rf"^(\*\.)?{_HOST_LABEL}(\.{_HOST_LABEL})*$"
DOMAIN: Final = rf"^({_HOST_LABEL}(\.{_HOST_LABEL})*)?$"
TOKEN: Final = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"  # noqa: S105 - RFC 9110, section 5.6.2
PORT_NAME: Final = r"^([0-9][-0-9]*)?[a-z]([-a-z0-9]*[a-z0-9])?$"
METHOD: Final = r"^[A-Z][A-Z-]*$"
VISIBLE: Final = r"^[!-~]+$"
PRINTABLE: Final = r"^[^\x00-\x1f\x7f]+$"
COOKIE_PATH: Final = r"^/[!-:<-~]*$"
CHECK_PATH: Final = r"^/[!-~]*$"
FULL_PATH: Final = r"^/[!$->@-~]*$"
PREFIX_PATH: Final = r"^(/[!$->@-~]*)?$"
HEADER_VALUE: Final = r"^[!-~]([ \t!-~]*[!-~])?$"
REDIRECT: Final = r"^(https?://[!-~]+|/[!-~]*)?$"

FORMS: Final = {
    DURATION: "must be a duration such as 90s, 1h30m or 250ms",
    DNS_LABEL: "must be lower-case letters, digits and inner dashes",
    DNS_NAME: "must be a Kubernetes object's name: lower-case letters, digits, inner dashes and dots",
    HOST: "must be a lower-case host name without port, such as shop.example.com or *.example.com;"
    " for any host leave hosts out",
    DOMAIN: "must be a lower-case domain such as example.com, without leading dot",
    TOKEN: "must be letters, digits and !#$%&'*+-.^_`|~ without spaces",
    METHOD: "must be a method in upper-case letters, such as GET",
    VISIBLE: "must be visible ASCII without spaces; write others percent-encoded",
    PRINTABLE: "must not hold control characters",
    COOKIE_PATH: "must start with / and be visible ASCII without spaces and ;",
    CHECK_PATH: "must start with / and be visible ASCII without spaces",
    FULL_PATH: "must start with / and be visible ASCII without spaces, quotes, ? and #",
    PREFIX_PATH: "must be empty, or start with / and be visible ASCII without spaces, quotes, ? and #",
    HEADER_VALUE: "must be visible ASCII with spaces inside at most",
    REDIRECT: "must be an http:// or https:// URL, or a path that starts with /",
}
"""What a pattern asks for, in words."""

MAX_REGEX: Final = 256
"""The longest regular expression, in characters."""

_PORT_NAME = re.compile(PORT_NAME)
_PORT_FORM: Final = "must be a port's number, 1 to 65535 without quotes, or its name in the Service"


def matches(subject: str, pattern: str) -> str:
    """The CEL expression that `subject` matches a pattern, which holds no double quote."""
    return f'{subject}.matches(r"{pattern}")'


def _port(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    if isinstance(value, str) and 1 <= len(value) <= 63 and _PORT_NAME.fullmatch(value):
        return value
    raise PydanticCustomError("port", _PORT_FORM)


_SIZE: Final = r"^(0|[1-9][0-9]{0,11})(k|M|G|Ki|Mi|Gi)?$"
_SIZE_FORM: Final = "must be a size such as 10Mi, 512Ki or 1000000 (bytes)"
UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
MAX_SIZE: Final = 999_999_999_999
_size = re.compile(_SIZE)


def parse_size(size: int | str) -> int:
    """Bytes of a size as `Size` takes it."""
    if isinstance(size, int):
        return size
    found = _size.fullmatch(size)
    if found is None:
        raise ValueError(f"{size!r} {_SIZE_FORM}")
    return int(found[1]) * UNITS[found[2] or ""]


def _as_size(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE:
        return value
    if isinstance(value, str) and _size.fullmatch(value):
        return value
    raise PydanticCustomError("size", _SIZE_FORM)


POSITIVE = Check(
    name="duration-above-zero",
    cel=f"!{matches('self', DURATION)} || duration(self) > duration('0s')",
    holds=lambda text: parse_duration(text) > 0,
    message="must be longer than 0s: give a time such as 30s, or leave the field out",
)


def _duration(value: Any) -> Any:
    """A number gets the form in words: put in quotes, as other text, it would still have no unit."""
    if not isinstance(value, str):
        raise PydanticCustomError("duration", FORMS[DURATION])
    return value


Duration = Annotated[
    str,
    StringConstraints(pattern=DURATION, max_length=32),
    BeforeValidator(_duration),
]
"""A Gateway API duration; 0s has the meaning that the field says."""
PositiveDuration = Annotated[Duration, POSITIVE]
Label = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)]
ObjectName = Annotated[str, StringConstraints(pattern=DNS_NAME, min_length=1, max_length=253)]
Host = Annotated[str, StringConstraints(pattern=HOST, min_length=1, max_length=253)]
HttpToken = Annotated[str, StringConstraints(pattern=TOKEN, min_length=1, max_length=128)]
Port = Annotated[
    int | str,
    PlainValidator(_port),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maximum": 65535,
            "maxLength": 63,
            "pattern": PORT_NAME,
            "x-kubernetes-validations": [
                {"rule": f"type(self) == int || {matches('self', PORT_NAME)}", "message": _PORT_FORM}
            ],
        }
    ),
]
"""A port's number, or its name in the Service: a quoted number is neither."""
Size = Annotated[
    int | str,
    PlainValidator(_as_size),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "maximum": MAX_SIZE,
            "maxLength": 16,
            "pattern": _SIZE,
            "x-kubernetes-validations": [
                {"rule": f"type(self) == int || {matches('self', _SIZE)}", "message": _SIZE_FORM}
            ],
        }
    ),
]
"""A number of bytes, or a text with a unit."""
HeaderValue = Annotated[str, StringConstraints(pattern=HEADER_VALUE, min_length=1, max_length=4096)]
