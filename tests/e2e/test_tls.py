"""HTTPS by Secrets: served, redirected to, renewed without a break; and TLS to the pods."""

import asyncio
import socket
import ssl
import time
from datetime import UTC, datetime

import aiohttp
import pytest
from tests.certificates import authorities, secret
from tests.e2e import kube, manifests
from tests.e2e.load import ToNode, failures, moves, summary

HOST = "e2e-tls.stickyroute.test"
"""The host of the module's application."""
WITHIN = 60.0
"""Seconds from a renewed Secret in the API to every new handshake showing it."""


def certificate(*hosts):
    return secret(*hosts, now=datetime.now(UTC))


def trust():
    return ssl.create_default_context(cadata=authorities())


def https(name, host, backends, secret_name, **spec):
    return manifests.route(name, host, backends, tls={"secretName": secret_name}, **spec)


@pytest.fixture(scope="module")
def secured(application):
    """The application's route, over TLS."""
    kube.apply(
        application.namespace,
        manifests.secret("web-tls", certificate(HOST)),
        https("web", HOST, ["web"], "web-tls"),
    )
    kube.wait_ready(application.namespace, "web")
    return application


def client(release):
    resolver = ToNode(release.target.address)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, ssl=trust()),
        timeout=aiohttp.ClientTimeout(total=30),
    )


def shake(release, host):
    """A TLS connection to the host, verified; SSLError or ConnectionError when it is refused."""
    raw = socket.create_connection((release.target.address, release.target.tls_port), timeout=10)
    try:
        return trust().wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


def serial(release, host):
    with shake(release, host) as connection:
        return connection.getpeercert()["serialNumber"]


def is_refused(release, host):
    try:
        shake(release, host).close()
    except (ssl.SSLError, ConnectionError):
        return True
    return False


async def test_https_serves_and_http_redirects_to_it(secured):
    release = secured.release
    http, https_ = f"http://{HOST}:{release.target.port}", f"https://{HOST}:{release.target.tls_port}"
    async with client(release) as browser:
        async with browser.get(f"{https_}/echo?a=b") as answer:
            got = await answer.json()
            assert answer.status == 200
            assert got["request"]["target"] == "/echo?a=b"
            assert got["request"]["headers"]["x-forwarded-proto"] == "https"
            (cookie,) = (one for one in answer.headers.getall("Set-Cookie") if one.startswith("stickyroute-"))
            assert "Secure" in cookie
        async with browser.get(f"{https_}/echo") as answer:
            assert (await answer.json())["pod"] == got["pod"]
        async with browser.get(f"{http}/cart?a=b", allow_redirects=False) as answer:
            assert answer.status in {301, 308}
            assert answer.headers["Location"].startswith(f"https://{HOST}")
            assert answer.headers["Location"].endswith("/cart?a=b")
            assert "Set-Cookie" not in answer.headers
        async with browser.get(f"{http}/.well-known/acme-challenge/echo", allow_redirects=False) as answer:
            assert answer.status == 200
            assert (await answer.json())["pod"].startswith("web-")


async def test_a_renewal_is_served_soon_and_drops_no_connection(secured):
    release = secured.release
    before = serial(release, HOST)
    kept = shake(release, HOST)
    kept.settimeout(10)

    def ask():
        kept.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        return kept.recv(65536)

    assert ask().startswith(b"HTTP/1.1 200")

    async def renew():
        await kube.off(kube.apply, secured.namespace, manifests.secret("web-tls", certificate(HOST)))
        start = time.monotonic()
        while True:
            shown = {await kube.off(serial, release, HOST) for _ in range(20)}
            if before not in shown:
                return shown, time.monotonic() - start
            assert time.monotonic() < start + WITHIN
            await asyncio.sleep(0.5)

    async with release.crowd(HOST, 30, tls=trust()) as crowd:
        await crowd.each(2)
        shown, took = await crowd.during(50, renew())
        print(f"\nrenewal served after {took:.1f} s: {summary(crowd.records)}")
        assert len(shown) == 1
        assert failures(crowd.records) == []
        assert moves(crowd.records) == []
    assert ask().startswith(b"HTTP/1.1 200")
    kept.close()


async def test_a_bad_secret_is_told_and_harms_no_other(secured):
    release, namespace = secured.release, secured.namespace
    bad = "bad-secret.stickyroute.test"

    def told(words):
        def look():
            found = kube.condition(namespace, "bad", "ResolvedRefs")
            return found if found and words in found["message"] else None

        found = kube.until(f"the condition says {words!r}", look, 45)
        assert (found["status"], found["reason"]) == ("False", "InvalidCertificateRef")
        assert kube.condition(namespace, "bad", "Accepted")["status"] == "True"

    async def make():
        await kube.off(kube.apply, namespace, https("bad", bad, ["web"], "bad-tls"))
        await kube.off(told, "Secret e2e-tls/bad-tls does not exist")
        opaque = manifests.secret("bad-tls", certificate(bad), type="Opaque")
        await kube.off(kube.apply, namespace, opaque)
        await kube.off(told, "is of type Opaque")
        assert await kube.off(is_refused, release, bad)
        async with (
            client(release) as browser,
            browser.get(f"http://{bad}:{release.target.port}/", allow_redirects=False) as answer,
        ):
            assert answer.status in {301, 308}
        await kube.off(kube.kubectl, "-n", namespace, "delete", "secret", "bad-tls")
        await kube.off(kube.apply, namespace, manifests.secret("bad-tls", certificate(bad)))
        await kube.off(kube.wait_ready, namespace, "bad", 45)
        assert await kube.off(serial, release, bad)

    async with release.crowd(HOST, 20, tls=trust()) as crowd:
        await crowd.each(2)
        await crowd.during(50, make())
        assert failures(crowd.records) == []
        assert moves(crowd.records) == []
    kube.kubectl("-n", namespace, "delete", "stickyroute", "bad")


async def test_backends_over_tls_are_verified(secured):
    release, namespace = secured.release, secured.namespace
    host = "sealed.stickyroute.test"
    name = f"sealed.{namespace}.svc"
    port = {"name": "https", "port": 443, "targetPort": 8443, "appProtocol": "https"}
    reference = {"caRef": {"kind": "ConfigMap", "name": "sealed-ca"}}
    backend = {"service": "sealed", "port": "https", "tls": reference}
    stranger = {**backend, "tls": {**reference, "serverName": "stranger.example.com"}}
    rules = [
        {"name": "app", "backends": [backend]},
        {"name": "other", "matches": [{"path": {"value": "/stranger"}}], "backends": [stranger]},
    ]
    kube.apply(
        namespace,
        manifests.secret("sealed-tls", certificate(name)),
        manifests.deployment("sealed", 2, manifests.pod(release.image, "code", tls="sealed-tls")),
        {**manifests.service("sealed"), "spec": {"selector": {"app": "sealed"}, "ports": [port]}},
        manifests.route("sealed", host, [], rules=rules),
    )
    kube.rollout(namespace, "sealed")

    def told():
        found = kube.condition(namespace, "sealed", "ResolvedRefs")
        return found if found and found["reason"] == "InvalidCACertificateRef" else None

    assert "ConfigMap e2e-tls/sealed-ca does not exist" in kube.until("told", told, 20)["message"]
    ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sealed-ca"}}
    kube.apply(namespace, {**ca, "data": {"ca.crt": authorities()}})
    kube.wait_ready(namespace, "sealed", 45)
    async with client(release) as browser:
        url = f"http://{host}:{release.target.port}"
        pods = set()
        for _ in range(5):
            async with browser.get(f"{url}/echo") as answer:
                assert answer.status == 200
                got = await answer.json()
            assert got["port"] == 8443
            pods.add(got["pod"])
        assert len(pods) == 1
        async with browser.get(f"{url}/stranger") as answer:
            assert answer.status == 502
