"""Which scopes' cookies a browser would send together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.builders import endpoint, pieces, pod, route, rule, service, state

from stickyroute_api.reasons import ConditionType
from stickyroute_operator.translate import cookies, translate

NAMED = {"sessionName": "sid"}
OLD, NEW = 1.0, 2.0


def cookie(**attributes):
    return NAMED | {"cookie": attributes}


def warnings(*routes, more=()):
    services = [service(name) for name in ("web", "api")]
    translation = translate(state(*routes, *services, *more, allow_shared_hosts=True))
    assert all(verdict.accepted.status for verdict in translation.verdicts.values())
    return {
        key[1]: {str(kind): verdict.message for kind, verdict in verdict.warnings}
        for key, verdict in translation.verdicts.items()
    }


def old(hosts, persistence=NAMED, path="/"):
    return route("old", created=OLD, hosts=hosts, persistence=persistence, rules=[rule(path=path)])


def new(hosts, persistence=NAMED, path="/new"):
    return route("new", "theirs", created=NEW, hosts=hosts, persistence=persistence, rules=[rule(path=path)])


@pytest.mark.parametrize(
    ("older", "newer", "meet"),
    [
        (old(["a.example.com"]), new(["a.example.com"]), True),
        (old(["a.example.com"]), new(["b.example.com"]), False),
        (old(["a.example.com"]), new(["a.example.com"], {"sessionName": "other"}), False),
        (old(["a.example.com"], {}), new(["a.example.com"], {}), False),
        (old(["a.example.com"], {"type": "None"}), new(["a.example.com"]), False),
        (old([]), new(["a.example.com"]), True),
        (old(["a.example.com"]), new([]), True),
        (old(["*.example.com"]), new(["a.example.com"]), True),
        (old(["a.example.com"]), new(["*.example.com"]), True),
        (old(["*.example.com"]), new(["example.com"]), False),
        (old(["*.example.com"]), new(["*.a.example.com"]), True),
        (old(["*.a.example.com"]), new(["*.b.example.com"]), False),
        # A domain makes the cookie reach hosts that its own route does not serve, either way round.
        (old(["a.example.com"], cookie(domain="example.com")), new(["b.example.com"]), True),
        (old(["b.example.com"]), new(["a.example.com"], cookie(domain="example.com")), True),
        (old(["a.b.example.com"], cookie(domain="b.example.com")), new(["example.com"]), False),
        # A path keeps cookies apart only where no request of either scope is below it.
        (old(["a.test"], cookie(path="/old"), "/old"), new(["a.test"], cookie(path="/new"), "/new"), False),
        (old(["a.test"], cookie(path="/old"), "/"), new(["a.test"], cookie(path="/new"), "/new"), False),
        (old(["a.test"], cookie(path="/"), "/old"), new(["a.test"], cookie(path="/new"), "/new"), True),
        (old(["a.test"], cookie(path="/ne"), "/old"), new(["a.test"], cookie(path="/new"), "/new"), False),
        (old(["a.test"], cookie(path="/new/x"), "/old"), new(["a.test"], cookie(path="/"), "/new"), True),
    ],
)
def test_the_younger_route_is_told(older, newer, meet):
    told = warnings(older, newer)
    assert told["old"] == {}
    assert set(told["new"]) == ({"CookieConflict"} if meet else set())
    assert warnings(newer, older) == told
    if meet:
        message = told["new"]["CookieConflict"]
        assert "cookie sid of scope web" in message
        assert "older scope web of route default/old" in message
        assert "sessionName" in message


def test_two_scopes_of_one_route_meet_too():
    rules = [rule("a", persistence=NAMED), rule("b", "api", path="/b", persistence=NAMED)]
    told = warnings(route(hosts=["a.example.com"], rules=rules))
    assert "cookie sid of scope b" in told["shop"]["CookieConflict"]
    assert "older scope a of this route" in told["shop"]["CookieConflict"]


def test_rules_of_one_scope_share_its_cookie():
    rules = [rule("a"), rule("b", path="/b")]
    assert warnings(route(persistence=NAMED, rules=rules)) == {"shop": {}}


def test_a_route_that_is_not_served_takes_no_part():
    routes = old(["a.example.com"]), new(["a.example.com"])
    verdicts = translate(state(*routes, service())).verdicts  # the host is the older one's namespace's
    assert not verdicts["theirs", "new"].accepted.status
    assert verdicts["default", "old"].warnings == verdicts["theirs", "new"].warnings == ()


labels = st.sampled_from(["a", "b"])
patterns = st.one_of(
    st.just(""),
    st.builds(
        lambda wild, names: f"{'*.' if wild else ''}{'.'.join(names)}",
        st.booleans(),
        st.lists(labels, min_size=1, max_size=4),
    ),
)


@given(
    st.lists(st.lists(patterns, min_size=1, max_size=3), max_size=6),
    st.lists(patterns, min_size=1, max_size=3),
)
def test_the_index_finds_what_a_look_at_every_pair_finds(held, asked):
    index = cookies._Hosts()
    for number, one in enumerate(held):
        index.add(one, number)
    assert index.overlapping(asked) == {
        number
        for number, one in enumerate(held)
        if any(cookies._overlap(mine, theirs) for mine in one for theirs in asked)
    }


DEPLOYMENT = (
    "Pods of Deployment web are killed 30 s after their deletion, before drainTimeout 1m and 10 s to close"
    " tunnels are over: set spec.template.spec.terminationGracePeriodSeconds of Deployment web to 70 or more,"
    " or shorten drainTimeout"
)
ALONE = (
    "Pod web-1 is killed 0 s after its deletion, before drainTimeout 1s500ms and 10 s to close tunnels are"
    " over: set spec.terminationGracePeriodSeconds of Pod web-1 to 12 or more, or shorten drainTimeout"
)
PODS = pieces(endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2"))


@pytest.mark.parametrize(
    ("pods", "drain", "message"),
    [
        ((), "10m", ""),
        ((pod("web-1", grace=30.0, owner="Deployment/web"),), "0s", ""),
        ((pod("web-1", grace=70.0, owner="Deployment/web"),), "1m", ""),
        (
            (
                pod("web-1", grace=69.0, owner="Deployment/web"),
                pod("web-2", grace=30.0, owner="Deployment/web"),
            ),
            "1m",
            DEPLOYMENT,
        ),
        (
            (pod("web-1", grace=0.0),),
            "1500ms",
            ALONE,
        ),
    ],
)
def test_a_grace_period_that_is_shorter_than_the_drain_is_told(pods, drain, message):
    told = warnings(route(persistence={"drainTimeout": drain}), more=(PODS, *pods))["shop"]
    assert told == ({str(ConditionType.GRACE_PERIOD_TOO_SHORT): message} if message else {})
