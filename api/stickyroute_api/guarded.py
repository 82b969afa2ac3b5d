"""Fields of messages that no rule changes: they frame the message, or say what only StickyRoute says.

The one list: the operator refuses a route by it, the proxy a snapshot.
"""

import re
from typing import Final

GUARDED: Final = (
    r"(?i)^(connection|content[-_]length|cookie2?|expect|forwarded|host|http2[-_]settings|keep[-_]alive"
    r"|proxy[-_].*|sec[-_]websocket[-_].*|set[-_]cookie2?|te|trailer|transfer[-_]encoding|upgrade"
    r"|x[-_]forwarded[-_].*|x[-_]real[-_]ip|x[-_]request[-_]id|x[-_]session[-_]lost)$"
)
"""Their names as a regular expression, which the CRD's rules have too; applications take `_` for `-`."""

_guarded = re.compile(GUARDED)


def guarded(name: str) -> bool:
    """Whether a field of that name is left alone."""
    return _guarded.search(name) is not None


def plain(name: str) -> str:
    """A field's name as applications may read it: they take `_` for `-`."""
    return name.lower().replace("_", "-")
