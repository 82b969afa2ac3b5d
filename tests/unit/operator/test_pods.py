"""What is read of a pod, and what its life does to its endpoint."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.operator.builders import endpoint, pieces, pod, route, service, state

from stickyroute_api.reasons import EndpointState
from stickyroute_operator.pods import GRACE, Pod
from stickyroute_operator.translate import translate

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DRAIN = {"drainTimeout": "10m"}
WEB = "default/web:80"


def manifest(*, status=None, spec=None, **meta):
    return {"metadata": {"name": "web-1", **meta}, "spec": spec or {}, "status": status or {}}


def container(started="", restarts=0):
    running = {"running": {"startedAt": started}} if started else {"waiting": {"reason": "CrashLoopBackOff"}}
    return {"restartCount": restarts, "state": running}


def owned(kind, name, **labels):
    owners = [{"kind": "Node", "name": "n"}, {"kind": kind, "name": name, "controller": True}]
    return {
        "ownerReferences": owners,
        "labels": {key.replace("_", "-"): value for key, value in labels.items()},
    }


@pytest.mark.parametrize(
    ("containers", "started", "restarts"),
    [
        (None, 0.0, 0),
        ([], 0.0, 0),
        ([container("2026-11-23T12:00:00Z")], NOW.timestamp(), 0),
        ([container("2026-11-23T12:00:00Z", 1), container("2026-11-23T11:00:00Z", 2)], NOW.timestamp(), 3),
        ([container(restarts=4), container("2026-11-23T12:00:00Z")], NOW.timestamp(), 4),
        ([container(restarts=4)], 0.0, 4),
    ],
)
def test_the_youngest_running_container_counts(containers, started, restarts):
    read = Pod.from_manifest(manifest(status={"containerStatuses": containers}))
    assert (read.started, read.restarts) == (started, restarts)


@pytest.mark.parametrize(
    ("meta", "spec", "deleted"),
    [
        ({}, {}, 0.0),
        (
            {"deletionTimestamp": "2026-11-23T12:01:00Z", "deletionGracePeriodSeconds": 60},
            {},
            NOW.timestamp(),
        ),
        (
            {"deletionTimestamp": "2026-11-23T12:10:00Z"},
            {"terminationGracePeriodSeconds": 600},
            NOW.timestamp(),
        ),
        ({"deletionTimestamp": "2026-11-23T12:00:30Z"}, {}, NOW.timestamp()),
        ({"deletionTimestamp": "2026-11-23T12:00:00Z", "deletionGracePeriodSeconds": 0}, {}, 1795435200.0),
    ],
)
def test_a_pod_was_deleted_its_grace_period_before_it_is_to_be_gone(meta, spec, deleted):
    assert Pod.from_manifest(manifest(spec=spec, **meta)).deleted == deleted


@pytest.mark.parametrize(("spec", "grace"), [({}, GRACE), ({"terminationGracePeriodSeconds": 0}, 0.0)])
def test_grace(spec, grace):
    assert Pod.from_manifest(manifest(spec=spec)).grace == grace


@pytest.mark.parametrize(
    ("meta", "owner", "stable", "cohort"),
    [
        ({}, "", "", ""),
        (
            owned("ReplicaSet", "web-7f9", pod_template_hash="7f9"),
            "Deployment/web",
            "",
            "default/Deployment/web/7f9",
        ),
        (owned("ReplicaSet", "bare"), "ReplicaSet/bare", "", ""),
        (
            owned("StatefulSet", "db", controller_revision_hash="db-1"),
            "StatefulSet/db",
            "default/web-1",
            "default/StatefulSet/db/db-1",
        ),
        (
            owned("DaemonSet", "agent", controller_revision_hash="5c"),
            "DaemonSet/agent",
            "",
            "default/DaemonSet/agent/5c",
        ),
        (
            owned("ReplicaSet", "web-9a", rollouts_pod_template_hash="9a"),
            "Deployment/web",
            "",
            "default/Deployment/web/9a",
        ),
        ({"labels": {"pod-template-hash": "7f9"}}, "", "", ""),
    ],
)
def test_whose_it_is(meta, owner, stable, cohort):
    read = Pod.from_manifest(manifest(**meta))
    assert (read.owner, read.stable, read.cohort) == (owner, stable, cohort)


def test_a_version_is_its_namespaces_own():
    """Else the end of one is taken for a change of policy while the other lives."""
    told = owned("ReplicaSet", "web-7f9", pod_template_hash="7f9")
    cohorts = {Pod.from_manifest(manifest(namespace=one, **told)).cohort for one in ("staging", "shop")}
    assert cohorts == {"staging/Deployment/web/7f9", "shop/Deployment/web/7f9"}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_does_not_live(phase):
    assert not Pod.from_manifest(manifest(status={"phase": phase})).lives
    assert Pod.from_manifest(manifest(status={"phase": "Running"})).lives


class Story:
    """Translations that follow each other, a minute apart."""

    def __init__(self, **persistence):
        self.route = route(persistence=DRAIN | persistence)
        self.now = NOW
        self.last = None

    def tell(self, *objects, minutes=1, forget=False, at=WEB):
        """The endpoints by pod; without `at` the names of all sets."""
        self.now += timedelta(minutes=minutes)
        before = self.last.endpoints if self.last and not forget else {}
        told = state(self.route, service(), *objects, now=self.now, before=before)
        self.last = translate(told, self.last)
        assert self.last.endpoints == translate(told).endpoints
        return {one.pod: one for one in self.last.endpoints[at]} if at else set(self.last.endpoints)

    @property
    def seconds(self):
        return self.now.timestamp()


def on(name, **conditions):
    return endpoint(name, f"10.0.0.{name[-1]}", **conditions)


ENDING = {"ready": False, "serving": True, "terminating": True}


def test_a_drain_begins_when_it_is_first_seen_and_keeps_its_beginning():
    story = Story()
    assert story.tell(pieces(on("web-1")))["web-1"].draining_since == 0
    began = story.tell(pieces(on("web-1", **ENDING)))["web-1"].draining_since
    assert began == story.seconds
    assert story.tell(pieces(on("web-1", **ENDING | {"serving": False})))["web-1"].draining_since == began


def test_a_drain_begins_with_the_pods_deletion_where_that_is_known_also_after_a_restart():
    story = Story()
    gone = pod("web-1", deleted=story.seconds - 5)
    for forget in (False, True):
        told = story.tell(pieces(on("web-1", **ENDING)), gone, forget=forget)
        assert told["web-1"].draining_since == NOW.timestamp() - 5


@pytest.mark.parametrize("owner", ["StatefulSet/web", "Deployment/web"])
def test_what_bindings_name_stays_while_the_slice_has_a_pod_that_is_gone(owner):
    story = Story()
    told = story.tell(pieces(on("web-1")), pod("web-1", owner=owner, revision="7f9"))["web-1"]
    after = story.tell(pieces(on("web-1", **ENDING)))["web-1"]
    assert told.stable or told.cohort
    assert (after.stable, after.cohort) == (told.stable, told.cohort)


def test_an_endpoint_that_leaves_its_slices_drains_while_its_pod_lives():
    story = Story()
    alive = pod("web-1")
    before = story.tell(pieces(on("web-1"), on("web-2")), alive)
    told = story.tell(pieces(on("web-2")), alive)
    began = story.seconds
    assert told["web-1"] == before["web-1"].model_copy(
        update={"state": EndpointState.DRAINING, "draining_since": began}
    )
    assert story.last.until == began + 600
    assert story.tell(pieces(on("web-2")), alive, minutes=9)["web-1"].draining_since == began
    assert set(story.tell(pieces(on("web-2")), alive)) == {"web-2"}, "its drain is over"


def test_an_endpoint_that_comes_back_to_its_slices_serves_again():
    story = Story()
    story.tell(pieces(on("web-1")), pod("web-1"))
    story.tell(pieces(), pod("web-1"))
    again = story.tell(pieces(on("web-1")), pod("web-1"))["web-1"]
    assert (again.state, again.draining_since) == (EndpointState.SERVING, 0.0)


@pytest.mark.parametrize(
    ("persistence", "after"),
    [
        ({}, ()),
        ({}, (pod("web-1", deleted=1.0),)),
        ({}, (pod("web-1", ended=True),)),
        ({}, (pod("web-1", uid="another"),)),
        ({"drainTimeout": "0s"}, (pod("web-1"),)),
    ],
    ids=["unknown", "deleted", "ended", "another", "no drain"],
)
def test_an_endpoint_that_leaves_is_gone_when(persistence, after):
    story = Story(**persistence)
    story.tell(pieces(on("web-1"), on("web-2")), *after)
    assert set(story.tell(pieces(on("web-2")), *after)) == {"web-2"}


def test_a_restarted_container_is_told_and_one_that_is_down_is_not():
    story = Story()
    first = pod("web-1", started=100.0)
    assert story.tell(pieces(on("web-1")), first)["web-1"].started == 100
    assert story.tell(pieces(on("web-1")), replace(first, started=0.0))["web-1"].started == 100
    assert story.tell(pieces(on("web-1")), replace(first, started=170.0))["web-1"].started == 170


def test_what_did_not_change_keeps_its_identity():
    story = Story()
    objects = pieces(on("web-1"), on("web-2", **ENDING)), pod("web-1"), pod("web-2")
    story.tell(*objects)
    story.tell(*objects)  # what was published is an input of the next
    known = story.last
    story.tell(*objects, pod("elsewhere"))
    assert story.last.endpoints[WEB] is known.endpoints[WEB]
    assert story.last.outcomes["default", "shop"] is known.outcomes["default", "shop"]


def test_it_is_known_which_pods_it_depends_on():
    story = Story()
    story.tell(pieces(on("web-1"), on("web-2")), pod("web-1"))
    story.tell(pieces(on("web-2"), on("web-3")), pod("web-1"), pod("other"))
    assert story.last.pods == {("default", f"web-{number}") for number in (1, 2, 3)}


def test_a_drain_goes_on_when_the_pods_are_checked_otherwise_from_now_on():
    """Which gives their set another name."""
    story = Story()
    story.tell(pieces(on("web-1"), on("web-2"), on("web-3")), pod("web-1"))
    story.tell(pieces(on("web-2", **ENDING), on("web-3")), pod("web-1"))
    began = story.seconds
    story.route = route(persistence=DRAIN, healthCheck={"passive": {}})
    (name,) = story.tell(pieces(on("web-2", **ENDING), on("web-3")), pod("web-1"), at=None)
    assert name != WEB
    told = {one.pod: one.draining_since for one in story.last.endpoints[name]}
    assert told == {"web-1": began, "web-2": began, "web-3": 0.0}


def test_an_endpoint_that_another_operator_published_drains_only_where_it_may_be_connected_to():
    story = Story()
    story.tell(pieces(on("web-1"), on("web-2")), pod("web-1"), pod("web-2"))
    forged = story.last.endpoints[WEB][0].model_copy(update={"address": "169.254.169.254"})
    past = {WEB: (forged, story.last.endpoints[WEB][1])}
    told = state(story.route, service(), pieces(), pod("web-1"), pod("web-2"), now=story.now, before=past)
    assert [one.pod for one in translate(told).endpoints[WEB]] == ["web-2"]


def test_where_a_pod_is_reached():
    assert Pod.from_manifest(manifest()).addresses == ()
    assert Pod.from_manifest(manifest(status={"podIP": "10.0.0.1"})).addresses == ("10.0.0.1",)
    both = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    assert Pod.from_manifest(manifest(status=both)).addresses == ("10.0.0.1", "fd00::1")


def test_a_pod_that_left_its_slices_drains_only_at_an_address_that_is_still_its_own():
    """One whose sandbox is made anew has another; its old one may be another pod's by now."""
    story = Story()
    story.tell(pieces(on("web-1"), on("web-2")), pod("web-1"), pod("web-2"))
    there = {one.pod: one.address for one in story.last.endpoints[WEB]}
    story.tell(
        pieces(),
        pod("web-1", addresses=("fd00::1", there["web-1"])),
        pod("web-2", addresses=("10.9.9.9",)),
    )
    assert [one.pod for one in story.last.endpoints[WEB]] == ["web-1"]
