"""Short forms of the objects that the operator's tests are about."""

from stickyroute_api.snapshot import TokenKeys
from stickyroute_operator.objects import EndpointSlice, RouteObject, Service
from stickyroute_operator.pods import Pod
from stickyroute_operator.translate import State

KEYS = TokenKeys(sealing=1, keys={1: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="})


def route(name="shop", namespace="default", created=1000.0, **spec):
    spec.setdefault("className", "stickyroute")
    spec.setdefault("rules", [rule()])
    return RouteObject(
        namespace=namespace, name=name, uid=f"uid-{name}", generation=1, created=created, spec=spec
    )


def rule(name="app", service="web", port=80, path="/", **more):
    matches = [{"path": {"value": path}}]
    return {"name": name, "matches": matches, "backends": [{"service": service, "port": port}], **more}


def service(name="web", namespace="default", *, port=80, port_name="", kind="ClusterIP", app_protocol=None):
    entry = {"name": port_name, "port": port, "appProtocol": app_protocol}
    return Service.from_manifest(
        {
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"type": kind, "ports": [entry]},
        }
    )


def endpoint(pod, address, **conditions):
    return {
        "addresses": [address],
        "conditions": conditions,
        "targetRef": {"kind": "Pod", "name": pod, "uid": f"uid-{pod}"},
    }


def pieces(*endpoints, name="web-1", of="web", namespace="default", port=8080, port_name=""):
    return EndpointSlice.from_manifest(
        {
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": of},
            },
            "addressType": "IPv4",
            "endpoints": list(endpoints),
            "ports": [{"name": port_name, "port": port}],
        }
    )


def pod(name, namespace="default", **more):
    """The pod that `endpoint` of that name names."""
    return Pod(namespace, name, **{"uid": f"uid-{name}"} | more)


def state(*objects, **more):
    kinds = {RouteObject: {}, Service: {}, EndpointSlice: {}, Pod: {}}
    for item in objects:
        kinds[type(item)][item.key] = item
    return State(
        **{
            "fleet": "stickyroute",
            "keys": KEYS,
            "routes": kinds[RouteObject],
            "services": kinds[Service],
            "slices": kinds[EndpointSlice],
            "pods": kinds[Pod],
        }
        | more
    )
