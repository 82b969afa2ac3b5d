"""Certificates from Secrets, through the whole operator to the proxies."""

import asyncio
import base64

from prometheus_client.exposition import generate_latest
from tests.certificates import authorities, secret
from tests.component.operator.test_operator import condition, events, fill, pods, route, service
from tests.waiting import until


def put_secret(api, found, name="shop-tls", namespace="default", kind="kubernetes.io/tls"):
    texts = {"tls.crt": found.chain, "tls.key": found.key}
    data = {field: base64.b64encode(text.encode()).decode() for field, text in texts.items()}
    meta = {"name": name, "namespace": namespace}
    api.put("secrets", {"metadata": meta, "type": kind, "data": data}, tell=False)


def chain(proxy, key="default/shop-tls"):
    snapshot = proxy.receiver.snapshot
    found = snapshot.certificates.get(key) if snapshot else None
    return found and found.chain


def reads(api):
    """What of Secrets and ConfigMaps was asked for beside the operator's own."""
    return [
        (method, plural, name)
        for method, plural, name, _ in api.requests
        if plural in {"secrets", "configmaps"} and not name.startswith("sr-")
    ]


async def test_a_renewal_reaches_the_proxies_and_secrets_are_read_by_name_only(api, start, proxies):
    first, second = secret("shop.example.com"), secret("shop.example.com")
    fill(api)
    api.put("stickyroutes", route(tls={"secretName": "shop-tls"}))
    put_secret(api, first)
    async with start() as operator, proxies("proxy-0", "proxy-1") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        assert all(chain(proxy) == first.chain for proxy in running.values())
        put_secret(api, second)
        await until(lambda: all(chain(proxy) == second.chain for proxy in running.values()))
        figures = generate_latest(operator.health.registry()).decode()
        assert 'stickyroute_certificate_expiry_seconds{namespace="default",secret="shop-tls"}' in figures
    assert set(reads(api)) == {("GET", "secrets", "shop-tls")}


async def test_a_bad_secret_is_told_and_mended_and_harms_no_other_route(api, start, proxies):
    good = secret("shop.example.com")
    fill(api)
    api.put("stickyroutes", route(tls={"secretName": "shop-tls"}))
    put_secret(api, good)
    async with start(), proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        api.put("stickyroutes", route("blog", tls={"secretName": "blog-tls"}))
        await until(lambda: condition(api, "ResolvedRefs", "blog").get("reason") == "InvalidCertificateRef")
        assert "Secret default/blog-tls does not exist" in condition(api, "ResolvedRefs", "blog")["message"]
        await until(lambda: "InvalidCertificateRef" in events(api))
        put_secret(api, good, "blog-tls", kind="Opaque")
        await until(lambda: "of type Opaque" in condition(api, "ResolvedRefs", "blog")["message"])
        assert condition(api, "Ready")["status"] == "True"
        assert chain(running["proxy-0"]) == good.chain
        put_secret(api, secret("blog.example.com"), "blog-tls")
        await until(lambda: condition(api, "Ready", "blog").get("status") == "True")
        api.remove("secrets", "blog-tls", tell=False)
        await until(lambda: condition(api, "Ready", "blog").get("status") == "False")
        assert chain(running["proxy-0"], "default/blog-tls") is None


async def test_an_outage_and_a_restart_take_no_certificate_away(api, start, proxies):
    good = secret("shop.example.com")
    fill(api)
    api.put("stickyroutes", route(tls={"secretName": "shop-tls"}))
    put_secret(api, good)
    async with start(), proxies("proxy-0") as running:
        proxy = running["proxy-0"]
        await until(lambda: chain(proxy) == good.chain)
        for status in (500, 403):
            count = len(reads(api))
            api.faults["GET", "secrets"] = status
            await until(lambda count=count: len(reads(api)) > count + 3)
            assert chain(proxy) == good.chain
        api.faults.clear()
        await asyncio.sleep(0.2)
    seen = []
    async with proxies("proxy-0") as running:
        proxy = running["proxy-0"]
        count = len(reads(api))
        async with start(instance="operator-1"):
            # The Secrets of the operator itself are read; those of routes not yet.
            await until(lambda: proxy.receiver.snapshot is not None)
            seen.append(chain(proxy))
            assert len(reads(api)) > count
    assert seen == [good.chain]


async def test_authorities_of_backends_come_from_a_config_map(api, start, proxies):
    api.put("services", {**service(), "spec": {"ports": [{"port": 80, "appProtocol": "https"}]}})
    api.put("endpointslices", pods(1))
    reference = {"caRef": {"kind": "ConfigMap", "name": "web-ca"}}
    rules = [{"name": "app", "backends": [{"service": "web", "port": 80, "tls": reference}]}]
    api.put("stickyroutes", route(rules=rules))
    async with start(), proxies("proxy-0") as running:
        await until(
            lambda: condition(api, "ResolvedRefs").get("reason") == "InvalidCACertificateRef", what="told"
        )
        api.put("configmaps", {"metadata": {"name": "web-ca"}, "data": {"ca.crt": authorities()}}, tell=False)
        await until(lambda: condition(api, "Ready").get("status") == "True")
        (tls,) = running["proxy-0"].receiver.snapshot.backend_tls.values()
        assert (tls.server_name, tls.ca) == ("web.default.svc", authorities())
