"""kubectl and helm, as a user has them."""

import asyncio
import json
import subprocess
import time


def run(*args, text=None, timeout=180, check=True):
    """A command's standard output; AssertionError with its error text when it fails."""
    done = subprocess.run(
        [str(arg) for arg in args], input=text, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, args))}: {done.stdout}{done.stderr}")
    return done.stdout if check else done


def kubectl(*args, **options):
    return run("kubectl", *args, **options)


def helm(*args, **options):
    return run("helm", *args, **options)


async def off(function, *args, **options):
    """Runs a blocking helper beside the load."""
    return await asyncio.to_thread(function, *args, **options)


def get(*args):
    return json.loads(kubectl("get", *args, "-o", "json"))


def apply(namespace, *manifests):
    listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    return kubectl("-n", namespace, "apply", "-f", "-", text=json.dumps(listed))


def try_apply(namespace, manifest):
    """What `kubectl apply` answers: (accepted, text)."""
    done = kubectl("-n", namespace, "apply", "-f", "-", text=json.dumps(manifest), check=False)
    return done.returncode == 0, done.stdout + done.stderr


def until(what, ready, timeout=60, pause=0.2):
    """Waits for a true value and returns it; AssertionError with the last one when that never comes."""
    end = time.monotonic() + timeout
    while True:
        try:
            if value := ready():
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}; last seen: {last!r}")
        time.sleep(pause)


def pods(namespace, selector):
    """Running pods by name that are not on their way out."""
    items = get("-n", namespace, "pods", "-l", selector)["items"]
    return {pod["metadata"]["name"]: pod for pod in items if "deletionTimestamp" not in pod["metadata"]}


def is_ready(pod):
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def rollout(namespace, name, timeout=120):
    kubectl(
        "-n",
        namespace,
        "rollout",
        "status",
        f"deployment/{name}",
        f"--timeout={timeout}s",
        timeout=timeout + 10,
    )


def condition(namespace, route, kind):
    """A route's condition, if it speaks of the present generation."""
    found = get("-n", namespace, "stickyroute", route)
    for one in found.get("status", {}).get("conditions", []):
        if one["type"] == kind and one["observedGeneration"] == found["metadata"]["generation"]:
            return one
    return None


def wait_ready(namespace, route, timeout=30):
    def ready():
        found = condition(namespace, route, "Ready")
        return found if found and found["status"] == "True" else None

    return until(f"StickyRoute {namespace}/{route} Ready", ready, timeout)


def run_json(*args):
    return json.loads(run(*args))
