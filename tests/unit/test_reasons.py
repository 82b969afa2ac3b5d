"""Each end and each move of a session has one word, the same in log, metric, notice, status and Events."""

from datetime import UTC, datetime

import pytest
from tests.hostile import RETIRED
from tests.unit.operator.test_status import build, seen
from tests.unit.proxy.fleets import NOW, Request, fleet, pod
from tests.unit.proxy.test_failover import REST, lose, routed, start
from tests.unit.proxy.test_rebalance import LONG, allow, crowded

from stickyroute_api.reasons import EXPIRED, MOVED, BindingReason, EventReason
from stickyroute_api.snapshot import Override
from stickyroute_operator.events import ended, ends, events
from stickyroute_operator.ledger import Ledger, merge
from stickyroute_proxy.accesslog import _decision
from stickyroute_proxy.affinity.decision import NOTICES, Decision
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.affinity.retry import rechoose
from stickyroute_proxy.metrics import _served
from stickyroute_proxy.slices import at_once


def lost(how):
    def cause():
        proxy, client = start()
        lose(proxy, how)
        return proxy, client.ask(proxy)

    return cause


def later(seconds):
    def cause():
        proxy, client = start()
        proxy.now += seconds
        return proxy, client.ask(proxy)

    return cause


def served_anew(**options):
    """Under another snapshot."""

    def cause():
        proxy, client = start()
        proxy.tick(10)
        given = {"overrides": options.get("overrides", ()), "policy": options.get("policy")}
        more = {"keys": options["keys"]} if "keys" in options else {}
        web = (pod("web-1", started=options.get("started", 0.0)), *REST)
        proxy.apply(fleet(routed(**given), 2, web=web, **more))
        return proxy, client.ask(proxy)

    return cause


def refused():
    proxy, client = start()
    rule, facts = proxy.rule(), Request()
    return proxy, rechoose(rule, facts, client.ask(proxy), proxy.now, proxy.random, tried=())


def rebalanced():
    proxy, clients = crowded()
    allow(proxy, 1)
    proxy.now += LONG
    return proxy, next(one for one in (each.ask(proxy) for each in clients) if one.notice)


def forged():
    proxy, client = start()
    # Behind the number of its key, or the token would be one of a key that is unknown.
    token = client.token
    client.token = token[:20] + (b"B" if token[20:21] == b"A" else b"A") + token[21:]
    return proxy, client.ask(proxy)


CAUSES = {
    BindingReason.INVALID_TOKEN: forged,
    BindingReason.KEY_RETIRED: served_anew(keys=RETIRED),
    BindingReason.EPOCH_RAISED: served_anew(policy={"epoch": 1}),
    BindingReason.ABSOLUTE_TIMEOUT: later(9006),
    BindingReason.IDLE_TIMEOUT: later(1200),
    BindingReason.RELEASED: served_anew(overrides=(Override(pod="web-1", action="Release", since=NOW + 5),)),
    BindingReason.REBALANCED: rebalanced,
    BindingReason.CONTAINER_RESTARTED: served_anew(started=NOW + 7),
    BindingReason.POD_TERMINATED: lost("gone"),
    BindingReason.POD_NOT_READY: lost("not ready"),
    BindingReason.POD_UNHEALTHY: lost("unhealthy"),
    BindingReason.POD_DISABLED: lost("disabled"),
    BindingReason.CONNECT_FAILED: refused,
    BindingReason.POLICY_CHANGED: lost("elsewhere"),
}
STAYS = {BindingReason.BOUND, BindingReason.NEW, BindingReason.UNPINNED, BindingReason.HASHED}
NO_ANSWER = {BindingReason.NO_ENDPOINT, BindingReason.AT_LIMIT}
NO_SESSION = {BindingReason.ENDPOINTS_CHANGED}
"""A value's pod changed: it is told, and no session of which status could tell."""
TOLD_IN_STATUS = MOVED - NO_SESSION
"""With the pod that was left."""
ENDED = EXPIRED | {BindingReason.KEY_RETIRED}
"""No pod has a part in these. Of the others status has only counts: `new` for bad tokens, and `restarted`."""


def test_each_reason_has_its_row():
    assert CAUSES.keys() | STAYS | NO_ANSWER | NO_SESSION == set(BindingReason)
    assert CAUSES.keys() >= TOLD_IN_STATUS | EXPIRED


@pytest.mark.parametrize("reason", CAUSES)
def test_one_word_everywhere(reason):
    proxy, decision = CAUSES[reason]()
    assert decision.reason is reason
    assert f'"reason":"{reason.value}"' in _decision(decision)
    counted = {
        sample[1][-1]: sample[2]
        for sample in _served(proxy.table)
        if sample[0] == "stickyroute_decisions" and sample[1][-1] not in STAYS
    }
    assert counted == {reason.value: 1}
    is_told = reason in MOVED or reason is BindingReason.CONTAINER_RESTARTED
    assert decision.notice == (reason.value.encode() if is_told else None)

    views = merge(Ledger().add(at_once(report(proxy.table, "proxy-1", NOW, proxy.now))))
    view = views["shop/shop/web"]
    assert (view.totals.expired, view.totals.moved) == (reason in EXPIRED, reason in MOVED)
    built = build(seen(scopes=[view]), None, datetime.fromtimestamp(proxy.now, UTC))
    words = [(move.pod, move.reason) for move in built.last_moves]
    told = {one.reason: one.message for one in events(None, built)}
    dropped = [told[one] for one in (EventReason.BINDINGS_DROPPED,) if one in told]
    counts = [(one.reason, one.sessions) for one in built.sessions.ended]
    if reason in TOLD_IN_STATUS:
        assert words == [("web-1", reason)]
        (message,) = dropped
        assert message.endswith(f" left web-1: {reason.value}")
    else:
        assert (words, dropped) == ([], [])
    if reason in ENDED:
        assert counts == [(reason, 1)]
        assert ended(ends(built.sessions)).message == f"1 session ended: {reason.value}"
    else:
        assert counts == []


@pytest.mark.parametrize("reason", sorted(STAYS | NO_ANSWER | NO_SESSION))
def test_what_ends_no_session_has_its_word_in_log_and_metric(reason):
    proxy, _ = start()
    proxy.scope().count(reason)
    words = {sample[1][-1] for sample in _served(proxy.table) if sample[0] == "stickyroute_decisions"}
    assert reason.value in words
    assert f'"reason":"{reason.value}"' in _decision(Decision(None, reason))
    assert (reason in NOTICES) == (reason in NO_SESSION)
