"""Which certificate a host is served with, and which are refused before anything is touched."""

import re
import ssl
from functools import cache
from random import Random

import pytest
import trustme

from stickyroute_api.snapshot import Certificate, Route, RouteTls, Snapshot, TokenKeys
from stickyroute_proxy import metrics
from stickyroute_proxy.certificates import Certificates, Identity
from stickyroute_proxy.health.watch import Watch
from stickyroute_proxy.table import build
from stickyroute_proxy.wire.counters import Counters


@cache
def certificate(name):
    kind = trustme.KeyType.ECDSA
    found = trustme.CA(key_type=kind).issue_cert(f"{name}.example.com", key_type=kind)
    return Certificate(
        chain=found.cert_chain_pems[0].bytes().decode(), key=found.private_key_pem.bytes().decode()
    )


def route(name, *hosts, tls="", created=1.0, namespace="shop"):
    return Route(
        namespace=namespace,
        name=name,
        created=created,
        hosts=hosts,
        tls=RouteTls(certificate=tls) if tls else None,
        rules=(),
    )


GIVEN = {name: certificate(name[2:]) for name in ("a/one", "a/two", "a/three")}


def shown(certificates, host):
    found = certificates.find(host.encode())
    return None if found is None else found.name


def test_hosts_then_wildcards_then_any():
    certificates = Certificates(
        [
            route("exact", "shop.example.com", tls="a/one"),
            route("wild", "*.example.com", tls="a/two"),
            route("deeper", "*.eu.example.com", tls="a/three"),
            route("plain", "plain.example.org"),
        ],
        GIVEN,
    )
    assert {host: shown(certificates, host) for host in HOSTS} == HOSTS


HOSTS = {
    "shop.example.com": "a/one",
    "www.example.com": "a/two",
    "a.b.example.com": "a/two",
    "a.eu.example.com": "a/three",
    "eu.example.com": "a/two",
    "example.com": None,
    ".example.com": None,
    "plain.example.org": None,
    "*.example.com": "a/two",
    "xexample.com": None,
    "": None,
    "\xff": None,
}


def test_a_route_for_any_host_is_the_last_resort():
    certificates = Certificates(
        [route("any", tls="a/one"), route("exact", "shop.example.com", tls="a/two")], GIVEN
    )
    assert shown(certificates, "") == shown(certificates, "other.example.org") == "a/one"
    assert shown(certificates, "shop.example.com") == "a/two"


def test_the_oldest_route_decides():
    young = route("a", "shop.example.com", tls="a/one", created=2.0)
    old = route("b", "shop.example.com", tls="a/two", created=1.0)
    assert shown(Certificates([young, old], GIVEN), "shop.example.com") == "a/two"
    same = route("a", "shop.example.com", tls="a/three", created=1.0)
    assert shown(Certificates([old, same], GIVEN), "shop.example.com") == "a/three"


def test_only_what_is_renewed_is_made_anew():
    routes = [route("one", "one", tls="a/one"), route("two", "two", tls="a/two")]
    first = Certificates(routes, GIVEN)
    second = Certificates(routes, {**GIVEN, "a/two": certificate("renewed")}, first)
    assert second.served["a/one"] is first.served["a/one"]
    assert second.served["a/two"].context is not first.served["a/two"].context
    assert second.find(b"two") is second.served["a/two"]


def test_a_connection_may_ask_for_the_hosts_of_its_certificate():
    certificates = Certificates(
        [route("wild", "*.example.com", tls="a/one"), route("shop", "shop.example.com", tls="a/two")], GIVEN
    )
    www = Identity(b"www.example.com", "a/one")
    asked = (b"www.example.com", b"mail.example.com", b"shop.example.com", b"example.org", b"")
    assert [certificates.cover(www, host) for host in asked] == [True, True, False, False, False]


def test_contexts_are_strict():
    context = Certificates([route("one", tls="a/one")], GIVEN).served["a/one"].context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    ciphers = [one["name"] for one in context.get_ciphers() if one["protocol"] == "TLSv1.2"]
    assert ciphers
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in ciphers)


def locked():
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(GIVEN["a/one"].key.encode(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


@pytest.mark.parametrize(
    "bad",
    [
        {"chain": ""},
        {"chain": "nonsense"},
        {"chain": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        {"key": ""},
        {"key": "nonsense"},
        {"key": GIVEN["a/two"].key},
        {"key": locked()},
        {"chain": "\0"},
    ],
    ids=range(8),
)
def test_what_cannot_be_served_is_left_out_and_told_once_and_nothing_of_it(bad, caplog):
    given = {**GIVEN, "a/one": GIVEN["a/one"].model_copy(update=bad)}
    routes = [route("one", "one", tls="a/one"), route("two", "two", tls="a/two")]
    first = Certificates(routes, given)
    for certificates in (first, Certificates(routes, given, first)):
        assert shown(certificates, "one") is None
        assert shown(certificates, "two") == "a/two"
        assert list(certificates.unusable) == ["a/one"]
    (told,) = caplog.messages
    assert re.match(r"certificate a/one cannot be served \([^()]+\), .*: tls.crt must", told)
    assert "nonsense" not in told
    mended = Certificates(routes, GIVEN, first)
    assert shown(mended, "one") == "a/one"
    assert not mended.unusable


KEYS = TokenKeys(sealing=1, keys={1: "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="})


def snapshot(routes, certificates, revision=1):
    return Snapshot(
        fleet="f",
        epoch=1,
        revision=revision,
        keys=KEYS,
        routes={one.key: one for one in routes},
        endpoints={},
        certificates=certificates,
    )


def test_a_bad_one_refuses_no_snapshot():
    routes = [route("one", "one", tls="a/one")]
    table = build(snapshot(routes, GIVEN), None, 0.0, Random(0))
    bad = {**GIVEN, "a/one": GIVEN["a/one"].model_copy(update={"key": ""})}
    table = build(snapshot(routes, bad, 2), table, 1.0, Random(0))
    assert shown(table.certificates, "one") is None
    samples = metrics.read(table, Counters(), Watch(Random(0), lambda: 1.0))
    assert samples["stickyroute_certificates_unusable"] == {(): 1}
    later = build(snapshot(routes, bad, 3), table, 1.0, Random(0))
    assert later.certificates is table.certificates


def test_one_that_is_not_there_is_refused_and_harms_no_other():
    routes = [route("one", "one", tls="a/one"), route("two", "two", tls="a/four")]
    table = build(snapshot(routes, GIVEN), None, 0.0, Random(0))
    assert shown(table.certificates, "one") == "a/one"
    assert shown(table.certificates, "two") is None


def test_a_route_that_goes_takes_its_host_along():
    routes = [route("one", "one", tls="a/one"), route("two", "two", tls="a/two")]
    table = build(snapshot(routes, GIVEN), None, 0.0, Random(0))
    assert shown(table.certificates, "two") == "a/two"
    table = build(snapshot(routes[:1], GIVEN, 2), table, 1.0, Random(0))
    assert shown(table.certificates, "two") is None
