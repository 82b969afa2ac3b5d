"""A StickyRoute manifest into its model, or problems that name the object, the field and the remedy."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stickyroute_api import wording
from stickyroute_api.check import ERROR_TYPE
from stickyroute_api.problem import InvalidObject, Problem
from stickyroute_api.spec import API_VERSION, KIND, StickyRoute, StickyRouteSpec
from stickyroute_api.support import unsupported

__all__ = ["InvalidObject", "Problem", "parse_route", "unsupported"]

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")


def parse_route(manifest: Mapping[Any, Any]) -> StickyRoute:
    """The StickyRoute of a manifest, as YAML or the API server gives it; InvalidObject tells what is wrong.

    Holds what the CRD's schema and rules hold. An explicit null counts as absent.
    """
    name = _object_name(manifest)
    try:
        text = json.dumps(_without_nulls(manifest), default=_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidObject(
            [Problem("", f"holds what Kubernetes cannot: {error}: correct it", name)]
        ) from None
    problems = list(_top_problems(json.loads(text)))
    if not problems:
        try:
            return StickyRoute.model_validate_json(text, strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            problems.extend(found_in(error, StickyRoute, StickyRouteSpec, "spec"))
    raise InvalidObject([replace(problem, object=name) for problem in problems])


def _top_problems(data: dict[str, Any]) -> Iterator[Problem]:
    if data.get("apiVersion") != API_VERSION:
        yield Problem("apiVersion", f"must be {API_VERSION} (is {wording.shown(data.get('apiVersion'))})")
    if data.get("kind") != KIND:
        yield Problem("kind", f"must be {KIND} (is {wording.shown(data.get('kind'))})")
    for key in data:
        if key not in _TOP:
            yield Problem(key, wording.unknown(key, _TOP, wording.homes(StickyRouteSpec, "spec", key)))


def found_in(
    error: ValidationError, root: type[BaseModel], part: type[BaseModel], path: str
) -> Iterator[Problem]:
    """What a failed validation says to people; a misplaced field's home is sought in `part`, at `path`."""
    for details in error.errors(include_url=False):
        yield from _problems(details, root, part, path)


def _problems(
    error: ErrorDetails, root: type[BaseModel], part: type[BaseModel], below_part: str
) -> Iterator[Problem]:
    location = error["loc"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if error["type"] == ERROR_TYPE:
        for below, message in error["ctx"]["problems"]:
            yield Problem(path + (f".{below}" if below and not below.startswith("[") else below), message)
    elif error["type"] == "extra_forbidden":
        *parents, name = location
        known = wording.fields_at(root, parents)
        homes = wording.homes(part, below_part, str(name))
        yield Problem(path, wording.unknown(str(name), known, homes))
    elif not (error["type"] == "too_short" and error["input"]):  # else its items have problems of their own
        yield Problem(path, wording.message(error))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value


def _plain(value: Any) -> str:
    """YAML readers make dates of what Kubernetes keeps as text."""
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__}")


def _object_name(manifest: Mapping[Any, Any]) -> str:
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping) or not metadata.get("name"):
        return KIND
    return f"{KIND} {metadata.get('namespace') or 'default'}/{metadata['name']}"
