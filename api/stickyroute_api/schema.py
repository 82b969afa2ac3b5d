"""From a pydantic model's JSON schema to the structural schema that a CRD may hold.

References are inlined, `anyOf [X, null]` becomes X, `const` a one-value `enum`; titles and
`additionalProperties: false` go (the API server refuses or prunes unknown fields by itself). Defaults of
objects and empty defaults go too: the API server would write them into every object for people to read past.
Any other keyword than the listed ones is an error, so that nothing is lost in silence. A pattern comes with
a CEL rule that says in words what it asks for.
"""

import re
from typing import Any, Final, Literal

from pydantic import BaseModel

from stickyroute_api.fields import FORMS, matches

Schema = dict[str, Any]

_KEPT: Final = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    }
)
_DROPPED: Final = frozenset({"title", "additionalProperties", "readOnly", "$defs"})
_WORDED: Final = 1024
"""The longest text whose form is also told in words: the API server reckons CEL by length."""
_OPEN_WORD: Final = {"type": "string", "maxLength": 64}
"""What stands for a StrEnum: later versions add words, and an older CRD must not refuse them."""


def structural(model: type[BaseModel], mode: Literal["validation", "serialization"] = "validation") -> Schema:
    """The structural schema of what `model` takes (validation) or gives (serialization), by alias.

    ValueError names a place that has none.
    """
    root = model.model_json_schema(by_alias=True, mode=mode)
    return _converted(root, root.get("$defs", {}), model.__name__)


def _converted(schema: Schema, definitions: dict[str, Schema], place: str) -> Schema:
    result: Schema = {}
    for keyword, value in _resolved(schema, definitions, place).items():
        if keyword == "properties":
            result[keyword] = {
                name: _converted(member, definitions, f"{place}.{name}") for name, member in value.items()
            }
        elif keyword == "items":
            result[keyword] = _converted(value, definitions, f"{place}[]")
        elif keyword == "description":
            result[keyword] = re.sub(r"\s+", " ", value).strip()
        elif keyword in _KEPT and not (keyword == "default" and _is_noise(value)):
            result[keyword] = value
        elif keyword not in _KEPT | _DROPPED or (keyword == "additionalProperties" and value):
            raise ValueError(f"{place}: a structural schema does not allow {keyword!r}: model it otherwise")
    words = FORMS.get(result.get("pattern", ""))
    if words is not None and result.get("maxLength", 0) <= _WORDED:
        form = {"rule": matches("self", result["pattern"]), "message": words}
        result["x-kubernetes-validations"] = [form, *result.get("x-kubernetes-validations", ())]
    _require_bounds(result, place)
    return result


def _is_noise(default: Any) -> bool:
    """Whether the API server should rather not write this default into objects."""
    objects = isinstance(default, dict) or (
        isinstance(default, list) and any(isinstance(item, dict) for item in default)
    )
    return objects or default in ("", [], None)


def _require_bounds(schema: Schema, place: str) -> None:
    """ValueError unless the value has a type and a bound on its size, by which the API server budgets CEL."""
    if "type" not in schema and "x-kubernetes-int-or-string" not in schema:
        raise ValueError(f"{place}: a structural schema needs a type")
    if schema.get("type") == "string" and not {"enum", "maxLength", "format"} & schema.keys():
        raise ValueError(f"{place}: a string needs maxLength")
    if schema.get("type") == "array" and "maxItems" not in schema:
        raise ValueError(f"{place}: a list needs maxItems")


def _resolved(schema: Schema, definitions: dict[str, Schema], place: str) -> Schema:
    """`schema` with references, nullability and constants replaced; its own keywords win."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        if "enum" in target:
            target = _OPEN_WORD
        own = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
        return _resolved({**target, **own}, definitions, place)
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option != {"type": "null"}]
        if len(options) != 1:
            raise ValueError(
                f"{place}: a structural schema cannot choose between types: use one and optional members"
            )
        own = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
        return _resolved({**options[0], **own}, definitions, place)
    if "const" in schema:
        own = {keyword: value for keyword, value in schema.items() if keyword != "const"}
        return {**own, "enum": [schema["const"]]}
    return schema
