"""The Kubernetes objects that the operator follows, as small frozen values.

Only what routing needs is kept: whole objects with their managedFields would be most of the operator's
memory. Two manifests that mean the same here are equal, so that a change elsewhere in an object is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from stickyroute_api.spec import API_VERSION, KIND

SERVICE_LABEL = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its Service."""

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class RouteObject:
    """A StickyRoute as the API server holds it: not yet validated, its status apart."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: float
    """Unix seconds; 0 where the manifest has no creationTimestamp."""
    spec: Any
    """The raw `spec`: whatever the manifest has there."""
    deleting: bool = False
    status: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """As last read. Not part of equality: our own status writes change nothing."""

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """Reads a manifest; ValueError when it has no name or a malformed time."""
        meta = _metadata(manifest)
        status = manifest.get("status")
        return cls(
            namespace=meta.get("namespace") or "default",
            name=meta["name"],
            uid=str(meta.get("uid") or ""),
            generation=int(meta.get("generation") or 0),
            created=_seconds(meta.get("creationTimestamp")),
            spec=manifest.get("spec"),
            deleting=bool(meta.get("deletionTimestamp")),
            status=status if isinstance(status, Mapping) else None,
        )

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest again, as validation reads it."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "generation": self.generation,
            },
            "spec": self.spec,
        }


@dataclass(frozen=True, slots=True)
class ServicePort:
    name: str
    """Empty for a Service's only port."""
    port: int
    protocol: str = "TCP"
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    namespace: str
    name: str
    type: str = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """Reads a manifest; ValueError when it has no name or a port is not a number."""
        meta = _metadata(manifest)
        spec = manifest.get("spec") or {}
        return cls(
            namespace=meta.get("namespace") or "default",
            name=meta["name"],
            type=spec.get("type") or "ClusterIP",
            ports=tuple(
                ServicePort(
                    name=port.get("name") or "",
                    port=_number(port.get("port"), manifest, f"spec.ports[{index}].port"),
                    protocol=port.get("protocol") or "TCP",
                    app_protocol=port.get("appProtocol") or "",
                )
                for index, port in enumerate(spec.get("ports") or ())
            ),
        )


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """One endpoint of a slice, its conditions resolved as Kubernetes says to read absent ones."""

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    uid: str = ""
    """The pod's UID; empty where no pod is named."""
    pod: str = ""
    node: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    namespace: str
    name: str
    service: str
    """The Service that it belongs to; empty: none."""
    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    """Names and numbers; entries without a number are left out."""

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """Reads a manifest; ValueError when it has no name or a port is not a number."""
        meta = _metadata(manifest)
        return cls(
            namespace=meta.get("namespace") or "default",
            name=meta["name"],
            service=(meta.get("labels") or {}).get(SERVICE_LABEL) or "",
            address_type=manifest.get("addressType") or "IPv4",
            endpoints=tuple(_endpoint(entry) for entry in manifest.get("endpoints") or ()),
            ports=tuple(
                (port.get("name") or "", _number(port["port"], manifest, f"ports[{index}].port"))
                for index, port in enumerate(manifest.get("ports") or ())
                if port.get("port") is not None
            ),
        )


def _endpoint(entry: Mapping[str, Any]) -> SliceEndpoint:
    conditions = entry.get("conditions") or {}
    target = entry.get("targetRef") or {}
    is_pod = target.get("kind") == "Pod"
    # An absent `ready` means ready, an absent `serving` means what `ready` says (discovery.k8s.io/v1).
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    return SliceEndpoint(
        addresses=tuple(entry.get("addresses") or ()),
        ready=ready,
        serving=ready if serving is None else bool(serving),
        terminating=bool(conditions.get("terminating")),
        uid=(target.get("uid") or "") if is_pod else "",
        pod=(target.get("name") or "") if is_pod else "",
        node=entry.get("nodeName") or "",
        zone=entry.get("zone") or "",
    )


def _metadata(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = manifest.get("metadata")
    if not isinstance(meta, Mapping) or not isinstance(meta.get("name"), str) or not meta["name"]:
        raise ValueError(f"{manifest.get('kind') or 'object'}: metadata.name is missing; give it a name")
    return meta


def _number(value: Any, manifest: Mapping[str, Any], where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        name = manifest["metadata"]["name"]
        # Bad content of a manifest, as all that is refused here.
        raise ValueError(  # noqa: TRY004
            f"{manifest.get('kind') or 'object'} {name}: {where}: {value!r} is not a port number"
        )
    return value


def _seconds(value: Any) -> float:
    if value is None:
        return 0.0
    # YAML readers turn an unquoted timestamp into a datetime.
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.timestamp()
