"""pydantic's errors and unknown fields in the words of people who write YAML."""

import json
import types
import typing
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from stickyroute_api.fields import FORMS

_FEW: Final = 6
"""So many fields are all named where one is unknown; more would hide what is said."""

_TIME = "must be a time with its zone, such as 2030-01-31T12:00:00Z"
_WHOLE = "must be a whole number, without quotes"
_MAPPING = "must be a mapping of fields"

_TEXTS: Final = {
    "missing": "is required: add it",
    "string_too_long": "must have at most {max_length} characters: shorten it",
    "string_too_short": "must not be empty: give a value, or leave the field out",
    "too_long": "must have at most {max_length} entries (has {actual_length}): remove some",
    "too_short": "must have at least {min_length} entry: add one",
    "greater_than_equal": "must be at least {ge} (is {value})",
    "less_than_equal": "must be at most {le} (is {value})",
    "string_type": "must be text: put it in quotes (is {value})",
    "int_type": _WHOLE + " (is {value})",
    "int_from_float": _WHOLE + " (is {value})",
    "int_parsing_size": "must be a smaller number (is {value})",
    "bool_type": "must be true or false, without quotes (is {value})",
    "tuple_type": "must be a list (is {value})",
    "model_type": _MAPPING + " (is {value})",
    "dict_type": _MAPPING + " (is {value})",
    "datetime_type": _TIME + " (is {value})",
    "datetime_parsing": _TIME + " (is {value})",
    "datetime_from_date_parsing": _TIME + " (is {value})",
    "timezone_aware": _TIME + " (is {value})",
}
"""By pydantic's error type; filled from the error's context."""


def message(error: ErrorDetails) -> str:
    """What one pydantic error says to a person."""
    context, value = error.get("ctx", {}), error["input"]
    if error["type"] == "string_pattern_mismatch":
        return f"{FORMS[context['pattern']]} (is {shown(value)})"
    if error["type"] == "literal_error":
        return _choice(value, context["expected"])
    text = _TEXTS.get(error["type"])
    if text is None:
        return f"{error['msg']} (is {shown(value)})"
    return text.format(**context, value=shown(value))


def unknown(name: str, known: Sequence[str], homes: Sequence[str] = ()) -> str:
    """What a field `name` says that is none of `known`, but is one of the models at `homes`."""
    if name in {"true", "false"}:
        return f"is no field here: YAML reads a bare on, yes, off or no as {name}; use {' or '.join(known)}"
    if same := _alike(name, known):
        return f'is no field here, did you mean "{same[0]}"?'
    if homes:
        here = f"; here are {', '.join(sorted(known))}" if len(known) <= _FEW else ""
        return f"is no field here: it belongs to {' or '.join(homes[:2])}{here}"
    if near := get_close_matches(name, known, 1):
        return f'is no field here, did you mean "{near[0]}"?'
    return f"is no field here: remove it, or use one of {', '.join(sorted(known))}"


def shown(value: Any) -> str:
    """A value as it may stand in a message: short, and on one line."""
    if value is None:
        return "missing"
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fields_at(root: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The YAML names of the fields at a location of a manifest."""
    model = root
    for part in location:
        if isinstance(part, str):
            below = _members(model).get(part)
            if below is None:
                return []
            model = below
    return list(_members(model))


def homes(root: type[BaseModel], path: str, name: str) -> list[str]:
    """The paths from `path` down, `root` being there, whose models have a field `name`; the highest first."""
    found: list[str] = []
    queue: list[tuple[str, type[BaseModel]]] = [(path, root)]
    for place, model in queue:
        for alias, below in _members(model).items():
            if alias == name:
                found.append(place)
            if below is not None:
                queue.append((f"{place}.{alias}".lstrip("."), below))
    return found


def _choice(value: Any, expected: str) -> str:
    """`expected` is pydantic's list of quoted words."""
    words = [word for word in expected.split("'") if word not in {"", ", ", " or "}]
    guess = [] if not isinstance(value, str) else _alike(value, words) or get_close_matches(value, words, 1)
    hint = f", did you mean {guess[0]}?" if guess else ""
    text = " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}"
    return f"must be {text} (is {shown(value)}{hint})"


def _alike(name: str, words: Sequence[str]) -> list[str]:
    """The words that differ from `name` in case, dashes and underscores at most."""
    plain = name.replace("_", "").replace("-", "").lower()
    return [word for word in words if word.replace("-", "").lower() == plain]


def _members(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """YAML name → the model of that member or of its items; None: a plain value."""
    return {str(field.alias): _model_in(field.annotation) for field in model.model_fields.values()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    items = () if annotation is types.EllipsisType else typing.get_args(annotation)
    return next((model for item in items if (model := _model_in(item))), None)
