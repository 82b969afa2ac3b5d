"""Finding the affinity key in a request: the values of our cookie."""

from typing import Final

MAX_PRESENTED: Final = 8
"""How many cookies of one name are looked at."""


def presented(cookies: list[bytes], prefix: bytes) -> list[bytes]:
    """The values of the cookies that start with `prefix` (`name=`), in order, at most MAX_PRESENTED.

    `cookies` are the values of the request's Cookie fields. Any bytes are safe to give.
    """
    found: list[bytes] = []
    for value in cookies:
        at = value.find(prefix)
        while at != -1:
            start = at + len(prefix)
            end = value.find(b";", start)
            if at == 0 or value[at - 2 : at] == b"; " or _begins_pair(value, at):
                found.append(value[start:] if end == -1 else value[start:end])
                if len(found) == MAX_PRESENTED:
                    return found
            if end == -1:
                break
            at = value.find(prefix, end)
    return found


def _begins_pair(value: bytes, at: int) -> bool:
    """Whether only white space stands between position `at` and the pair's beginning."""
    before = value.rfind(b";", 0, at)
    return not value[before + 1 : at].strip(b" \t")
