"""The control port: who may do what, which pushes are taken, and what a refusal says."""

import logging

import aiohttp
import pytest
from tests.component.control.support import (
    FLEET,
    TOKEN_KEY,
    Authority,
    client,
    serve,
    snapshot,
    with_pods,
)

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.control import Role
from stickyroute_api.snapshot import Delta


def whole(of):
    return of.model_dump_json().encode()


async def call(session, method, url, body=None):
    async with session.request(method, url, data=body) as answer:
        return answer.status, await answer.json()


async def test_a_pushed_snapshot_is_used_kept_and_told(authority, files):
    async with serve(files) as served, client(authority.context()) as session:
        pushed = snapshot(revision=7, epoch=3)
        status, answer = await call(session, "PUT", f"{served.url}/v1/snapshot", whole(pushed))
        assert (status, answer["epoch"], answer["revision"]) == (200, 3, 7)
        assert served.used == [pushed]
        assert served.receiver.keeper.saved == [pushed]
        assert await call(session, "GET", f"{served.url}/v1/version") == (
            200,
            {
                "format": 1,
                "proxy": "proxy-0",
                "fleet": FLEET,
                "version": "1.2.3",
                "epoch": 3,
                "revision": 7,
            },
        )
        status, answer = await call(session, "GET", f"{served.url}/v1/snapshot")
        assert (status, answer) == (200, pushed.model_dump(mode="json"))


async def test_nothing_is_held_at_first(authority, files):
    async with serve(files) as served, client(authority.context()) as session:
        status, answer = await call(session, "GET", f"{served.url}/v1/version")
        assert (status, answer["epoch"], answer["revision"]) == (200, None, None)
        for path in ("snapshot", "affinity"):
            status, answer = await call(session, "GET", f"{served.url}/v1/{path}")
            assert status == 404
            assert "no snapshot" in answer["error"]


async def test_a_delta_follows_its_base_only(authority, files):
    async with serve(files) as served, client(authority.context()) as session:
        url = f"{served.url}/v1/snapshot"
        first = snapshot(revision=1)
        second = with_pods(first, 2)
        third = with_pods(second, 5)
        delta = whole(Delta.between(first, second))
        status, answer = await call(session, "PATCH", url, delta)
        assert (status, answer["epoch"]) == (412, None)
        await call(session, "PUT", url, whole(first))
        status, answer = await call(session, "PATCH", url, whole(Delta.between(second, third)))
        assert (status, answer["epoch"], answer["revision"]) == (412, 1, 1)
        assert "send the whole" in answer["error"]
        assert (await call(session, "PATCH", url, delta))[0] == 200
        assert served.receiver.snapshot == second
        assert (await call(session, "PATCH", url, delta))[0] == 200, "the same once more changes nothing"
        assert served.used == [first, second]
        other = whole(Delta.between(first, with_pods(first, 4)))
        assert (await call(session, "PATCH", url, other))[0] == 409


async def test_an_older_or_contradicting_snapshot_is_refused(authority, files):
    async with serve(files) as served, client(authority.context()) as session:
        url = f"{served.url}/v1/snapshot"
        held = snapshot(revision=5, epoch=2)
        await call(session, "PUT", url, whole(held))
        for stale in (
            snapshot(revision=4, epoch=2),
            snapshot(revision=99, epoch=1),
            snapshot(revision=5, epoch=2, pods=1),
        ):
            status, answer = await call(session, "PUT", url, whole(stale))
            assert (status, answer["epoch"], answer["revision"]) == (409, 2, 5)
        assert (await call(session, "PUT", url, whole(held)))[0] == 200
        assert served.used == [held]
        assert (await call(session, "PUT", url, whole(snapshot(revision=1, epoch=3))))[0] == 200


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "format 1 only"),
        ({"fleet": "other"}, "for fleet 'other', this proxy serves 'stickyroute'"),
        ({"epoch": -1}, "epoch: Input should be greater than or equal to 0"),
        ({"routes": {"a/b": {"namespace": "a"}}}, "routes.a/b.name: Field required"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
async def test_an_invalid_snapshot_is_explained_and_the_last_good_one_stays(
    authority, files, change, expected
):
    async with serve(files) as served, client(authority.context()) as session:
        held = snapshot()
        await call(session, "PUT", f"{served.url}/v1/snapshot", whole(held))
        async with session.put(
            f"{served.url}/v1/snapshot", json={**snapshot(2).model_dump(mode="json"), **change}
        ) as answer:
            assert answer.status == 422
            assert expected in (await answer.json())["error"]
        assert served.receiver.snapshot == held


async def test_what_cannot_be_served_is_refused_with_the_reason(authority, files):
    def use(new):
        if new.revision == 2:
            raise ValueError("route shop/route-0, rule app: matches: no such thing")

    async with serve(files, use=use) as served, client(authority.context()) as session:
        held = snapshot()
        await call(session, "PUT", f"{served.url}/v1/snapshot", whole(held))
        status, answer = await call(session, "PUT", f"{served.url}/v1/snapshot", whole(snapshot(2)))
        assert (status, answer["revision"]) == (422, 1)
        assert "route shop/route-0, rule app" in answer["error"]
        assert served.receiver.snapshot == held


@pytest.mark.parametrize(
    "keys",
    [
        {"sealing": 1, "keys": {"1": [TOKEN_KEY]}},
        {"sealing": TOKEN_KEY, "keys": {}},
        {"sealing": 1, "keys": {TOKEN_KEY: "x"}},
        {"sealing": 1, "keys": {}, TOKEN_KEY: 1},
        TOKEN_KEY,
    ],
)
async def test_no_refusal_and_no_log_line_holds_a_key(authority, files, keys, caplog):
    caplog.set_level(logging.DEBUG)
    async with serve(files) as served, client(authority.context()) as session:
        body = {**snapshot().model_dump(mode="json"), "keys": keys}
        async with session.put(f"{served.url}/v1/snapshot", json=body) as answer:
            assert answer.status == 422
            text = await answer.text()
    assert "keys" in text
    assert TOKEN_KEY not in text + caplog.text


async def test_garbage_is_refused(authority, files):
    async with serve(files) as served, client(authority.context()) as session:
        status, answer = await call(session, "PUT", f"{served.url}/v1/snapshot", b"{nonsense")
        assert status == 422
        assert "Invalid JSON" in answer["error"]
        assert (await call(session, "DELETE", f"{served.url}/v1/snapshot"))[0] == 405
        assert (await call(session, "GET", f"{served.url}/elsewhere"))[0] == 404


async def test_a_body_beyond_the_bound_is_refused(authority, files, monkeypatch):
    from stickyroute_proxy import control

    monkeypatch.setattr(control, "MAX_SNAPSHOT_BYTES", 1000)
    async with serve(files) as served, client(authority.context()) as session:
        status, answer = await call(session, "PUT", f"{served.url}/v1/snapshot", b" " * 1001)
        assert status == 413
        assert "1000 bytes" in answer["error"]


async def test_a_sibling_may_read_version_and_snapshot_only(authority, files):
    async with serve(files) as served, client(authority.context(Role.PROXY)) as session:
        assert (await call(session, "GET", f"{served.url}/v1/version"))[0] == 200
        assert (await call(session, "GET", f"{served.url}/v1/snapshot"))[0] == 404
        for method, path in (("GET", "affinity"), ("PUT", "snapshot"), ("PATCH", "snapshot")):
            status, answer = await call(session, method, f"{served.url}/v1/{path}", whole(snapshot()))
            assert status == 403
            assert "fleet/stickyroute/role/operator" in answer["error"]
        assert served.used == []


async def test_the_operator_of_another_fleet_may_nothing(authority, files):
    async with serve(files) as served, client(authority.context(fleet="other")) as session:
        for method, path in (
            ("GET", "version"),
            ("GET", "snapshot"),
            ("GET", "affinity"),
            ("PUT", "snapshot"),
        ):
            assert (await call(session, method, f"{served.url}/v1/{path}"))[0] == 403


async def test_who_has_no_certificate_of_the_ca_is_not_heard(authority, files):
    stranger = Authority().identity()
    trusting = pki_with_ca(stranger, authority)
    async with serve(files) as served, client(trusting) as session:
        with pytest.raises(aiohttp.ClientError):
            await call(session, "GET", f"{served.url}/v1/version")


async def test_the_report_is_told(authority, files):
    report = AffinityReport(proxy="proxy-0", started=1.0, epoch=1, revision=2, scopes={})
    async with serve(files, report=lambda: report) as served, client(authority.context()) as session:
        status, answer = await call(session, "GET", f"{served.url}/v1/affinity")
        assert (status, answer) == (200, report.model_dump(mode="json"))


def pki_with_ca(stranger, authority):
    """A context that trusts the fleet's CA but shows a certificate of another one."""
    from dataclasses import replace

    return replace(stranger, ca=authority.ca.certificate_pem).client_context()
