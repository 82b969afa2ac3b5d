"""Runs an example here, without a cluster: python examples/local.py FOLDER.

Three processes of its application are the pods, `stickyroute serve` is the proxy, at http://localhost:8080.
A process that ends is a pod that is gone.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

PORTS = 8001, 8002, 8003


def main(folder):
    (path,) = folder.glob("*.yaml")
    objects = {one["kind"]: one for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))}
    objects["StickyRoute"]["spec"]["hosts"].append("localhost")
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        pods = {port: stack.enter_context(pod(folder, objects, port)) for port in PORTS}
        tell(Path(place), [objects["Service"], objects["StickyRoute"]], "example.json")
        alive = []
        serve = stack.enter_context(running(["stickyroute", "serve", place]))
        while serve.poll() is None:
            before, alive = alive, [port for port, process in pods.items() if process.poll() is None]
            if alive != before:
                tell(Path(place), [endpoint_slice(path.stem, port) for port in alive], "pods.json")
            time.sleep(0.2)


@contextlib.contextmanager
def pod(folder, objects, port):
    """What the Deployment's container runs once its packages are there."""
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    command = container["command"][-1].rpartition("exec ")[2].replace("8000", str(port)).split()
    name = f"{folder.name}-{port}"
    environment = {**os.environ, "PORT": str(port), "POD_NAME": name}
    with running(command, cwd=folder, env=environment) as process:
        print(f"{name} is process {process.pid}: end it to see what becomes of its sessions", flush=True)
        yield process


@contextlib.contextmanager
def running(command, **options):
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.terminate()


def endpoint_slice(service, port):
    name = f"{service}-{port}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": ["127.0.0.1"], "targetRef": {"kind": "Pod", "name": name, "uid": name}}],
    }


def tell(place, objects, name):
    """The whole file at once: it is read as soon as it changes."""
    new = place / f"{name}.new"
    new.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), encoding="utf-8")
    new.rename(place / name)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]))
