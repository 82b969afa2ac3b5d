"""Pods' deletion cost: whose it is, when it is written, and that it is taken back."""

import pytest
from tests.unit.operator.builders import endpoint, pieces, route, rule, service, state

from stickyroute_api.reasons import EndpointState
from stickyroute_operator.cluster import NOT_FOUND, ApiError
from stickyroute_operator.costs import ANNOTATION, Cost, Costs, costs, is_noticeable
from stickyroute_operator.ledger import EndpointView, ScopeView, Totals
from stickyroute_operator.translate import translate

WEB = (
    service(),
    pieces(endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2"), endpoint("web-3", "10.0.0.3")),
)
POD = "default", "web-1"


def uid_of(made, pod):
    return next(one.id for ones in made.endpoints.values() for one in ones if one.pod == pod)


def test_a_pod_costs_its_sessions_in_all_scopes_that_ask():
    rules = [
        rule(),
        rule(name="own", path="/own", persistence={"type": "Cookie", "podDeletionCost": True}),
        rule(name="other", path="/other", persistence={"type": "Cookie"}),
    ]
    made = translate(state(route(rules=rules, persistence={"podDeletionCost": True}), *WEB))
    uids = {pod: uid_of(made, pod) for pod in ("web-1", "web-2", "web-3")}
    views = {
        scope: ScopeView(
            Totals(), tuple(EndpointView(uids[pod], pod, "web", count, 0) for pod, count in counts), (), 1.0
        )
        for scope, counts in {
            "default/shop/web": [("web-1", 40), ("web-2", 2)],
            "default/shop/own": [("web-1", 3)],
            "default/shop/other": [("web-3", 99)],
        }.items()
    }
    assert costs(made, views) == {
        ("default", pod): Cost(uids[pod], count) for pod, count in zip(uids, (43, 2, 0), strict=True)
    }
    assert costs(translate(state(route(rules=[rule()]), *WEB)), views) == {}


def test_a_pod_that_ends_costs_nothing_any_more():
    ending = pieces(
        endpoint("web-1", "10.0.0.1", ready=False, serving=True, terminating=True),
        endpoint("web-2", "10.0.0.2"),
    )
    made = translate(
        state(
            route(rules=[rule()], persistence={"podDeletionCost": True, "drainTimeout": "1h"}),
            service(),
            ending,
        )
    )
    states = {one.pod: one.state for ones in made.endpoints.values() for one in ones}
    assert states["web-1"] is EndpointState.DRAINING
    assert list(costs(made, {})) == [("default", "web-2")]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, 0, True),
        (None, 3, True),
        (0, 0, False),
        (0, 1, True),
        (1, 0, True),
        (20, 21, False),
        (20, 22, True),
        (20, 18, True),
        (1000, 1004, False),
        (1000, 995, True),
        (7, 7, False),
    ],
)
def test_only_what_is_noticeable_is_written(old, new, expected):
    assert is_noticeable(old, new) is expected


class Api:
    def __init__(self):
        self.written = []
        self.refusal = 0

    async def patch(self, resource, namespace, name, body, *, part=""):
        if self.refusal:
            raise ApiError("refused", self.refusal)
        assert (resource.plural, part) == ("pods", "")
        self.written.append(
            (namespace, name, body["metadata"]["uid"], body["metadata"]["annotations"][ANNOTATION])
        )


def made(api, lives=True):
    return Costs(api, lambda: None, lambda _pod, _uid: lives, pause=0.0)


async def test_what_has_changed_is_written_and_what_nobody_asks_for_taken_back():
    api = Api()
    found = made(api)
    for sessions in (40, 41, 50, 50):
        await found.step({POD: Cost("u1", sessions)})
    await found.step({POD: Cost("u2", 50)})
    await found.step({})
    await found.step({})
    assert api.written == [
        (*POD, "u1", "40"),
        (*POD, "u1", "50"),
        (*POD, "u2", "50"),
        (*POD, "u2", None),
    ]


async def test_a_pod_that_has_gone_is_forgotten():
    api = Api()
    found = made(api, lives=False)
    await found.step({POD: Cost("u1", 1)})
    await found.step({})
    assert len(api.written) == 1


@pytest.mark.parametrize(("status", "told"), [(403, 1), (NOT_FOUND, 0)])
async def test_what_is_refused_is_tried_again_and_told_once(caplog, status, told):
    api = Api()
    found = made(api)
    api.refusal = status
    for _ in range(3):
        await found.step({POD: Cost("u1", 1)})
    assert len(caplog.records) == told
    api.refusal = 0
    await found.step({POD: Cost("u1", 1)})
    assert len(api.written) == 1
