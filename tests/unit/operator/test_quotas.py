"""Limits shared out over proxies: never exceeded, whatever comes late or never, and never left unused."""

import base64
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyroute_api.affinity import AffinityReport, EndpointSessions, ScopeReport
from stickyroute_api.leases import Lease, Leases
from stickyroute_api.shares import Lent
from stickyroute_api.snapshot import SessionLimits
from stickyroute_operator.ledger import Ledger, merge
from stickyroute_operator.quotas import Limited, quotas

SCOPE = "shop/route/web"
POD = "uid-0"


def ids(numbers):
    return base64.b64encode(b"".join(number.to_bytes(8, "big") for number in numbers)).decode()


class Proxy:
    """What a proxy does of it: sessions by number, those that are known and those that are pending."""

    def __init__(self, name, own):
        self.name = name
        self.own = own
        self.placed = 0
        self.known, self.pending = set(), set()
        self.lease = None
        self.leased = (0, 0)

    @property
    def ceiling(self):
        if self.lease is not None:
            return self.lease
        return max(0, self.placed + self.own - len(self.known) - len(self.pending))

    def place(self, session):
        if self.placed < self.ceiling:
            self.placed += 1
            self.pending.add(session)

    def obey(self, leases):
        if leases.number > self.leased:
            self.leased = leases.number
            self.lease = leases.scopes.get(SCOPE, {}).get(POD, Lease(placed=self.lease)).placed

    def report(self):
        row = EndpointSessions(
            endpoint=POD,
            pod="web-0",
            service="web",
            active=len(self.known),
            in_flight=0,
            placed=self.placed,
            pending=len(self.pending),
            ceiling=self.ceiling,
            ids=ids(self.known),
            pending_ids=ids(self.pending),
        )
        return AffinityReport(
            proxy=self.name,
            started=1.0,
            epoch=1,
            revision=1,
            leased=self.leased,
            scopes={SCOPE: ScopeReport(endpoints=(row,))},
        )


class Operator:
    def __init__(self, limit, proxies):
        self.limited = {SCOPE: Limited(SessionLimits(sessions=limit), frozenset({POD}))}
        self.proxies = {proxy.name: True for proxy in proxies}
        self.ledger = Ledger()
        self.lent = {}
        self.sequence = 0

    def lend(self):
        """The leases that are sent."""
        self.sequence += 1
        told = self.ledger.running
        lent = {
            name: self.lent.get(name, Lent()).heard(told[name].leased if name in told else (0, 0))
            for name in self.proxies
        }
        found = quotas(
            self.limited, self.ledger, merge(self.ledger), self.proxies, lent=lent, sequence=self.sequence
        )
        sent = {
            name: Leases(fleet="f", epoch=1, sequence=self.sequence, scopes=scopes)
            for name, scopes in found.items()
        }
        self.lent = {name: lent[name].add(leases) for name, leases in sent.items()}
        return sent


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**32), st.booleans())
def test_the_fleet_stays_below_its_limit_whatever_comes_late(  # noqa: C901 - what may happen, case by case
    count, limit, seed, wander
):
    """Exactly; where sessions `wander` between proxies, reports of different moments may miss some."""
    random = Random(seed)
    proxies = [Proxy(f"proxy-{number}", max(1, limit // count)) for number in range(count)]
    operator = Operator(limit, proxies)
    under_way, reports, numbers = [], [], 0
    most = max(limit, count) + wander * count

    def report_all():
        """A minute or more has gone by: everybody has reported meanwhile."""
        reports.clear()
        for one in proxies:
            operator.ledger = operator.ledger.add(one.report())

    for _ in range(400):
        proxy = random.choice(proxies)
        match random.randrange(10):
            case 0:
                under_way += [(proxy, leases) for proxy, leases in _to(proxies, operator.lend())]
            case 1 if under_way:
                receiver, leases = under_way.pop(random.randrange(len(under_way)))
                receiver.obey(leases)
            case 2:
                reports.append(proxy.report())
            case 3 if reports:
                # Those of one proxy come in order; of several, in any.
                name = random.choice(reports).proxy
                report = next(one for one in reports if one.proxy == name)
                reports.remove(report)
                operator.ledger = operator.ledger.add(report)
            case 4 if proxy.pending:
                session = proxy.pending.pop()
                proxy.known.add(session)
            case 5 if proxy.known and random.random() < 0.3:
                report_all()
                proxy.known.pop()
            case 6 if proxy.pending and random.random() < 0.3:
                report_all()
                proxy.pending.pop()
            case 7 if (
                wander and proxy.pending and count > 1 and all(one.lease is not None for one in proxies)
            ):
                # It comes back to another. Without leases neither could know that both count it.
                other = random.choice([one for one in proxies if one is not proxy])
                other.known.add(random.choice(sorted(proxy.pending)))
            case _:
                numbers += 1
                proxy.place(numbers)
        present = set().union(*(one.known | one.pending for one in proxies))
        assert len(present) <= most


def _to(proxies, sent):
    return [(proxy, sent[proxy.name]) for proxy in proxies]


@pytest.mark.parametrize(("count", "limit"), [(1, 1), (2, 1), (2, 7), (3, 2), (4, 40)])
def test_a_pod_is_filled_to_its_limit_by_whoever_gets_the_clients(count, limit):
    proxies = [Proxy(f"proxy-{number}", max(1, limit // count)) for number in range(count)]
    for busy in proxies:
        for proxy in proxies:
            proxy.__init__(proxy.name, proxy.own)
        operator = Operator(limit, proxies)
        numbers = 0
        for _ in range(60):
            for proxy in proxies:
                operator.ledger = operator.ledger.add(proxy.report())
            for proxy, leases in _to(proxies, operator.lend()):
                proxy.obey(leases)
            for _ in range(limit):
                numbers += 1
                busy.place(numbers)
            busy.known |= busy.pending
            busy.pending.clear()
        assert len(busy.known) == limit


def test_a_proxy_that_has_not_told_keeps_its_own_part():
    one, other = Proxy("a", 5), Proxy("b", 5)
    operator = Operator(10, [one, other])
    operator.ledger = operator.ledger.add(one.report())
    sent = operator.lend()
    assert sent["a"].scopes == {SCOPE: {POD: Lease(placed=5)}}
    assert sent["b"].scopes == {}


def test_requests_are_shared_out_by_those_in_flight():
    operator = Operator(10, [Proxy("a", 5), Proxy("b", 5)])
    operator.limited = {SCOPE: Limited(SessionLimits(requests=10), frozenset({POD}))}
    busy = Proxy("a", 5).report()
    (row,) = busy.scopes[SCOPE].endpoints
    busy = busy.model_copy(
        update={"scopes": {SCOPE: ScopeReport(endpoints=(row.model_copy(update={"in_flight": 6}),))}}
    )
    operator.ledger = operator.ledger.add(busy)
    sent = operator.lend()
    assert [sent[name].scopes[SCOPE][POD] for name in "ab"] == [Lease(requests=8), Lease(requests=2)]
