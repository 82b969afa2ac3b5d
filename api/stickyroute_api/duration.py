"""Gateway API durations (GEP-2257): `1h30m`, `250ms`, `0s`."""

import re

PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
"""The lexical form, as Gateway API's CRDs state it."""

_FORM = re.compile(PATTERN)
_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def parse_duration(text: str) -> float:
    """Seconds of a Gateway API duration; ValueError on any other text."""
    if not _FORM.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 90s, 1h30m or 250ms")
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text)) / 1000


def format_duration(seconds: float) -> str:
    """The shortest Gateway API duration of so many seconds, exact to the millisecond."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in _MILLISECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
