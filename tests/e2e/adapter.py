"""A custom metrics API in a pod: what prometheus-adapter does for one rule of pods, and no Prometheus.

Run in the product's image from a ConfigMap, which has aiohttp and prometheus_client. RULE is an entry of
prometheus-adapter's `rules.custom`, as JSON, whose query is a sum; METRICS is the page that has the series.
It asks no client who it is: whom it serves is the throw-away cluster of a test.
"""

import asyncio
import json
import os
import re
import ssl
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
API = "https://kubernetes.default.svc"
GROUP = "custom.metrics.k8s.io/v1beta2"
RULE = json.loads(os.environ["RULE"])
METRICS = os.environ["METRICS"]
TLS = os.environ["TLS"]
TOKEN = Path(f"{ACCOUNT}/token").read_text()
TRUST = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
PATIENCE = aiohttp.ClientTimeout(total=5)

NAME = RULE["name"]["as"]
SERIES = re.match(r"\w+", RULE["seriesQuery"])[0]
LABEL = {one["resource"]: label for label, one in RULE["resources"]["overrides"].items()}
"""The label that names each kind of object."""


async def selected(session, namespace, selector):
    """The names of the pods that a label selector means."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{API}/api/v1/namespaces/{namespace}/pods"
    async with session.get(url, params={"labelSelector": selector}, headers=headers, ssl=TRUST) as answer:
        return {pod["metadata"]["name"] for pod in (await answer.json())["items"]}


async def summed(session, namespace, pods):
    """The series' values by pod, added up; pods without the series are left out."""
    async with session.get(METRICS) as answer:
        text = await answer.text()
    values = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == SERIES and labels[LABEL["namespace"]] == namespace:
                values[labels[LABEL["pod"]]] += sample.value
    return {pod: values[pod] for pod in sorted(pods & values.keys())}


async def metric(request):
    """The metric of all pods that `labelSelector` means: what an autoscaler asks for."""
    namespace = request.match_info["namespace"]
    async with aiohttp.ClientSession(timeout=PATIENCE, raise_for_status=True) as session:
        pods = await selected(session, namespace, request.query.get("labelSelector", ""))
        values = await summed(session, namespace, pods)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    items = [
        {
            "describedObject": {"kind": "Pod", "apiVersion": "/v1", "namespace": namespace, "name": pod},
            "metric": {"name": NAME},
            "timestamp": now,
            "value": f"{value:g}",
        }
        for pod, value in values.items()
    ]
    return web.json_response({"kind": "MetricValueList", "apiVersion": GROUP, "metadata": {}, "items": items})


async def resources(_request):
    """What clients discover, and the API server's own probe."""
    found = {
        "name": f"pods/{NAME}",
        "singularName": "",
        "namespaced": True,
        "kind": "MetricValueList",
        "verbs": ["get"],
    }
    return web.json_response(
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP, "resources": [found]}
    )


async def main():
    app = web.Application()
    app.add_routes(
        [
            web.get(f"/apis/{GROUP}", resources),
            web.get(f"/apis/{GROUP}/namespaces/{{namespace}}/pods/{{pods}}/{NAME}", metric),
        ]
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{TLS}/tls.crt", f"{TLS}/tls.key")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, port=int(os.environ["PORT"]), ssl_context=context).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
