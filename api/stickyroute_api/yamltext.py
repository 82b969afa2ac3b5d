"""Plain data as YAML text, for the generated files: nothing here reads YAML, and no library is needed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
"""Text that no YAML reader takes for anything but text, words of `_TAKEN` aside."""
_TAKEN = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def dump(value: Mapping[str, Any]) -> str:
    """`value` (mappings, sequences, text, numbers, booleans) as YAML in block style, keys in their order."""
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, member in value.items():
            if _is_block(member):
                yield f"{_scalar(key)}:"
                yield from (f"  {line}" for line in _lines(member))
            else:
                yield f"{_scalar(key)}: {_scalar(member)}"
    elif _is_block(value):
        for item in value:
            lines = _lines(item)
            yield f"- {next(lines)}"
            yield from (f"  {line}" for line in lines)
    else:
        yield _scalar(value)


def _is_block(value: Any) -> bool:
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and len(value) > 0


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _TAKEN:
        return value
    return json.dumps(value, ensure_ascii=False)
