"""The few calls that the operator itself makes to the Kubernetes API.

Objects go in and out as plain dictionaries: what is listed is turned into small values at once, and typed
models would be most of the operator's memory. The official client makes the requests: it knows how to log in.
"""

import asyncio
import base64
import json
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import aiohttp
from kubernetes.aio import client, config

from stickyroute_api.spec import GROUP, PLURAL, VERSION
from stickyroute_operator.complaint import words

logger = logging.getLogger(__name__)

PAGE = 500
"""Objects in one answer to a LIST."""
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"

CONFLICT, NOT_FOUND = 409, 404

T = TypeVar("T")


class ApiError(Exception):
    """A request that the API server did not grant, or that did not reach it."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status; 0: no answer."""


class Resource(NamedTuple):
    """A kind of object in the API."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, name, part]
        return "/" + "/".join(quote(piece, safe="") for piece in parts if piece)


ROUTES = Resource(GROUP, VERSION, PLURAL)
SERVICES = Resource("", "v1", "services")
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
PODS = Resource("", "v1", "pods")
SECRETS = Resource("", "v1", "secrets")
CONFIG_MAPS = Resource("", "v1", "configmaps")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
EVENTS = Resource("", "v1", "events")


class Cluster:
    """A connection to the API server. Every method raises ApiError."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> "Cluster":
        """With the pod's service account, else with what KUBECONFIG names. ApiError when there is neither."""
        configuration = client.Configuration()
        try:
            file = os.environ.get("KUBECONFIG")
            if os.environ.get("KUBERNETES_SERVICE_HOST") and not file:
                config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(file, client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError, ValueError) as error:
            raise ApiError(
                f"no access to a cluster: {error}; run in a pod, or let KUBECONFIG name a kubeconfig"
            ) from None
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def list_all(
        self, resource: Resource, *, namespace: str = "", selector: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """All objects, by pages, and the list's resourceVersion."""
        items: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": PAGE}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self.request("GET", resource.path(namespace), query=query)
            items.extend(page.get("items") or ())
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return items, str(meta.get("resourceVersion") or "")
            query["continue"] = meta["continue"]

    async def read(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        return await self.request("GET", resource.path(namespace, name))

    async def replace(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """A PUT; with the manifest's resourceVersion it fails with 409 when the object has changed."""
        meta = manifest["metadata"]
        return await self.request("PUT", resource.path(meta["namespace"], meta["name"]), body=manifest)

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        return await self.request("POST", resource.path(manifest["metadata"]["namespace"]), body=manifest)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, part: str = ""
    ) -> dict[str, Any]:
        """A merge patch of the object, or of a subresource."""
        path = resource.path(namespace, name, part)
        return await self.request("PATCH", path, body=body, content=MERGE_PATCH)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = JSON,
    ) -> dict[str, Any]:
        """One request, one JSON answer. Never retried here: the callers know what is still wanted then."""
        try:
            verb, url, headers, payload, _ = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": JSON, "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._api.call_api(verb, url, headers, payload, _request_timeout=TIMEOUT)
            text: bytes = await answer.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(f"{method} {path}: {words(error)}") from error
        if answer.status >= 300:
            raise ApiError(f"{method} {path}: {answer.status} {_message(text)}", answer.status)
        try:
            parsed: dict[str, Any] = json.loads(text)
        except ValueError:
            raise ApiError(f"{method} {path}: the answer is not JSON") from None
        return parsed


class Secrets:
    """Named Secrets of one namespace; no others are ever asked for."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    async def read(self, name: str) -> dict[str, bytes]:
        """The Secret's content. ApiError when it does not exist: the chart creates it."""
        return (await self.look(name)).data

    async def look(self, name: str) -> "HeldSecret":
        """The Secret's content, annotations and version. ApiError as with `read`."""
        found = await self._cluster.read(SECRETS, self._namespace, name)
        try:
            data = {
                field: base64.b64decode(value, validate=True)
                for field, value in (found.get("data") or {}).items()
            }
        except ValueError:
            raise ApiError(f"Secret {self._namespace}/{name}: its data is not base64") from None
        meta = found["metadata"]
        return HeldSecret(data, meta.get("annotations") or {}, str(meta.get("resourceVersion") or ""))

    async def write(self, name: str, data: Mapping[str, bytes]) -> None:
        """Sets these fields and leaves all others."""
        await self._cluster.patch(SECRETS, self._namespace, name, {"data": _encoded(data)})

    async def change(
        self, name: str, version: str, data: Mapping[str, bytes], without: Collection[str] = ()
    ) -> None:
        """As `write`, but only of the version that was read; removes these annotations too.

        ApiError with status CONFLICT when the Secret has changed since.
        """
        meta = {"resourceVersion": version, "annotations": dict.fromkeys(without)}
        await self._cluster.patch(SECRETS, self._namespace, name, {"metadata": meta, "data": _encoded(data)})


class HeldSecret(NamedTuple):
    """A Secret as it was read."""

    data: dict[str, bytes]
    annotations: Mapping[str, str]
    version: str


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {field: base64.b64encode(value).decode("ascii") for field, value in data.items()}


def _message(text: bytes) -> str:
    """What the API server says of a refusal."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].decode(errors="replace")


async def until_granted(what: str, attempt: Callable[[], Awaitable[T]], pause: float = 1.0) -> T:
    """The result of `attempt()`, tried until the API server grants it; each new cause is logged once."""
    told = ""
    while True:
        try:
            return await attempt()
        except ApiError as error:
            if str(error) != told:
                told = str(error)
                logger.warning("%s: %s; trying again", what, error)
        await asyncio.sleep(pause)
