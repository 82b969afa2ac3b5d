"""Faults that no polite API offers: SIGKILL to a container's first process, and to the API server."""

import os
import subprocess
import time

from tests.e2e import kube

KILL = """
import os, signal, sys
uid = sys.argv[1]
for number in filter(str.isdigit, os.listdir("/proc")):
    try:
        cgroup = open(f"/proc/{number}/cgroup").read()
        command = open(f"/proc/{number}/cmdline").read().replace(chr(0), " ")
    except OSError:
        continue
    if (uid in cgroup or uid.replace("-", "_") in cgroup) and sys.argv[2] in command:
        os.kill(int(number), signal.SIGKILL)
        print("killed", number, command)
        break
else:
    sys.exit(f"no process with {sys.argv[2]} in pod {uid}")
"""


def killer(image):
    """A pod that sees every process of the node; it lives in a privileged namespace of its own."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "killer"},
        "spec": {
            "hostPID": True,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": 0},
            "containers": [
                {
                    "name": "killer",
                    "image": image.name,
                    "imagePullPolicy": image.pull_policy,
                    "command": ["python", "-c", "import signal; signal.pause()"],
                    "securityContext": {"privileged": True},
                }
            ],
        },
    }


def kill9(namespace, uid, command):
    """SIGKILL to the process of that pod whose command line has `command`."""
    return kube.kubectl("-n", namespace, "exec", "killer", "--", "python", "-c", KILL, uid, command)


def cluster(*verb):
    """The tool that can stop and start the cluster's parts: `cluster stop kube-apiserver --kill`."""
    tool = os.environ.get("STICKYROUTE_CLUSTER")
    assert tool, (
        "STICKYROUTE_CLUSTER is not set: name a command that takes "
        "`stop kube-apiserver --kill` and `start kube-apiserver`"
    )
    subprocess.run([tool, *verb], check=True, timeout=120)


def api_away(seconds):
    """Kills the API server and, that many seconds later, starts it again and waits until it answers."""
    cluster("stop", "kube-apiserver", "--kill")
    time.sleep(seconds)
    cluster("start", "kube-apiserver")
    kube.until(
        "the API server answers", lambda: kube.kubectl("get", "--raw", "/readyz", timeout=5) == "ok", 90
    )
