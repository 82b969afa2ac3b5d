"""Whether objects of a folder are what an API server would have let in; else what to do about it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from stickyroute_api.problem import InvalidObject
from stickyroute_api.validate import parse_route
from stickyroute_cli.manifests import Check, Manifest, check_secret
from stickyroute_operator.objects import EndpointSlice, RouteObject, Service


def check_route(body: dict[str, Any]) -> str:
    if trouble := _read_route(body):
        return trouble
    try:
        parse_route(body)
    except InvalidObject as error:
        return "; ".join(
            f"{problem.field}: {problem.message}".removeprefix(": ") for problem in error.problems
        )
    return ""


def judged(manifest: Manifest) -> bool:
    """Whether a bad object has a status that can say so: a StickyRoute with metadata that can be read."""
    return manifest.key.kind == "StickyRoute" and not _read_route(manifest.body)


def _reads(kind: str, read: Callable[[Mapping[str, Any]], object]) -> Check:
    def check(body: dict[str, Any]) -> str:
        try:
            read(body)
        except ValueError as error:
            name = body["metadata"]["name"]
            return str(error).removeprefix(f"{kind} {name}: ")
        except (TypeError, AttributeError, KeyError):
            return (
                f"a field has the wrong shape: compare it with `kubectl explain {kind.lower()} --recursive`"
            )
        return ""

    return check


_read_route = _reads("StickyRoute", RouteObject.from_manifest)

CHECKS: Final[Mapping[str, Check]] = {
    "EndpointSlice": _reads("EndpointSlice", EndpointSlice.from_manifest),
    "Secret": check_secret,
    "Service": _reads("Service", Service.from_manifest),
    "StickyRoute": check_route,
}
"""By kind, for `manifests.Folder`."""
