"""A snapshot from JSON, read piece by piece: the whole at once would hold the event loop while it takes.

Routes and endpoints that are as in the snapshot that is held stay the same objects: to see so is cheap then.
"""

from contextlib import suppress
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from stickyroute_api.snapshot import Endpoint, Route, Snapshot
from stickyroute_proxy.slices import Steps

_PIECES: Final[dict[str, TypeAdapter[Any]]] = {
    "routes": TypeAdapter(Route),
    "endpoints": TypeAdapter(tuple[Endpoint, ...]),
}


def decoded(body: bytes, held: Snapshot | None) -> Steps[Snapshot]:
    """The snapshot. Raises ValidationError, worded for the JSON as it was."""
    given: Any = None
    with suppress(ValueError):
        given = from_json(body)
    yield
    if isinstance(given, dict):
        for name, adapter in _PIECES.items():
            pieces = given.get(name)
            if not isinstance(pieces, dict):
                continue
            known = {} if held is None else getattr(held, name)
            for key, piece in pieces.items():
                with suppress(ValidationError):  # found again, with its place, in the whole
                    made = adapter.validate_python(piece)
                    old = known.get(key)
                    pieces[key] = old if made == old else made
                yield
        with suppress(ValidationError):
            return Snapshot.model_validate(given)
    return Snapshot.model_validate_json(body)
