"""A StatefulSet's pod is deleted and its name comes back: what its sessions get meanwhile, and afterwards."""

from dataclasses import dataclass

import pytest
from tests.e2e import kube, manifests
from tests.e2e.conftest import Application
from tests.e2e.load import failures, moves, sessions

BACK = 4
"""Seconds that a new pod takes at least until it is Ready: time enough to ask while it is away."""
AWAY = {"PodTerminated", "PodNotReady"}
"""Why a name has no pod: the old one ends, the new one begins."""


@dataclass(frozen=True)
class Policy(Application):
    """A route of its own to the StatefulSet's pods, with its own failover."""

    name: str

    def status(self):
        return kube.get("-n", self.namespace, "stickyroute", self.name)["status"]

    def state(self, pod):
        return next((one["state"] for one in self.status()["endpoints"] if one["pod"] == pod), None)

    def left(self):
        """{(pod, reason): sessions} by the status."""
        found = self.status().get("lastMoves", ())
        return {(move["pod"], move["reason"]): move["sessions"] for move in found}

    def dropped(self):
        """What Events say of sessions that lost their binding."""
        found = kube.get("-n", self.namespace, "events", "--field-selector", "reason=BindingsDropped")
        return [one["message"] for one in found["items"] if one["involvedObject"]["name"] == self.name]

    def decisions(self, reason):
        """Requests that went where they went for this reason, over all proxies."""
        labels = f'namespace="{self.namespace}"', f'route="{self.name}"', f'reason="{reason}"'
        return sum(
            value
            for proxy in self.release.pods("proxy")
            for name, value in self.release.metrics(proxy).items()
            if name.startswith("stickyroute_decisions_total{") and all(label in name for label in labels)
        )

    async def loses_a_pod(self, crowd):
        """Everybody asks; then the pod that has most sessions is deleted: (its name, its clients)."""
        await crowd.each(3)
        [(pod, _)] = sessions(crowd.records).most_common(1)
        clients = {record.client for record in crowd.records if record.pod == pod}
        await kube.off(kube.kubectl, "-n", self.namespace, "delete", "pod", pod, "--wait=false")
        await kube.off(kube.until, "it is away", lambda: self.state(pod) != "Serving", 20, 0.1)
        return pod, clients

    async def whole(self):
        await kube.off(kube.until, "three endpoints", lambda: self.settled(3), 60)


@pytest.fixture(scope="module")
def stateful(place, release):
    template = manifests.pod(release.image, "code")
    template["containers"][0]["readinessProbe"]["initialDelaySeconds"] = BACK
    kube.apply(
        place,
        manifests.code("code", "backend.py"),
        manifests.stateful_set("web", 3, template),
        manifests.service("web"),
    )
    return place


@pytest.fixture
def declared(stateful, release):
    """`await declared(name, …)`: the route of that name, with its policy, before three pods."""

    async def declare(name, **persistence):
        host = f"{name}.{stateful}.stickyroute.test"
        given = {"type": "Cookie", "idleTimeout": "30m", **persistence}
        await kube.off(kube.apply, stateful, manifests.route(name, host, ["web"], persistence=given))
        await kube.off(kube.wait_ready, stateful, name, 60)
        policy = Policy(release, stateful, host, name)
        await policy.whole()
        return policy

    return declare


def identity(policy, pod):
    found = kube.get("-n", policy.namespace, "pod", pod)
    return found["metadata"]["uid"], found["status"]["podIP"]


def told(records):
    """{client: the notices of its requests, in their order}."""
    found = {}
    for record in records:
        found.setdefault(record.client, []).append(record.notice)
    return found


def assert_home(records, pod, clients):
    """The clients are on the pod of that name, which began anew, and were told so once."""
    theirs = [record for record in records if record.client in clients]
    assert {record.pod for record in theirs} == {pod}
    assert {record.client for record in records if record.pod == pod} == clients
    for notices in told(theirs).values():
        assert notices == ["ContainerRestarted"] + [None] * (len(notices) - 1)
    assert min(record.count for record in theirs) == 1, "the new pod knows nothing of what the old one knew"


async def ask(browser):
    """One answer as it comes: no redirect followed."""
    async with browser.session.get(f"{browser.url}/", allow_redirects=False) as answer:
        await answer.read()
        return answer


def bound(browser):
    return [cookie.key for cookie in browser.session.cookie_jar if cookie.key.startswith("stickyroute-")]


async def test_requests_wait_until_the_name_is_back_and_keep_their_sessions(declared):
    failover = {"mode": "Temporary", "hold": "25s"}
    policy = await declared("held", bindTo="StatefulPod", failover=failover)
    before = {pod: await kube.off(identity, policy, pod) for pod in policy.pods()}
    async with policy.crowd(30) as crowd:
        pod, clients = await policy.loses_a_pod(crowd)
        records = await crowd.each(2)
        print(f"\n{len(clients)} sessions waited: {max(r.done - r.sent for r in records):.1f} s at most")
        uid, address = await kube.off(identity, policy, pod)
        assert uid != before[pod][0]
        assert address != before[pod][1], "on the old address it would tell nothing of names"
        assert failures(crowd.records) == []
        assert moves(crowd.records) == [], "nobody is served elsewhere"
        assert_home(records, pod, clients)
        assert not any(notice for client, (notice, _) in told(records).items() if client not in clients)
    assert policy.left() == {}, "a binding that holds has left nobody"
    assert policy.dropped() == []


async def test_sessions_lodge_elsewhere_after_the_hold_and_come_home(declared):
    failover = {"mode": "Temporary", "hold": "1s"}
    policy = await declared("lodged", bindTo="StatefulPod", failover=failover)
    async with policy.crowd(30) as crowd:
        pod, clients = await policy.loses_a_pod(crowd)
        records = await crowd.each(2)
        guests = [record for record in records if record.client in clients]
        assert failures(crowd.records) == []
        assert {record.notice for record in guests} <= AWAY, "the host is told with each request"
        assert pod not in {record.pod for record in guests}
        assert len({(record.client, record.pod) for record in guests}) == len(clients), "one lodging each"
        assert min(record.done - record.sent for record in guests) > 0.9, "it waits for its pod first"
        assert {record.notice for record in records if record.client not in clients} == {None}
        await policy.whole()
        assert_home(await crowd.each(2), pod, clients)
        assert failures(crowd.records) == []
        assert {client for client, *_ in moves(crowd.records)} == clients
        assert len(moves(crowd.records)) == 2 * len(clients), "away, and home"
    assert policy.left() == {}, "the binding stayed as it was"
    assert policy.dropped() == []


async def test_reject_keeps_the_session_for_the_name_that_comes_back(declared):
    failover = {"mode": "Reject", "status": 503}
    policy = await declared("barred", bindTo="StatefulPod", failover=failover)
    async with policy.crowd(30) as crowd:
        pod, clients = await policy.loses_a_pod(crowd)
        for client in clients:
            answer = await ask(crowd.browsers[client])
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert "Set-Cookie" not in answer.headers, "the binding stays"
        reasons = {reason: await kube.off(policy.decisions, reason) for reason in AWAY}
        assert sum(reasons.values()) == len(clients), reasons
        await policy.whole()
        records = await crowd.each(2)
        assert failures(records) == []
        assert moves(crowd.records) == []
        assert_home(records, pod, clients)
    assert policy.left() == {}


@pytest.mark.parametrize(
    ("failover", "status", "header", "value"),
    [
        ({"mode": "Redirect", "redirectURL": "/signed-out"}, 302, "Location", "/signed-out"),
        ({"mode": "Reject", "status": 503}, 503, "Retry-After", "1"),
    ],
    ids=["Redirect", "Reject"],
)
async def test_a_pod_that_is_gone_for_good_is_said_once_and_the_session_begins_anew(
    declared, failover, status, header, value
):
    """Bound to the pod itself, as by default: its namesake inherits nothing."""
    policy = await declared(f"gone-{failover['mode'].lower()}", failover=failover)
    async with policy.crowd(30) as crowd:
        pod, clients = await policy.loses_a_pod(crowd)
        for client in clients:
            browser = crowd.browsers[client]
            assert len(bound(browser)) == 1
            answer = await ask(browser)
            assert (answer.status, answer.headers[header]) == (status, value)
            assert "Max-Age=0" in answer.headers["Set-Cookie"]
            assert bound(browser) == [], "the binding is cleared"
        records = await crowd.each(2)
        assert failures(crowd.records) == []
        assert {client for client, *_ in moves(crowd.records)} == clients
        assert {record.notice for record in records} == {None}, "a new session has lost nothing"
        assert all(len(bound(crowd.browsers[client])) == 1 for client in clients)
        assert await kube.off(policy.decisions, "PodTerminated") == len(clients)
    lost = {(pod, "PodTerminated"): len(clients)}
    kube.until(f"{lost} in the status", lambda: policy.left() == lost, 20)
    message = f"{len(clients)} sessions left {pod}: PodTerminated"
    kube.until(f"the Event: {message}", lambda: policy.dropped() == [message], 20)
