"""A small API server over HTTP: LIST, watch, create, patch, replace, with faults on demand."""

import asyncio
import itertools
import json
from contextlib import asynccontextmanager

from aiohttp import web

GROUPS = {
    "stickyroute.dev": (
        "v1alpha1",
        [("stickyroutes", "StickyRoute"), ("stickyroutes/status", "StickyRoute")],
    ),
    "discovery.k8s.io": ("v1", [("endpointslices", "EndpointSlice")]),
    "apiextensions.k8s.io": ("v1", [("customresourcedefinitions", "CustomResourceDefinition")]),
    "coordination.k8s.io": ("v1", [("leases", "Lease")]),
}
CLUSTER = [("namespaces", "Namespace"), ("customresourcedefinitions", "CustomResourceDefinition")]
CORE = [
    ("namespaces", "Namespace"),
    ("services", "Service"),
    ("pods", "Pod"),
    ("secrets", "Secret"),
    ("configmaps", "ConfigMap"),
    ("events", "Event"),
]


class FakeApi:
    """Objects by (plural, namespace, name). Everything a client did is in `requests`."""

    def __init__(self):
        self.objects = {}
        self.version = 0
        self.uids = itertools.count(1)
        self.watchers = {}
        self.requests = []
        self.faults = {}
        """By (method, plural): the status to answer with."""
        self.silent = False
        """Watches say nothing."""
        self.gone = False
        """Watches are told 410 at once, and what was deleted meanwhile is told by nobody."""
        self.page = 500
        self.runner = None
        self.port = 0

    async def start(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self):
        await self.runner.cleanup()

    def kubeconfig(self, path):
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "it",
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                    "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "it", "user": {"token": "t"}}],
                }
            )
        )
        return path

    def put(self, plural, manifest, *, tell=True):
        """Stores an object as a user's `kubectl apply` would; `tell` False: no watch shows it."""
        meta = manifest["metadata"]
        key = plural, meta.setdefault("namespace", "default"), meta["name"]
        known = self.objects.get(key)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        meta.setdefault("uid", known["metadata"]["uid"] if known else f"uid-{next(self.uids)}")
        self.objects[key] = manifest
        if tell:
            self._tell(plural, "MODIFIED" if known else "ADDED", manifest)
        return manifest

    def remove(self, plural, name, namespace="default", *, tell=True):
        manifest = self.objects.pop((plural, namespace, name))
        self.version += 1
        manifest = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        if tell:
            self._tell(plural, "DELETED", manifest)

    def get(self, plural, name, namespace="default"):
        return self.objects.get((plural, namespace, name))

    def _tell(self, plural, event, manifest):
        for queue in self.watchers.get(plural, ()):
            queue.put_nowait({"type": event, "object": manifest})

    async def _answer(self, request):  # noqa: C901 - a table of verbs
        parts = request.path.strip("/").split("/")
        if parts in (["api"], ["apis"], ["version"]) or (len(parts) in (2, 3) and parts[-1] in _versions()):
            return web.json_response(self._discovery(parts))
        rest = parts[3:] if parts[0] == "apis" else parts[2:]
        namespace = ""
        if rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        plural, name = rest[0], rest[1] if len(rest) > 1 else ""
        self.requests.append((request.method, plural, name, "/".join(rest[2:])))
        if status := self.faults.get((request.method, plural)):
            return web.json_response({"message": "a fault"}, status=status)
        if request.query.get("watch"):
            return await self._watch(request, plural)
        body = await request.json() if request.can_read_body else None
        match request.method:
            case "GET" if not name:
                return web.json_response(self._list(plural, namespace, request.query))
            case "GET":
                return self._one(plural, namespace, name)
            case "POST":
                name = body["metadata"]["name"]
                if (plural, namespace, name) in self.objects:
                    return web.json_response({"message": "already exists"}, status=409)
                return web.json_response(self.put(plural, body), status=201)
            case "PUT":
                known = self.get(plural, name, namespace)
                if known["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                    return web.json_response({"message": "changed"}, status=409)
                return web.json_response(self.put(plural, body))
            case "PATCH":
                known = self.get(plural, name, namespace)
                if known is None:
                    return web.json_response({"message": "not found"}, status=404)
                for field in ("uid", "resourceVersion"):
                    has = known["metadata"][field]
                    if (body.get("metadata") or {}).get(field, has) != has:
                        return web.json_response({"message": f"another {field}"}, status=409)
                return web.json_response(self.put(plural, _merged(known, body)))

    def _one(self, plural, namespace, name):
        found = self.get(plural, name, namespace)
        if found is None:
            return web.json_response({"message": f"{plural} {name} not found"}, status=404)
        return web.json_response(found)

    def _list(self, plural, namespace, query):
        found = [
            item
            for (kind, where, _), item in sorted(self.objects.items())
            if kind == plural and namespace in ("", where)
        ]
        start = int(query.get("continue") or 0)
        end = start + min(int(query.get("limit") or self.page), self.page)
        meta = {"resourceVersion": str(self.version)}
        if end < len(found):
            meta["continue"] = str(end)
        return {"kind": "List", "metadata": meta, "items": found[start:end]}

    async def _watch(self, request, plural):
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        if self.gone:
            error = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
            await stream.write(json.dumps(error).encode() + b"\n")
            return stream
        queue = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or 0)
        for (kind, _, _), item in self.objects.items():
            if kind == plural and int(item["metadata"]["resourceVersion"]) > since:
                queue.put_nowait({"type": "MODIFIED", "object": item})
        self.watchers.setdefault(plural, set()).add(queue)
        try:
            while True:
                event = await queue.get()
                if not self.silent:
                    await stream.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            return stream
        finally:
            self.watchers[plural].discard(queue)

    def _discovery(self, parts):
        if parts == ["version"]:
            return {"major": "1", "minor": "34"}
        if parts == ["api"]:
            return {"versions": ["v1"]}
        if parts == ["apis"]:
            return {
                "groups": [
                    {
                        "name": group,
                        "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                        "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version},
                    }
                    for group, (version, _) in GROUPS.items()
                ]
            }
        kinds = CORE if parts == ["api", "v1"] else GROUPS[parts[1]][1]
        return {
            "resources": [
                {
                    "name": name,
                    "kind": kind,
                    "singularName": kind.lower(),
                    "namespaced": (name, kind) not in CLUSTER,
                    "verbs": ["get", "list", "watch", "patch"],
                }
                for name, kind in kinds
            ]
        }


def _versions():
    return {"v1", "v1alpha1"}


def _merged(known, patch):
    if not isinstance(patch, dict):
        return patch
    merged = dict(known) if isinstance(known, dict) else {}
    for field, value in patch.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = _merged(merged.get(field), value)
    return merged


@asynccontextmanager
async def fake_api():
    api = FakeApi()
    await api.start()
    try:
        yield api
    finally:
        await api.stop()
