"""Whether objects of a folder are what an API server would have let in; else what to do about it."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from stickyroute_api.problem import InvalidObject
from stickyroute_api.validate import parse_route
from stickyroute_cli import shapes
from stickyroute_cli.manifests import Check, Manifest, check_config_map, check_secret


def check_route(body: dict[str, Any]) -> str:
    """What is wrong with a StickyRoute, field by field; empty when nothing is."""
    if trouble := shapes.trouble(shapes.RouteShape, body):
        return trouble
    try:
        parse_route(body)
    except InvalidObject as error:
        found = (f"{problem.field}: {problem.message}" for problem in error.problems)
        return "; ".join(problem.removeprefix(": ") for problem in found)
    return ""


def judged(manifest: Manifest) -> bool:
    """Whether a bad object has a status that can say so: a StickyRoute with metadata that can be read."""
    return manifest.key.kind == "StickyRoute" and not shapes.trouble(shapes.RouteShape, manifest.body)


CHECKS: Final[Mapping[str, Check]] = {
    "ConfigMap": check_config_map,
    "EndpointSlice": partial(shapes.trouble, shapes.SliceShape),
    "Pod": partial(shapes.trouble, shapes.PodShape),
    "Secret": check_secret,
    "Service": partial(shapes.trouble, shapes.ServiceShape),
    "StickyRoute": check_route,
}
"""By kind, for `manifests.Folder`."""
