"""What a rule changes in messages, resolved: header rules, rewrites, redirects. A part of the snapshot.

Names and meaning are those of HTTPRoute's filters (Gateway API).
"""

from typing import Literal

from pydantic import Field

from stickyroute_api.part import Part


class HeaderChanges(Part):
    """Applied in this order: remove, set, add. Names are compared without regard to case."""

    set: tuple[tuple[str, str], ...] = ()
    """(name, value): in the place of all fields of the name."""
    add: tuple[tuple[str, str], ...] = ()
    """(name, value): beside what is there."""
    remove: tuple[str, ...] = ()


class PathChange(Part):
    """How a path becomes another; the query stays."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    value: str
    """The path, or what stands in the place of the prefix that matched."""


class Rewrite(Part):
    """What the endpoint gets to see in the place of what the client asked for."""

    hostname: str = ""
    """Empty: the client's."""
    path: PathChange | None = None


class Redirect(Part):
    """The answer that sends the client elsewhere; what is not given stays as the client asked for it."""

    scheme: Literal["", "http", "https"] = ""
    hostname: str = ""
    port: int = Field(ge=0, le=65535, default=0)
    """0: the scheme's own when a scheme is given, else the port that the client asked at."""
    path: PathChange | None = None
    status: Literal[301, 302, 303, 307, 308] = 302


class Changes(Part):
    """All of one rule."""

    request_headers: HeaderChanges = HeaderChanges()
    response_headers: HeaderChanges = HeaderChanges()
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    """Given: nothing reaches an endpoint."""
