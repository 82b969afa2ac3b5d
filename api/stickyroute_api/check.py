"""Rules that a schema cannot say, each stated twice, side by side: CEL for the API server, Python for us.

A `Check` sits on a model (in `checks`) or on a value's type (in `Annotated`); the CRD takes its CEL,
validation its predicate. Tests hold the two to the same verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

ERROR_TYPE = "checks"
"""The pydantic error type of broken checks; its context holds `problems`: (relative path, message) pairs."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule. Its message names the field and says what to do."""

    name: str
    """Unique among all checks; also the name of its bad sample in the end-to-end tests."""
    cel: str
    holds: Callable[[Any], bool]
    message: str
    field: str = ""
    """The member to blame, by its YAML path below the value; empty: the value itself."""
    reason: Literal["FieldValueInvalid", "FieldValueRequired", "FieldValueForbidden"] = "FieldValueInvalid"

    def as_schema(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": self.message, "reason": self.reason}
        if self.field:
            entry["fieldPath"] = f".{self.field}"
        return entry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._verified, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        result = handler(schema)
        result.setdefault("x-kubernetes-validations", []).append(self.as_schema())
        return result

    def _verified(self, value: Any) -> Any:
        refuse(() if self.holds(value) else ((self.field, self.message),))
        return value


@dataclass(frozen=True, slots=True)
class Unique:
    """A list without equal items: a Kubernetes set or, with `key`, a map by that member of its items."""

    key: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._verified, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        result = handler(schema)
        result["x-kubernetes-list-type"] = "map" if self.key else "set"
        if self.key:
            result["x-kubernetes-list-map-keys"] = [self.key]
        return result

    def _verified(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: dict[Any, int] = {}
        problems = []
        for index, item in enumerate(items):
            value = getattr(item, self.key) if self.key else item
            first = seen.setdefault(value, index)
            if first != index:
                path = f"[{index}].{self.key}" if self.key else f"[{index}]"
                problems.append(
                    (path, f"must be unique, but [{first}] is {value!r} too: remove or rename one")
                )
        refuse(problems)
        return items


def refuse(problems: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> None:
    """Raise the given (relative path, message) pairs as one pydantic error; nothing if there are none."""
    if problems:
        text = "; ".join(message for _, message in problems).replace("{", "{{").replace("}", "}}")
        raise PydanticCustomError(ERROR_TYPE, text, {"problems": list(problems)})


class Model(BaseModel):
    """A part of the spec: camelCase outside, unknown fields refused, docstrings for `kubectl explain`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    checks: ClassVar[tuple[Check, ...]] = ()

    @model_validator(mode="after")
    def _verified(self) -> Self:
        refuse([(check.field, check.message) for check in self.checks if not check.holds(self)])
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        result = handler(schema)
        if cls.checks:
            target = handler.resolve_ref_schema(result)
            target["x-kubernetes-validations"] = [check.as_schema() for check in cls.checks]
        return result

    def given(self, field: str) -> bool:
        """Whether the object itself names the field, as CEL's `has()` sees it for a field without default."""
        return field in self.model_fields_set
