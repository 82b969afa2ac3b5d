"""Health and metrics of the operator, on a port of their own.

`/healthz` fails when a restart would help: the resync is stuck, or the watches stay silent although they were
started anew. An API server that is away is no such case: proxies serve on, and a restart would only
forget counts.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from stickyroute_operator.endpointstate import present
from stickyroute_operator.handlers import Watches
from stickyroute_operator.ledger import ScopeView
from stickyroute_operator.publish import Publisher
from stickyroute_operator.reconcile import Reconciler
from stickyroute_operator.reporter import Reporter
from stickyroute_operator.resync import MISSES, Resync

STUCK = 3
"""Intervals without an attempt, or without a success while the API answers."""
DEAF = 3 * MISSES
"""LISTs in a row that brought what the watches had not, restarts in between."""

STILLBORN = 60
"""Starts of the watches in a row that came to nothing while the API answers."""


class Health:
    """Whether the operator lives, and what it counts. Parts appear as they start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.resync: Resync | None = None
        self.watches: Watches | None = None
        self.reconciler: Reconciler | None = None
        self.publisher: Publisher | None = None
        self.reporter: Reporter | None = None
        self.sessions: Callable[[], Mapping[str, ScopeView] | None] = lambda: None
        """The fleet's sessions by scope; None: not known yet, and a 0 would have autoscalers end pods."""
        self.waiting_for = "the first connection to the API server"
        """What the start waits for; empty: it is over."""
        self._clock = clock

    def trouble(self) -> str:
        """What a restart would cure; empty: nothing."""
        resync = self.resync
        if resync is None:
            return ""
        now = self._clock()
        longest = STUCK * resync.interval
        if now - resync.tried_at > longest:
            return f"no resync was tried for {now - resync.tried_at:.0f} s"
        if not resync.error and resync.succeeded_at is not None and now - resync.succeeded_at > longest:
            return f"the last resync is {now - resync.succeeded_at:.0f} s old"
        if not resync.error and self.watches is not None and self.watches.stillborn >= STILLBORN:
            return f"the watches ended {self.watches.stillborn} times as soon as they began"
        deaf = [kind for kind, missed in resync.missed.items() if missed >= DEAF]
        if deaf:
            return f"the watches on {', '.join(deaf)} show nothing, though they were started anew"
        return ""

    def lack(self) -> str:
        """Why the operator does not do its work yet; empty: it does."""
        if self.waiting_for:
            return f"waiting for {self.waiting_for}"
        if self.resync is None or self.resync.succeeded_at is None:
            return "nothing was listed yet"
        if self.reconciler is None or self.reconciler.version is None:
            return "nothing was published yet"
        return ""

    def registry(self) -> CollectorRegistry:
        """What `/metrics` tells."""
        registry = CollectorRegistry()
        registry.register(_Figures(self))
        return registry

    def app(self) -> web.Application:
        """`/healthz`, `/readyz`, `/metrics`."""
        registry = self.registry()

        async def healthz(_: web.Request) -> web.Response:
            return _answer(self.trouble())

        async def readyz(_: web.Request) -> web.Response:
            return _answer(self.lack())

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.add_routes(
            [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
        )
        return app


def _answer(problem: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")


class _Figures(Collector):
    """The figures as they stand when they are asked for."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def describe(self) -> list[Metric]:
        """Nothing beforehand: what is told depends on what has started."""
        return []

    def collect(self) -> Iterator[Metric]:
        health = self._health
        if (resync := health.resync) is not None:
            resyncs = CounterMetricFamily("stickyroute_resyncs", "LISTs of everything.", labels=["result"])
            for result, count in resync.counts.items():
                resyncs.add_metric([result], count)
            yield resyncs
            if resync.succeeded_at is not None:
                age = max(0.0, time.monotonic() - resync.succeeded_at)
                yield GaugeMetricFamily("stickyroute_resync_age_seconds", "Since the last good LIST.", age)
        if (reconciler := health.reconciler) is not None:
            yield CounterMetricFamily("stickyroute_reconciliations", "Translations made.", reconciler.runs)
            yield GaugeMetricFamily(
                "stickyroute_reconcile_seconds", "What the last translation took.", reconciler.took
            )
            if (version := reconciler.version) is not None:
                yield GaugeMetricFamily(
                    "stickyroute_snapshot_epoch", "Of the wanted snapshot.", version.epoch
                )
                yield GaugeMetricFamily(
                    "stickyroute_snapshot_revision", "Of the wanted snapshot.", version.revision
                )
            routes = reconciler.translation.verdicts if reconciler.translation else {}
            yield GaugeMetricFamily("stickyroute_routes", "Routes of this fleet.", len(routes))
            yield _expiries(reconciler)
            if (views := health.sessions()) is not None:
                yield from _sessions(reconciler, views)
        if (publisher := health.publisher) is not None:
            yield _proxies(publisher)
            yield from publisher.latency.collect()
        if (reporter := health.reporter) is not None:
            writes = CounterMetricFamily("stickyroute_status_writes", "Statuses written.", labels=["result"])
            for result, count in reporter.counts.items():
                writes.add_metric([result], count)
            yield writes


def _expiries(reconciler: Reconciler) -> Metric:
    expiries = GaugeMetricFamily(
        "stickyroute_certificate_expiry_seconds",
        "Until a served certificate ends; below 0: since.",
        labels=["namespace", "secret"],
    )
    now = datetime.now(UTC)
    served = reconciler.translation.certificates if reconciler.translation else {}
    for key, certificate in sorted(served.items()):
        expiries.add_metric(key.split("/"), (certificate.expires - now).total_seconds())
    return expiries


def _sessions(reconciler: Reconciler, views: Mapping[str, ScopeView]) -> Iterator[Metric]:
    """What scaling may go by: pods without a session are told of too."""
    labels = ["namespace", "route", "service"]
    pods = GaugeMetricFamily("stickyroute_pod_sessions", "Active sessions on a pod.", labels=[*labels, "pod"])
    services = GaugeMetricFamily(
        "stickyroute_service_sessions", "Active sessions on all pods of a Service.", labels=labels
    )
    verdicts = reconciler.translation.verdicts if reconciler.translation else {}
    for key, verdict in sorted(verdicts.items()):
        sums: dict[str, int] = {}
        for one in present(verdict, [views[scope] for scope in verdict.scopes if scope in views]):
            pods.add_metric([*key, one.service, one.endpoint.pod], one.sessions)
            sums[one.service] = sums.get(one.service, 0) + one.sessions
        for service, count in sums.items():
            services.add_metric([*key, service], count)
    yield pods
    yield services


def _proxies(publisher: Publisher) -> Metric:
    proxies = GaugeMetricFamily(
        "stickyroute_proxies", "Proxies of the fleet by what they serve.", labels=["ready", "state"]
    )
    wanted = publisher.wanted.version if publisher.wanted else None
    counts: dict[tuple[str, str], int] = {}
    for proxy in publisher.proxies.values():
        state = "current" if proxy.acked is not None and proxy.acked == wanted else "behind"
        place = ("true" if proxy.ready else "false", state)
        counts[place] = counts.get(place, 0) + 1
    for place, count in sorted(counts.items()):
        proxies.add_metric(list(place), count)
    return proxies
