"""Regular expressions, as RE2 has them: in time linear in what they are matched against.

Of the contract, since what the operator accepts every proxy has to compile. Needs RE2, so only what compiles
imports it.
"""

from collections.abc import Callable
from typing import Final

import re2

from stickyroute_api.fields import MAX_REGEX

_OPTIONS: Final = re2.Options()
# Requests are bytes of no known encoding: Latin-1 gives each byte a character, and none is invalid.
_OPTIONS.encoding = re2.Options.Encoding.LATIN1
_OPTIONS.log_errors = False
_OPTIONS.never_capture = True


def compiled(pattern: str) -> Callable[[bytes], object]:
    """The full match of an RE2 expression; ValueError when it is none or too long."""
    if len(pattern) > MAX_REGEX:
        raise ValueError(f"a regular expression has at most {MAX_REGEX} characters, this one {len(pattern)}")
    try:
        found: Callable[[bytes], object] = re2.compile(pattern.encode(), _OPTIONS).fullmatch
    except re2.error as error:
        raise ValueError(f"{pattern!r} is not an RE2 regular expression: {_text(error)}") from error
    return found


def _text(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
