"""Waits until the API server serves the definition that the chart has brought: the demo's route comes next.

At most a minute. If it is not served then, Helm's own error tells more than one of this pod would.
"""

# ruff: noqa: INP001, T201 - a script in a pod
import http.client
import os
import ssl
import time
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GROUP = "stickyroute.dev"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
ASKED = {"/apis": f'"{GROUP}"', f"/apis/{GROUP}/v1alpha1": '"stickyroutes"'}
"""Discovery documents that Helm reads (any service account may), and what they have then."""
ENOUGH = 3
"""Times in a row: there may be several API servers."""


def served() -> bool:
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Accept": DISCOVERY}
    trust = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    for path, name in ASKED.items():
        connection = http.client.HTTPSConnection(host, port, timeout=5, context=trust)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200 or name not in answer.read().decode():
                return False
        finally:
            connection.close()
    return True


deadline, seen = time.monotonic() + 60, 0
while seen < ENOUGH and time.monotonic() < deadline:
    try:
        seen = seen + 1 if served() else 0
    except (OSError, http.client.HTTPException) as error:
        print(f"the API server does not answer: {error}", flush=True)
        seen = 0
    time.sleep(0.2)
print(f"{GROUP}/v1alpha1 is {'served' if seen == ENOUGH else 'not served yet'}", flush=True)
