"""What lies within bounds, as patterns: a JSON schema compares numbers, but not numbers within texts."""

from stickyroute_api.fields import UNITS

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_GROUP = "[0-9a-fA-F]{1,4}"


def sizes(least: int, most: int) -> str:
    """The pattern of the sizes (`fields.Size`) from `least` to `most` bytes."""
    units = ((unit, -(-least // factor), most // factor) for unit, factor in UNITS.items())
    return f"^({'|'.join(numbers(low, high) + unit for unit, low, high in units if low <= high)})$"


def numbers(least: int, most: int) -> str:
    """The pattern of the decimal numbers from `least` to `most`, without leading zeros."""
    spans = []
    for digits in range(len(str(least)), len(str(most)) + 1):
        low = max(least, 10 ** (digits - 1) if digits > 1 else 0)
        spans.append(_alike(str(low), str(min(most, 10**digits - 1))))
    return spans[0] if len(spans) == 1 else f"({'|'.join(spans)})"


def _alike(low: str, high: str) -> str:
    """The pattern of the numbers between two that have as many digits."""
    if low == high:
        return low
    if low[0] == high[0]:
        return low[0] + _alike(low[1:], high[1:])
    rest = len(low) - 1
    first, last = int(low[0]), int(high[0])
    spans = []
    if low[1:] != "0" * rest:
        spans.append(low[0] + _alike(low[1:], "9" * rest))
        first += 1
    tail = ""
    if high[1:] != "9" * rest:
        tail = high[0] + _alike("0" * rest, high[1:])
        last -= 1
    if first <= last:
        lead = str(first) if first == last else f"[{first}-{last}]"
        spans.append(lead + ("", "[0-9]", f"[0-9]{{{rest}}}")[min(rest, 2)])
    if tail:
        spans.append(tail)
    return spans[0] if len(spans) == 1 else f"({'|'.join(spans)})"


def networks() -> str:
    """The pattern of IP addresses and networks, but for bits beside the prefix, which no pattern counts."""
    four = rf"{_OCTET}(\.{_OCTET}){{3}}(/{numbers(0, 32)})?"
    forms = [f"({_GROUP}:){{7}}{_GROUP}"]
    for before in range(8):
        left = f"{_GROUP}(:{_GROUP}){{{before - 1}}}" if before else ""
        right = f"({_GROUP}(:{_GROUP}){{0,{6 - before}}})?" if before < 7 else ""
        forms.append(f"{left}::{right}")
    return f"^({four}|({'|'.join(forms)})(/{numbers(0, 128)})?)$"
