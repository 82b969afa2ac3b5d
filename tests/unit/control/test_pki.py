"""Certificates and token keys: what is empty is filled, what is good stays, what is odd is named."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from stickyroute_api.control import Role, role_uri, roles
from stickyroute_operator import keys, pki

NAMES = pki.Names.of("edge")
NOW = datetime(2026, 11, 24, tzinfo=UTC)
LEAVES = {NAMES.operator: Role.OPERATOR, NAMES.proxy: Role.PROXY}
SECRET = base64.b64encode(b"s" * 32).decode()


class Secrets(dict):
    """The API server's Secrets, as the chart made them: empty."""

    def __init__(self):
        super().__init__({name: {} for name in (NAMES.ca, NAMES.operator, NAMES.proxy, NAMES.token_keys)})
        self.written = []

    async def read(self, name):
        return dict(self[name])

    async def write(self, name, data):
        self.written.append(name)
        self[name] = {**self[name], **data}


@pytest.fixture
def secrets():
    return Secrets()


def certificate(secrets, name):
    return x509.load_pem_x509_certificate(secrets[name]["tls.crt"])


async def test_empty_secrets_are_filled_once(secrets):
    identity = await pki.ensure(secrets, NAMES, "edge", NOW)
    assert secrets.written == [NAMES.ca, NAMES.operator, NAMES.proxy]
    assert set(secrets[NAMES.proxy]) == {"tls.crt", "tls.key", "ca.crt"}
    again = await pki.ensure(secrets, NAMES, "edge", NOW + timedelta(days=1))
    assert secrets.written == [NAMES.ca, NAMES.operator, NAMES.proxy]
    assert again == identity
    ca = certificate(secrets, NAMES.ca)
    assert ca.not_valid_after_utc == NOW + timedelta(days=3650)
    for name, role in LEAVES.items():
        found = certificate(secrets, name)
        found.verify_directly_issued_by(ca)
        assert roles(pki._names(found), "edge") == {role}
        assert roles(pki._names(found), "other") == frozenset()
        assert found.not_valid_after_utc == NOW + timedelta(days=90)


async def test_fields_without_content_are_empty_too(secrets):
    """A chart may create a Secret of type kubernetes.io/tls, which must have these fields."""
    secrets[NAMES.proxy] = {"tls.crt": b"", "tls.key": b"\n"}
    await pki.ensure(secrets, NAMES, "edge", NOW)
    assert certificate(secrets, NAMES.proxy)


@pytest.mark.parametrize(("days", "renewed"), [(59, False), (61, True), (200, True)])
async def test_certificates_are_renewed_in_time_and_the_ca_stays(secrets, days, renewed):
    await pki.ensure(secrets, NAMES, "edge", NOW)
    ca = secrets[NAMES.ca]
    secrets.written.clear()
    await pki.ensure(secrets, NAMES, "edge", NOW + timedelta(days=days))
    assert secrets.written == (list(LEAVES) if renewed else [])
    assert secrets[NAMES.ca] == ca


async def test_no_certificate_outlives_its_ca(secrets):
    await pki.ensure(secrets, NAMES, "edge", NOW)
    await pki.ensure(secrets, NAMES, "edge", NOW + timedelta(days=3640))
    assert certificate(secrets, NAMES.proxy).not_valid_after_utc == NOW + timedelta(days=3650)
    with pytest.raises(
        pki.SecretError, match=r"Secret edge-ca: the CA ended on 2036-11-21: empty the Secret"
    ):
        await pki.ensure(secrets, NAMES, "edge", NOW + timedelta(days=3651))


async def test_a_new_ca_signs_anew(secrets):
    await pki.ensure(secrets, NAMES, "edge", NOW)
    secrets[NAMES.ca] = {}
    await pki.ensure(secrets, NAMES, "edge", NOW)
    for name in LEAVES:
        certificate(secrets, name).verify_directly_issued_by(certificate(secrets, NAMES.ca))


async def test_another_fleets_certificate_is_made_anew(secrets):
    await pki.ensure(secrets, NAMES, "edge", NOW)
    await pki.ensure(secrets, NAMES, "inner", NOW)
    for name, role in LEAVES.items():
        assert roles(pki._names(certificate(secrets, name)), "inner") == {role}


@pytest.mark.parametrize("name", [NAMES.ca, NAMES.operator, NAMES.proxy])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tls.crt": b"garbage"}, "tls.crt is no PEM certificate"),
        ({"tls.key": b"garbage"}, "tls.key is no PEM private key"),
        ({"tls.key": b""}, "tls.key is missing beside other data"),
        ({"tls.key": pki.issue_ca("edge", NOW).key_pem}, "tls.key is not the key of tls.crt"),
    ],
    ids=["certificate", "key", "no key", "other key"],
)
async def test_garbage_is_named_and_not_replaced(secrets, name, change, told, caplog):
    await pki.ensure(secrets, NAMES, "edge", NOW)
    secrets[name] |= change
    before = dict(secrets[name])
    with pytest.raises(pki.SecretError) as raised:
        await pki.ensure(secrets, NAMES, "edge", NOW)
    assert f"Secret {name}: {told}" in str(raised.value)
    assert "empty the Secret" in str(raised.value)
    assert secrets[name] == before
    assert "PRIVATE" not in str(raised.value) + caplog.text


async def test_a_leaf_in_the_cas_place_is_named(secrets):
    await pki.ensure(secrets, NAMES, "edge", NOW)
    secrets[NAMES.ca] = secrets[NAMES.proxy]
    with pytest.raises(pki.SecretError, match=r"Secret edge-ca: tls.crt is no CA certificate"):
        await pki.ensure(secrets, NAMES, "edge", NOW)


async def test_an_identity_does_not_print_its_key(secrets):
    identity = await pki.ensure(secrets, NAMES, "edge", NOW)
    assert repr(identity) == "Identity(fleet='edge')"


@pytest.mark.parametrize(
    "peer",
    [None, {}, {"subjectAltName": (("DNS", role_uri("edge", Role.OPERATOR)),)}, {"subjectAltName": ()}],
)
def test_a_peer_without_our_uri_has_no_role(peer):
    assert roles(peer, "edge") == frozenset()


async def test_the_first_token_key_is_made_once(secrets):
    made = await keys.ensure(secrets, NAMES.token_keys, NOW, random=lambda size: b"k" * size)
    assert made.sealing == 1
    assert base64.b64decode(made.keys[1]) == base64.b64decode(made.hashing) == b"k" * 32
    assert await keys.ensure(secrets, NAMES.token_keys, NOW) == made
    assert secrets.written == [NAMES.token_keys]


async def test_of_several_keys_the_newest_seals(secrets):
    secrets[NAMES.token_keys]["keys.json"] = json.dumps(
        [
            {"id": 7, "key": SECRET, "created": "2026-11-20T00:00:00Z"},
            {"id": 2, "key": SECRET, "created": "2026-11-23T00:00:00+01:00"},
            {"id": 9, "key": SECRET, "created": "2026-11-01T00:00:00Z"},
        ]
    ).encode()
    found = await keys.ensure(secrets, NAMES.token_keys, NOW)
    assert (found.sealing, set(found.keys)) == (2, {2, 7, 9})
    assert SECRET not in repr(found)


async def test_a_secret_of_an_older_version_gets_the_key_that_hashes(secrets):
    secrets[NAMES.token_keys]["keys.json"] = before = json.dumps(stored()).encode()
    found = await keys.ensure(secrets, NAMES.token_keys, NOW)
    assert len(base64.b64decode(found.hashing)) == 32
    assert found.keys == {1: SECRET}
    assert secrets[NAMES.token_keys]["keys.json"] == before
    assert found.hashing not in repr(found)
    assert await keys.ensure(secrets, NAMES.token_keys, NOW) == found


async def test_an_unreadable_key_that_hashes_is_named_and_kept(secrets):
    secrets[NAMES.token_keys] = {"keys.json": json.dumps(stored()).encode(), "hashing.key": b"short"}
    with pytest.raises(pki.SecretError, match=r"hashing\.key is not 32 bytes .* or remove"):
        await keys.ensure(secrets, NAMES.token_keys, NOW)
    assert secrets.written == []


def stored(**change):
    return [{"id": 1, "key": SECRET, "created": "2026-11-24T00:00:00Z"} | change]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is no list of"),
        ([], "is an empty list"),
        ("", "keys.json is missing beside other data"),
        (stored(id=300), "ids 0 to 255"),
        (stored(key=SECRET + "="), "key 1 is not 32 bytes"),
        (stored(key=SECRET[:8]), "key 1 is not 32 bytes"),
        (stored(key="ü" + SECRET), "key 1 is not 32 bytes"),
        (stored(created="2026-11-24T00:00:00"), "created has no time zone"),
        (stored(created=SECRET), "is no list of"),
        (stored() * 2, "two keys with one id"),
    ],
)
async def test_unreadable_keys_are_named_and_kept(secrets, content, told):
    text = content if isinstance(content, str) else json.dumps(content)
    secrets[NAMES.token_keys] = {"keys.json": text.encode(), "other": b"x"}
    with pytest.raises(pki.SecretError) as raised:
        await keys.ensure(secrets, NAMES.token_keys, NOW)
    assert "Secret edge-token-keys: " in str(raised.value)
    assert told in str(raised.value)
    assert SECRET not in str(raised.value)
    assert secrets.written == []
