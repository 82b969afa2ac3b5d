"""Sessions stay on their pods; a deleted pod's sessions move once, with notice, and nobody else's."""

import asyncio
import re
from dataclasses import dataclass

import pytest
from tests.e2e import kube
from tests.e2e.load import amnesia, failures, moves, sessions, summary


@dataclass(frozen=True)
class Deletion:
    """A pod deleted among 90 sessions that all ask before and after."""

    pod: str
    sessions: int
    """How many were on it."""
    records: list


@pytest.fixture(scope="module")
def deletion(application):
    async def delete():
        async with application.crowd(90) as crowd:
            await crowd.each(3)
            [(pod, number)] = sessions(crowd.records).most_common(1)
            await kube.off(kube.kubectl, "-n", application.namespace, "delete", "pod", pod, "--wait=false")
            await kube.off(kube.until, "the pod has left", lambda: left(application, pod), 20)
            await crowd.each(10)
            print(f"\n{number} sessions on {pod}: {summary(crowd.records)}")
            return Deletion(pod, number, crowd.records)

    return asyncio.run(delete())


def left(application, pod):
    """Whether the route's status has the pod as taking nothing any more."""
    return all(e["pod"] != pod or e["state"] == "Draining" for e in application.status()["endpoints"])


def test_a_deleted_pod_moves_its_sessions_once_and_no_other(deletion):
    assert failures(deletion.records) == []
    moved = moves(deletion.records)
    assert {before for _, before, _, _ in moved} == {deletion.pod}
    assert len(moved) == len({client for client, *_ in moved}) == deletion.sessions
    assert {notice for *_, notice in moved} == {"PodTerminated"}
    noticed = [record for record in deletion.records if record.notice]
    assert len(noticed) == deletion.sessions, "the notice comes once, with the first moved request"
    assert amnesia(deletion.records) == []


def test_status_and_event_name_pod_reason_and_number(application, deletion):
    # the proxies tell of their sessions one by one, so the number may grow first
    def told():
        found = [move for move in application.status()["lastMoves"] if move["pod"] == deletion.pod]
        return [(move["reason"], move["sessions"]) for move in found] == [
            ("PodTerminated", deletion.sessions)
        ]

    kube.until(f"{deletion.sessions} sessions of {deletion.pod} in the status", told, 20)

    def event():
        events = kube.get("-n", application.namespace, "events", "--field-selector", "reason=BindingsDropped")
        said = [(e["involvedObject"]["kind"], e["message"]) for e in events["items"]]
        return said == [("StickyRoute", f"{deletion.sessions} sessions left {deletion.pod}: PodTerminated")]

    kube.until("the Event", event, 20)


async def test_each_client_sees_one_pod_and_pods_get_equal_shares(application):
    await kube.off(kube.until, "three endpoints", lambda: application.settled(3), 30)
    async with application.crowd(300, fresh=True) as crowd:
        before = {pod: requests(application, pod) for pod in application.release.pods("proxy")}
        records = await crowd.each(20)
        print(f"\n{summary(records)}; sessions {dict(sessions(records))}")
        assert failures(records) == []
        assert moves(records) == []
        assert amnesia(records) == []
        assert [record for record in records if record.leaked or record.notice] == []
        shares = sessions(records)
        assert len(shares) == 3
        assert all(85 <= share <= 115 for share in shares.values()), shares
        after = {pod: requests(application, pod) for pod in before}
        served = {pod: after[pod] - before[pod] for pod in before}
        assert sum(served.values()) >= 6000
        assert min(served.values()) >= 1500, f"not spread over both proxies: {served}"


def requests(application, proxy):
    """Requests of the test's route that a proxy has counted."""
    return sum(
        value
        for name, value in application.release.metrics(proxy).items()
        if name.startswith("stickyroute_requests_total{") and f'namespace="{application.namespace}"' in name
    )


@pytest.fixture(scope="module")
def texts(application, deletion):
    """What a user reads, shown in the test's log too."""
    namespace = application.namespace
    kube.until("three endpoints", lambda: application.settled(3), 30)
    dropped = ("-n", namespace, "events", "--field-selector", "reason=BindingsDropped")
    kube.until("the Event", lambda: kube.get(*dropped)["items"], 20)
    shown = {
        "kubectl get sr": kube.kubectl("-n", namespace, "get", "sr"),
        "kubectl get sr -o wide": kube.kubectl("-n", namespace, "get", "sr", "-o", "wide"),
        "kubectl describe sr web": kube.kubectl("-n", namespace, "describe", "sr", "web"),
    }
    for command, text in shown.items():
        print(f"\n$ {command}\n{text}")
    return shown


def test_get_reads_well(texts, application):
    header, row = texts["kubectl get sr"].splitlines()
    assert header.split() == ["NAME", "HOSTS", "PERSISTENCE", "ENDPOINTS", "SESSIONS", "READY", "AGE"]
    name, host, persistence, endpoints, sessions_now, ready, _ = row.split()
    assert (name, host, persistence, endpoints, ready) == ("web", application.host, "Cookie", "3/3", "True")
    assert int(sessions_now) > 0
    wide = texts["kubectl get sr -o wide"].splitlines()[0].split()
    assert set(wide) >= {"PROXIES", "MOVED", "REASON", "MESSAGE"}


def test_describe_tells_pod_reason_and_number(texts):
    text = texts["kubectl describe sr web"]
    assert "managedFields" not in text
    assert re.search(r"Last Moves:\n(?:.*\n){0,3}\s+Reason:\s+PodTerminated", text), text
    assert re.search(r"BindingsDropped .* \d+ sessions left web-[\w-]+: PodTerminated", text), text
    for kind in ("Accepted", "ResolvedRefs", "Programmed", "Ready"):
        assert re.search(rf"Type:\s+{kind}\n", text), text
