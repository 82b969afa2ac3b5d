"""Pods, as far as routing needs them: their age, their end, and whose they are.

A cluster has tens of thousands, so the value is small, and what many pods share is held once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, Self

from stickyroute_operator.objects import Key, metadata, seconds

GRACE = 30.0
"""Seconds from a pod's deletion to its kill where its spec does not say (Kubernetes' default)."""

_REVISIONS = ("pod-template-hash", "rollouts-pod-template-hash", "controller-revision-hash")
"""The labels by which controllers tell the versions of their pods."""


@dataclass(frozen=True, slots=True)
class Pod:
    """Times are Unix seconds."""

    namespace: str
    name: str
    uid: str
    started: float = 0.0
    """When the youngest of its running containers began to run; 0: none runs."""
    restarts: int = 0
    """Of all its containers together."""
    deleted: float = 0.0
    """When it was told to end; 0: it was not."""
    ended: bool = False
    """All its containers have ended for good."""
    grace: float = GRACE
    """Seconds from its deletion to its kill."""
    owner: str = ""
    """Kind and name of what made it, such as `Deployment/web`; empty: it stands alone."""
    revision: str = ""
    """What tells its version from its owner's others; empty: nothing does."""
    addresses: tuple[str, ...] = ()
    """Its own now, which another may have had before; empty: none is known."""

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def lives(self) -> bool:
        """Whether it has not been told to end, nor ended."""
        return not self.deleted and not self.ended

    @property
    def stable(self) -> str:
        """What a StatefulSet's pod leaves to its successor: `namespace/name`; empty for other pods."""
        return f"{self.namespace}/{self.name}" if self.owner.startswith("StatefulSet/") else ""

    @property
    def cohort(self) -> str:
        """What pods of one version share, and no others do; empty where it is not known.

        One template has one hash in every namespace, so that the namespace is part of it.
        """
        known = self.owner and self.revision
        return f"{self.namespace}/{self.owner}/{self.revision}" if known else ""

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """Reads a manifest; ValueError when it has no name or a malformed time."""
        meta = metadata(manifest)
        spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
        containers = status.get("containerStatuses") or ()
        labels = meta.get("labels") or {}
        revision = next((labels[label] for label in _REVISIONS if labels.get(label)), "")
        grace = spec.get("terminationGracePeriodSeconds")
        return cls(
            namespace=intern(meta.get("namespace") or "default"),
            name=meta["name"],
            uid=str(meta.get("uid") or ""),
            started=max(_starts(containers), default=0.0),
            restarts=sum(int(one.get("restartCount") or 0) for one in containers),
            deleted=_deleted(meta, grace),
            ended=status.get("phase") in {"Succeeded", "Failed"},
            grace=GRACE if grace is None else float(grace),
            owner=intern(_owner(meta, revision)),
            revision=intern(revision),
            addresses=_addresses(status),
        )


def _addresses(status: Mapping[str, Any]) -> tuple[str, ...]:
    """One of each family; the first is `podIP` too."""
    given = [one.get("ip") for one in status.get("podIPs") or ()] or [status.get("podIP")]
    return tuple(str(one) for one in given if one)


def _starts(containers: Any) -> Iterator[float]:
    for container in containers:
        running = (container.get("state") or {}).get("running")
        if running:
            yield seconds(running.get("startedAt"))


def _deleted(meta: Mapping[str, Any], grace: Any) -> float:
    """`deletionTimestamp` is when the pod is to be gone: its grace period after it was deleted."""
    gone = seconds(meta.get("deletionTimestamp"))
    given = meta.get("deletionGracePeriodSeconds", grace)
    # With very long grace periods Kubernetes' own sum overflows: whatever comes of it, it was deleted.
    return max(1.0, gone - (GRACE if given is None else float(given))) if gone else 0.0


def _owner(meta: Mapping[str, Any], revision: str) -> str:
    """A ReplicaSet of a Deployment bears the Deployment's name and the hash of its template."""
    owners = meta.get("ownerReferences") or ()
    owner = next((one for one in owners if one.get("controller")), None)
    if owner is None:
        return ""
    kind, name = str(owner.get("kind") or ""), str(owner.get("name") or "")
    if kind == "ReplicaSet" and revision and name.endswith(f"-{revision}"):
        return f"Deployment/{name.removesuffix(f'-{revision}')}"
    return f"{kind}/{name}"
