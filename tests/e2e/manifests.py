"""What the tests ask Kubernetes for."""

from pathlib import Path

LEDGER = "ledger"


def namespace(name, level="restricted"):
    labels = {"pod-security.kubernetes.io/enforce": level}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def code(name, *files):
    """A ConfigMap of scripts of this folder."""
    data = {file: (Path(__file__).parent / file).read_text() for file in files}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(image, name, *, script="backend.py", env=None, port=8000, account=None, tls="", **spec):
    """A pod template's inside: the script on the product's Python, meeting the restricted standard.

    `tls` names the Secret whose certificate it serves on port 8443.
    """
    env = {**(env or {}), **({"TLS": "/tls"} if tls else {})}
    variables = [{"name": key, "value": str(value)} for key, value in env.items()]
    container = {
        "name": "app",
        "image": image.name,
        "imagePullPolicy": image.pull_policy,
        "command": ["python", f"/code/{script}"],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PORT", "value": str(port)},
            *variables,
        ],
        "volumeMounts": [{"name": "code", "mountPath": "/code"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if script == "backend.py":
        first = int(str(port).split(",", maxsplit=1)[0])
        container["ports"] = [{"name": "http", "containerPort": first}]
        container["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": first}, "periodSeconds": 1}
    volumes = [{"name": "code", "configMap": {"name": name}}]
    if tls:
        volumes.append({"name": "tls", "secret": {"secretName": tls}})
        container["volumeMounts"].append({"name": "tls", "mountPath": "/tls"})
    return {
        "serviceAccountName": account or "default",
        "automountServiceAccountToken": account is not None,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
        **spec,
    }


def deployment(name, replicas, template):
    spec = {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
    return _workload("Deployment", name, replicas, template, spec)


def stateful_set(name, replicas, template):
    """Pods `name-0`, `name-1` …, all at once."""
    spec = {"serviceName": name, "podManagementPolicy": "Parallel"}
    return _workload("StatefulSet", name, replicas, template, spec)


def _workload(kind, name, replicas, template, spec):
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
            **spec,
        },
    }


def service(name, port=8000, *, selector=True, **spec):
    if selector:
        spec["selector"] = {"app": name}
    ports = [{"name": "http", "port": port, "targetPort": "http" if selector else port}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": ports, **spec},
    }


def secret(name, found, **more):
    """A Secret of tests.certificates as a manifest."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": found.type,
        "stringData": {"tls.crt": found.chain, "tls.key": found.key},
        **more,
    }


def application(image, name, replicas):
    """The application behind a Service, and its ledger."""
    return [
        code("code", "backend.py"),
        deployment(LEDGER, 1, pod(image, "code", env={"ROLE": "ledger"})),
        service(LEDGER),
        deployment(name, replicas, pod(image, "code", env={"LEDGER": LEDGER})),
        service(name),
    ]


def route(name, host, backends, **spec):
    """A StickyRoute with one rule. `backends` are Service names or whole entries."""
    entries = [{"service": entry, "port": "http"} if isinstance(entry, str) else entry for entry in backends]
    spec = {
        "hosts": [host],
        "rules": [{"name": "app", "backends": entries}],
        "persistence": {"type": "Cookie", "idleTimeout": "30m", "absoluteTimeout": "12h"},
        **spec,
    }
    return {
        "apiVersion": "stickyroute.dev/v1alpha1",
        "kind": "StickyRoute",
        "metadata": {"name": name},
        "spec": spec,
    }


def endpoint_slice(name, service_name, address, port, *, uid, pod_name):
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": pod_name, "uid": uid},
            }
        ],
    }
