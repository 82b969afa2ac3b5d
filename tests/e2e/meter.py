"""How long a pod change takes from the API to the last proxy that serves by it. Runs in a pod; prints JSON.

Each change gives an EndpointSlice another pod on another port. The clock starts when the change is sent to
the API server and stops when every proxy has answered a request from the new port, so both the write and the
asking are in the figure: it can only be too long.
"""

import asyncio
import json
import os
import random
import ssl
import time
import uuid
from pathlib import Path

import aiohttp

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
API = "https://kubernetes.default.svc"


async def change(session, url, port):
    """Replaces the one endpoint; returns (sent, answered)."""
    body = [
        {"op": "replace", "path": "/ports/0/port", "value": port},
        {"op": "replace", "path": "/endpoints/0/targetRef/uid", "value": str(uuid.uuid4())},
        {"op": "replace", "path": "/endpoints/0/targetRef/name", "value": f"metered-{port}"},
    ]
    sent = time.perf_counter()
    headers = {"Content-Type": "application/json-patch+json"}
    async with session.patch(url, data=json.dumps(body), headers=headers) as answer:
        answer.raise_for_status()
        await answer.read()
    return sent, time.perf_counter()


async def served_by(session, proxy, host, port, give_up):
    """Asks one proxy until it answers from that port; returns the moment."""
    while time.perf_counter() < give_up:
        async with session.get(f"http://{proxy}:8080/", headers={"Host": host}) as answer:
            moment = time.perf_counter()
            if answer.status == 200 and (await answer.json())["port"] == port:
                return moment
        await asyncio.sleep(0.002)
    raise TimeoutError(f"{proxy} does not serve port {port}")


async def main(token, changes):
    host, proxies = os.environ["HOST"], os.environ["PROXIES"].split(",")
    ports = [int(port) for port in os.environ["PORTS"].split(",")]
    url = f"{API}/apis/discovery.k8s.io/v1/namespaces/{os.environ['NAMESPACE']}/endpointslices/metered-1"
    tls = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt"))
    from_sent, from_answered = [], []
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}, connector=tls) as api,
        aiohttp.ClientSession() as data,
    ):
        for number in range(changes):
            port = ports[(number + 1) % len(ports)]
            changing = asyncio.ensure_future(change(api, url, port))
            give_up = time.perf_counter() + 30
            moments = await asyncio.gather(
                *(served_by(data, proxy, host, port, give_up) for proxy in proxies)
            )
            sent, answered = await changing
            from_sent.append(max(moments) - sent)
            from_answered.append(max(0.0, max(moments) - answered))
            await asyncio.sleep(random.uniform(0.05, 0.3))
    print(json.dumps({"from_sent": from_sent, "from_answered": from_answered}))


if __name__ == "__main__":
    asyncio.run(main(Path(f"{ACCOUNT}/token").read_text(), 200))
