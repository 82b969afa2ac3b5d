"""The control channel: the paths, answers and roles that both of its ends name.

Each proxy serves it with mutual TLS. A certificate of the fleet's CA carries one URI that says which fleet it
belongs to and in which role; host names play no part.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from stickyroute_api.snapshot import FORMAT, Version

SNAPSHOT_PATH: Final = "/v1/snapshot"
"""PUT a whole `Snapshot`, PATCH a `Delta`, GET the snapshot in use."""
VERSION_PATH: Final = "/v1/version"
"""GET what the proxy holds: `Held`."""
AFFINITY_PATH: Final = "/v1/affinity"
"""GET sessions and moves: `AffinityReport`."""
LEASES_PATH: Final = "/v1/leases"
"""PUT `Leases`: what the proxy may do of what only the fleet as a whole can know."""

MAX_SNAPSHOT_BYTES: Final = 64 * 1024 * 1024
"""The largest body that a proxy takes; more is answered with 413."""


class Role(StrEnum):
    """What the holder of a certificate may do."""

    OPERATOR = "operator"
    """Push snapshots, read everything."""
    PROXY = "proxy"
    """Serve the control port; read version and snapshot of a sibling."""


def role_uri(fleet: str, role: Role) -> str:
    """The URI that a certificate of this fleet carries as subject alternative name."""
    return f"spiffe://stickyroute.dev/fleet/{fleet}/role/{role}"


def roles(certificate: Mapping[str, Any] | None, fleet: str) -> frozenset[Role]:
    """The roles of a verified peer in this fleet; `certificate` is what `ssl`'s `getpeercert()` returns."""
    names = (certificate or {}).get("subjectAltName", ())
    uris = {value for kind, value in names if kind == "URI"}
    return frozenset(role for role in Role if role_uri(fleet, role) in uris)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Numbered(_Answer):
    epoch: int | None = None
    revision: int | None = None
    """Both None: no snapshot yet."""

    @property
    def held(self) -> Version | None:
        """The version of the snapshot in use."""
        if self.epoch is None or self.revision is None:
            return None
        return Version(self.epoch, self.revision)


class Held(_Numbered):
    """What a proxy holds: the answer of `GET /v1/version` and of a push that was applied."""

    format: int = FORMAT
    proxy: str
    """The pod's name."""
    fleet: str
    version: str
    """The product's version, for people."""


class Refusal(_Numbered):
    """The body of 403, 404, 409, 412, 413, 422 and 503: why, and what the proxy holds."""

    error: str
