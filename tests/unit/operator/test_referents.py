"""Certificates and authorities that routes name: what serves, what is refused, what is warned of."""

import base64
import ssl
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.certificates import NOW, authorities, issue, private, secret, weak
from tests.unit.operator.builders import endpoint, pieces, route, rule, service, state

from stickyroute_api.reasons import ConditionReason
from stickyroute_operator.objects import ConfigMap, Missing, Reference, Secret, referent
from stickyroute_operator.translate import translate
from stickyroute_operator.translate.referents import covers

WEB = (service(), pieces(endpoint("web-1", "10.0.0.1")))
TLS = Reference("Secret", "default", "shop-tls")
CA = Reference("ConfigMap", "default", "web-ca")
SHOP = ("default", "shop")


def served(found, *hosts, now=NOW, **more):
    """The translation of one route with TLS, whose Secret is `found`."""
    given = {TLS: found} if found is not None else {}
    shop = route(hosts=list(hosts or ("shop.example.com",)), tls={"secretName": "shop-tls"})
    return translate(state(shop, *WEB, referents=given, now=now, **more))


def test_a_good_certificate_is_served_with_its_chain(tmp_path):
    found = secret("shop.example.com")
    translation = served(replace(found, chain=f"noise\n{found.chain}\nmore noise\n"))
    verdict = translation.verdicts[SHOP]
    assert (verdict.resolved.status, verdict.resolved.reason) == (True, ConditionReason.RESOLVED_REFS)
    snapshot = translation.snapshot(1, 1)
    (key,) = snapshot.certificates
    assert key == snapshot.routes["default/shop"].tls.certificate == "default/shop-tls"
    part = snapshot.certificates[key]
    assert part.chain == found.chain
    for name, text in (("crt", part.chain), ("key", part.key)):
        (tmp_path / name).write_text(text)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "crt", tmp_path / "key")
    assert part.key not in repr(translation)
    assert part.key not in repr(snapshot)


END = "-----END CERTIFICATE-----\n"
KEY, CHAIN = issue("shop.example.com")
WEAK = weak()
UNUSABLE = {
    "does not exist": None,
    "may not be read": Missing("may not be read"),
    "is of type Opaque": Secret("Opaque"),
    "has no tls.crt": Secret("kubernetes.io/tls", "", private(KEY)),
    "has no tls.key": Secret("kubernetes.io/tls", CHAIN, ""),
    "tls.crt that holds no PEM": Secret("kubernetes.io/tls", "hello", private(KEY)),
    "tls.key that is no PEM": Secret("kubernetes.io/tls", CHAIN, "hello"),
    "with a passphrase": Secret("kubernetes.io/tls", CHAIN, private(KEY, b"secret")),
    "not of the first certificate": Secret("kubernetes.io/tls", CHAIN, private(issue()[0])),
    "refuse (ee key too small)": Secret(
        "kubernetes.io/tls", issue("shop.example.com", key=WEAK)[1], private(WEAK)
    ),
}


@pytest.mark.parametrize("says", UNUSABLE)
def test_an_unusable_secret_is_told_and_harms_no_other_route(says):
    found = UNUSABLE[says]
    good, other = Reference("Secret", "default", "other-tls"), secret("other.example.com")
    routes = (
        route(hosts=["shop.example.com"], tls={"secretName": "shop-tls"}),
        route("other", hosts=["other.example.com"], tls={"secretName": "other-tls"}),
    )
    given = {good: other} | ({TLS: found} if found else {})
    translation = translate(state(*routes, *WEB, referents=given, now=NOW))
    verdict = translation.verdicts[SHOP]
    assert verdict.accepted.status
    assert verdict.resolved.reason is ConditionReason.INVALID_CERTIFICATE_REF
    assert verdict.resolved.message.startswith("spec.tls.secretName: Secret default/shop-tls ")
    assert says in verdict.resolved.message
    assert "PRIVATE" not in verdict.resolved.message
    # Its plain HTTP only redirects: nothing leaks that was to be sealed.
    tls = translation.routes["default/shop"].tls
    assert tls.redirect
    assert tls.certificate not in translation.certificates
    assert translation.verdicts["default", "other"].resolved.status
    assert set(translation.certificates) == {"default/other-tls"}


@pytest.mark.parametrize(
    ("days", "reason", "says"),
    [
        (15, ConditionReason.RESOLVED_REFS, ""),
        (13, ConditionReason.CERTIFICATE_EXPIRING, "expires at 2030-02-13 12:00 UTC"),
        (0, ConditionReason.CERTIFICATE_EXPIRING, "expired at 2030-01-31 12:00 UTC"),
    ],
)
def test_an_end_that_is_near_is_warned_of_and_served(days, reason, says):
    translation = served(secret("shop.example.com", days=days))
    verdict = translation.verdicts[SHOP].resolved
    assert (verdict.status, verdict.reason) == (True, reason)
    assert says in verdict.message
    assert set(translation.certificates) == {"default/shop-tls"}


def test_one_that_is_not_valid_yet_is_warned_of():
    verdict = served(secret("shop.example.com", begins=NOW + timedelta(days=1))).verdicts[SHOP].resolved
    assert (verdict.status, verdict.reason) == (True, ConditionReason.CERTIFICATE_MISMATCH)
    assert "not valid before 2030-02-01" in verdict.message


def test_hosts_that_it_does_not_name_are_told():
    found = secret("*.example.com", "example.com")
    verdict = served(found, "shop.example.com", "a.b.example.com", "*.example.com").verdicts[SHOP].resolved
    assert (verdict.status, verdict.reason) == (True, ConditionReason.CERTIFICATE_MISMATCH)
    assert "names *.example.com, example.com, not a.b.example.com" in verdict.message


@given(st.lists(st.from_regex(r"[a-z]{1,3}", fullmatch=True), min_size=2, max_size=4))
def test_a_star_stands_for_one_label(labels):
    host = ".".join(labels)
    assert covers({host}, host)
    assert covers({"*." + ".".join(labels[1:])}, host)
    assert not covers({"*." + ".".join(labels[2:])}, host)
    assert not covers({f"*.{host}"}, host)


def test_what_did_not_change_is_not_read_again():
    first = served(secret("shop.example.com"))
    again = translate(first.state, first)
    assert again.certificates["default/shop-tls"] is first.certificates["default/shop-tls"]
    assert again.outcomes[SHOP] is first.outcomes[SHOP]
    assert again.same_content(first)


def test_a_renewal_changes_the_certificate_alone():
    first = served(secret("shop.example.com"))
    second = translate(replace(first.state, referents={TLS: secret("shop.example.com")}), first)
    assert not second.same_content(first)
    assert second.routes["default/shop"] is first.routes["default/shop"]


def test_until_a_secret_is_read_its_route_stays_as_it_is():
    held = served(None, on_demand=True)
    assert held.routes == {}
    assert held.verdicts[SHOP].accepted.status
    assert held.verdicts[SHOP].resolved.reason is ConditionReason.PENDING
    assert held.references == {TLS}

    first = served(secret("shop.example.com"), on_demand=True)
    changed = route(hosts=["shop.example.com"], tls={"secretName": "new-tls"})
    second = translate(replace(first.state, routes={SHOP: changed}), first)
    assert second.outcomes[SHOP] is first.outcomes[SHOP]
    assert second.same_content(first)
    new = Reference("Secret", "default", "new-tls")
    third = translate(replace(second.state, referents={new: Missing("is away")}), second)
    assert third.routes["default/shop"].tls.certificate == "default/new-tls"


def backend(found, **tls):
    reached = rule(port=443)
    reached["backends"][0]["tls"] = {"caRef": {"kind": "ConfigMap", "name": "web-ca"}, **tls}
    secure = service(port=443, app_protocol="HTTPS"), WEB[1]
    return translate(state(route(rules=[reached]), *secure, referents={CA: found} if found else {}))


def test_authorities_come_with_the_set_and_their_renewal_is_another_set():
    first, other = (backend(ConfigMap(authorities() * times)) for times in (1, 2))
    (key,) = first.backend_tls
    assert key.startswith("default/web:443+")
    assert key in first.endpoints
    assert first.routes["default/shop"].rules[0].backends[0].endpoints == key
    tls = first.backend_tls[key]
    assert (tls.server_name, tls.ca) == ("web.default.svc", authorities())
    assert set(other.backend_tls) != {key}
    (named,) = backend(ConfigMap(authorities()), serverName="web.internal").backend_tls.values()
    assert named.server_name == "web.internal"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "ConfigMap default/web-ca does not exist"),
        (ConfigMap(), "has no ca.crt"),
        (ConfigMap("hello"), "ca.crt that holds no PEM"),
        (ConfigMap(authorities() * 1000), "more than 256 KiB"),
    ],
)
def test_unusable_authorities_take_the_backend_away(found, says):
    translation = backend(found)
    verdict = translation.verdicts[SHOP].resolved
    assert verdict.reason is ConditionReason.INVALID_CA_CERTIFICATE_REF
    assert says in verdict.message
    assert translation.routes["default/shop"].rules[0].backends == ()
    assert translation.backend_tls == {}


def test_a_secret_of_another_type_keeps_nothing_but_its_type():
    data = {"tls.key": base64.b64encode(b"hidden").decode()}
    assert referent("Secret", {"data": data, "type": "Opaque"}) == Secret("Opaque")
    assert referent("Secret", {"data": data, "type": "kubernetes.io/tls"}).key == "hidden"
    assert "hidden" not in repr(referent("Secret", {"data": data, "type": "kubernetes.io/tls"}))


@pytest.mark.parametrize("data", [None, [], {"tls.crt": 3}, {"tls.crt": "%%"}, {"tls.crt": "/w=="}])
def test_malformed_data_is_no_data(data):
    assert referent("Secret", {"data": data, "type": "kubernetes.io/tls"}).chain == ""
    assert referent("ConfigMap", {"data": data}) == ConfigMap()


def damaged(flips):
    der = bytearray(ssl.PEM_cert_to_DER_cert(CHAIN.partition(END)[0] + END))
    for place, mask in flips:
        der[place % len(der)] ^= mask
    return ssl.DER_cert_to_PEM_cert(bytes(der))


FLIPS = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(FLIPS)
def test_no_damaged_certificate_stops_the_translation(flips):
    """And what is taken in spite of it is what OpenSSL takes, as the proxies will ask it to."""
    translation = served(Secret("kubernetes.io/tls", damaged(flips), private(KEY)))
    verdict = translation.verdicts[SHOP]
    assert verdict.accepted.status
    assert "PRIVATE" not in verdict.resolved.message
    for tls in backend(ConfigMap(damaged(flips))).backend_tls.values():
        ssl.create_default_context(cadata=tls.ca)
