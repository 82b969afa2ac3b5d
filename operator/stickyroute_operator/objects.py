"""The Kubernetes objects that the operator follows, as small frozen values.

Only what routing needs is kept: whole objects with their managedFields would be most of the operator's
memory. Two manifests that mean the same here are equal, so that a change elsewhere in an object is none.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from stickyroute_api.spec import API_VERSION, KIND

SERVICE_LABEL = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its Service."""

MAX_NAME = 253
"""The longest name of an object."""

_PORTS = range(1, 65536)

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
        meta = metadata(manifest)
        status = manifest.get("status")
        return cls(
            namespace=meta.get("namespace") or "default",
            name=meta["name"],
            uid=str(meta.get("uid") or ""),
            generation=int(meta.get("generation") or 0),
            created=seconds(meta.get("creationTimestamp")),
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
        meta = metadata(manifest)
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
    """Names and numbers; entries without one that a port can have are left out."""

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """Reads a manifest; ValueError when it has no name or a port is not a number."""
        meta = metadata(manifest)
        return cls(
            namespace=meta.get("namespace") or "default",
            name=meta["name"],
            service=(meta.get("labels") or {}).get(SERVICE_LABEL) or "",
            address_type=manifest.get("addressType") or "IPv4",
            endpoints=tuple(_endpoint(entry) for entry in manifest.get("endpoints") or ()),
            ports=tuple((name, number) for name, number in _ports(manifest) if number in _PORTS),
        )


def _ports(manifest: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """A slice's; the API server asks for no number, and looks at none."""
    for index, port in enumerate(manifest.get("ports") or ()):
        if port.get("port") is not None:
            yield port.get("name") or "", _number(port["port"], manifest, f"ports[{index}].port")


class Reference(NamedTuple):
    """A Secret or ConfigMap that a route names."""

    kind: Literal["Secret", "ConfigMap"]
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


TLS_TYPE = "kubernetes.io/tls"
"""The type of the Secrets that a route may name."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Only of type kubernetes.io/tls is more kept than the type. Text that is none stays empty."""

    type: str
    chain: str = ""
    """`tls.crt`, PEM."""
    key: str = field(default="", repr=False)
    """`tls.key`, PEM."""
    ca: str = ""
    """`ca.crt`, PEM."""


@dataclass(frozen=True, slots=True)
class ConfigMap:
    ca: str = ""
    """`ca.crt`, PEM."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A named object that there is not, or that cannot be had."""

    why: str
    """What is so and what to do, to follow on the object's name."""


ABSENT = Missing("does not exist; create it, or correct the name")

Referent = Secret | ConfigMap | Missing
"""What a reference leads to."""


def referent(kind: str, manifest: Mapping[str, Any]) -> Secret | ConfigMap:
    """Reads the manifest of a Secret or ConfigMap, `stringData` included; of what is malformed nothing."""
    data = manifest.get("data")
    fields: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    if kind == "ConfigMap":
        return ConfigMap(ca=_text(fields.get("ca.crt")))
    form = str(manifest.get("type") or "Opaque")
    if form != TLS_TYPE:
        return Secret(type=form)
    plain = manifest.get("stringData")
    texts = {name: _decoded(value) for name, value in fields.items()}
    texts |= {name: _text(value) for name, value in (plain if isinstance(plain, Mapping) else {}).items()}
    chain, key, ca = (texts.get(name, "") for name in ("tls.crt", "tls.key", "ca.crt"))
    return Secret(type=form, chain=chain, key=key, ca=ca)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _decoded(value: Any) -> str:
    try:
        return base64.b64decode("".join(_text(value).split()), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


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
        uid=_named(target.get("uid")) if is_pod else "",
        pod=_named(target.get("name")) if is_pod else "",
        node=entry.get("nodeName") or "",
        zone=entry.get("zone") or "",
    )


def _named(value: Any) -> str:
    """A pod's name or UID; the API server looks at neither in a slice, so what no pod can have is none."""
    return value if isinstance(value, str) and len(value) <= MAX_NAME else ""


def metadata(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest's metadata; ValueError when it has no name."""
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


def seconds(value: Any) -> float:
    """A time as Unix seconds; 0: there is none. ValueError when it is malformed."""
    if value is None:
        return 0.0
    # YAML readers turn an unquoted timestamp into a datetime.
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.timestamp()
