"""The parts of Kubernetes objects that are read here, as an API server would insist on them.

A cluster's API server refuses what is wrongly shaped before anybody sees it; for files that is done here.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Port = Annotated[int, Field(ge=1, le=65535)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel)


class Metadata(_Shape):
    name: str
    namespace: str | None = None
    uid: str | None = None
    generation: int | None = None
    labels: dict[str, str] | None = None
    creation_timestamp: Annotated[str, AfterValidator(_time)] | None = None
    deletion_timestamp: Annotated[str, AfterValidator(_time)] | None = None
    deletion_grace_period_seconds: int | None = None


class RouteShape(_Shape):
    """A StickyRoute's frame; its spec is judged on its own."""

    metadata: Metadata


class ServicePort(_Shape):
    name: str | None = None
    port: Port
    protocol: str | None = None
    app_protocol: str | None = None


class ServiceSpec(_Shape):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] | None = None
    ports: list[ServicePort] | None = None


class ServiceShape(_Shape):
    metadata: Metadata
    spec: ServiceSpec | None = None


class Conditions(_Shape):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(_Shape):
    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class SliceEndpoint(_Shape):
    addresses: Annotated[list[str], Field(min_length=1, max_length=100)]
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None
    node_name: str | None = None
    zone: str | None = None


class SlicePort(_Shape):
    name: str | None = None
    port: Port | None = None


class SliceShape(_Shape):
    metadata: Metadata
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    ports: list[SlicePort] | None = None
    endpoints: list[SliceEndpoint] | None = None


class OwnerReference(_Shape):
    kind: str
    name: str
    controller: bool | None = None


class PodMetadata(Metadata):
    owner_references: list[OwnerReference] | None = None


class PodSpec(_Shape):
    termination_grace_period_seconds: int | None = None


class Running(_Shape):
    started_at: Annotated[str, AfterValidator(_time)] | None = None


class ContainerState(_Shape):
    running: Running | None = None


class ContainerStatus(_Shape):
    restart_count: int | None = None
    state: ContainerState | None = None


class PodStatus(_Shape):
    phase: str | None = None
    container_statuses: list[ContainerStatus] | None = None


class PodShape(_Shape):
    metadata: PodMetadata
    spec: PodSpec | None = None
    status: PodStatus | None = None


def trouble(shape: type[BaseModel], body: dict[str, Any]) -> str:
    """What in an object has not its shape, field by field; empty when all has."""
    try:
        shape.model_validate(body)
    except ValidationError as error:
        return "; ".join(
            f"{_path(one['loc'])}: {_words(one['type'], one['msg'])}"
            for one in error.errors(include_url=False)
        )
    return ""


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _words(kind: str, default: str) -> str:
    if kind == "missing":
        return "is missing: add it"
    if kind == "string_type":
        return "must be text: put it in quotes"
    return default.replace("Input should be", "must be").replace("Value error, ", "").lower()
