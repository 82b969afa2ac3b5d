"""Metrics: counted as plain integers where things happen, named and labelled only when they are read.

Labels are bounded by what is configured: routes, scopes, reasons and the pods behind them. No value of a
request ever becomes a label.
"""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.table import Table
from stickyroute_proxy.wire.counters import BUCKETS, Counters, RuleCounters
from stickyroute_proxy.wire.listener import DataPlane

SCOPE = ("namespace", "route", "scope")


def registry(plane: DataPlane, receiver: Receiver, proxy: str, version: str) -> CollectorRegistry:
    """What the admin port exposes."""
    found = CollectorRegistry(auto_describe=False)
    found.register(ProxyCollector(plane, receiver, proxy, version))
    ProcessCollector(registry=found)
    PlatformCollector(registry=found)
    GCCollector(registry=found)
    return found


class ProxyCollector(Collector):
    """Reads the data plane's and the receiver's counters."""

    def __init__(self, plane: DataPlane, receiver: Receiver, proxy: str, version: str) -> None:
        self._plane = plane
        self._receiver = receiver
        self._proxy = proxy
        self._version = version

    def describe(self) -> list[Metric]:
        """None: what there is depends on what is served."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._snapshot()
        if (table := self._plane.table) is not None:
            yield from sessions(table)
            yield from endpoints(table)
        yield from traffic(self._plane.counters)

    def _snapshot(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "stickyroute_proxy_info", "The program that runs.", labels=("proxy", "fleet", "version")
        )
        build.add_metric((self._proxy, self._receiver.fleet, self._version), 1)
        yield build
        held = self._receiver.version
        yield GaugeMetricFamily(
            "stickyroute_snapshot_epoch", "Epoch of the snapshot in use.", held.epoch if held else 0
        )
        yield GaugeMetricFamily(
            "stickyroute_snapshot_revision", "Revision of the snapshot in use.", held.revision if held else 0
        )
        yield CounterMetricFamily(
            "stickyroute_pushes", "Snapshots and deltas taken from the operator.", self._receiver.pushes
        )
        yield CounterMetricFamily(
            "stickyroute_pushes_refused", "Snapshots and deltas refused.", self._receiver.refusals
        )


def sessions(table: Table) -> Iterator[Metric]:
    """What happened to sessions, by scope."""
    decisions = CounterMetricFamily(
        "stickyroute_decisions", "Requests by why they went where they went.", labels=(*SCOPE, "reason")
    )
    new = CounterMetricFamily("stickyroute_sessions_new", "Sessions that began.", labels=SCOPE)
    moved = CounterMetricFamily("stickyroute_sessions_moved", "Sessions that lost their pod.", labels=SCOPE)
    expired = CounterMetricFamily(
        "stickyroute_sessions_expired", "Sessions that came back after the end of a timer.", labels=SCOPE
    )
    rejected = CounterMetricFamily(
        "stickyroute_requests_rejected", "Requests for which there was no endpoint.", labels=SCOPE
    )
    known = GaugeMetricFamily(
        "stickyroute_sessions", "Sessions that this proxy knows on a pod.", labels=(*SCOPE, "service", "pod")
    )
    for scope in table.scopes.values():
        labels = scope.id.split("/", 2)
        for reason, count in scope.decisions().items():
            decisions.add_metric((*labels, str(reason)), count)
        new.add_metric(labels, scope.new)
        moved.add_metric(labels, scope.moved)
        expired.add_metric(labels, scope.expired)
        rejected.add_metric(labels, scope.rejected)
        for place in scope.sessions.places.values():
            known.add_metric((*labels, place.service, place.pod), len(place.sessions))
    yield from (decisions, new, moved, expired, rejected, known)


def endpoints(table: Table) -> Iterator[Metric]:
    """What runs on each pod now."""
    in_flight = GaugeMetricFamily(
        "stickyroute_requests_in_flight", "Requests on a pod now.", labels=("service", "pod")
    )
    counts: dict[tuple[str, str], int] = {}
    for endpoint in table.endpoints():
        key = endpoint.service, endpoint.pod
        counts[key] = counts.get(key, 0) + endpoint.in_flight
    for labels, count in counts.items():
        in_flight.add_metric(labels, count)
    yield in_flight


def traffic(counters: Counters) -> Iterator[Metric]:
    """What passed through."""
    requests = CounterMetricFamily(
        "stickyroute_requests",
        "Exchanges by the class of their answer; none: the client had gone. Without a route: none matched.",
        labels=("namespace", "route", "rule", "code"),
    )
    seconds = HistogramMetricFamily(
        "stickyroute_request_seconds",
        "From a request's head to its answer's end.",
        labels=("namespace", "route", "rule"),
    )
    rules = {("/", ""): counters.unrouted, **counters.rules}
    for (route, rule), counted in rules.items():
        labels = (*route.split("/", 1), rule)
        for digit, number in enumerate(counted.classes):
            if number:
                requests.add_metric((*labels, f"{digit}xx" if digit else "none"), number)
        seconds.add_metric(labels, _buckets(counted), counted.seconds)
    yield from (requests, seconds)
    refused = CounterMetricFamily(
        "stickyroute_answers_own", "Answers that the proxy gave itself, by status.", labels=("code",)
    )
    for status, number in counters.refused.items():
        refused.add_metric((str(status),), number)
    yield refused
    shed = CounterMetricFamily(
        "stickyroute_shed", "Connections and requests turned away, by cause.", labels=("cause",)
    )
    for cause, number in counters.shed.items():
        shed.add_metric((cause,), number)
    yield shed
    for name, text, number in (
        ("connects", "Connections opened to pods.", counters.connects),
        ("connect_failures", "Connections to pods that failed.", counters.connect_failures),
        ("retries", "Further attempts on another connection or pod.", counters.retries),
        ("retries_denied", "Further attempts that the retry budget did not allow.", counters.retries_denied),
        ("queued", "Requests that had to wait for room on a pod.", counters.queued_total),
        ("received_bytes", "Bytes of request bodies.", counters.received_bytes),
        ("sent_bytes", "Bytes of answer bodies.", counters.sent_bytes),
        ("connections", "Connections that clients opened.", counters.connections),
        (
            "access_log_dropped",
            "Lines of the access log dropped because its reader is behind.",
            counters.access_log_dropped,
        ),
        (
            "access_log_failed",
            "Lines of the access log that could not be written.",
            counters.access_log_failed,
        ),
    ):
        yield CounterMetricFamily(f"stickyroute_{name}", text, number)
    for name, text, number in (
        ("connections_open", "Connections of clients now.", counters.open_connections),
        ("exchanges", "Exchanges under way now.", counters.exchanges),
        ("requests_queued", "Requests that wait for room on a pod now.", counters.queued),
        ("tunnels", "WebSocket tunnels open now.", counters.tunnels),
        ("upstream_connections", "Connections to pods now.", counters.upstreams),
    ):
        yield GaugeMetricFamily(f"stickyroute_{name}", text, number)


def _buckets(counted: RuleCounters) -> list[tuple[str, float]]:
    """Cumulated, as the exposition format has them."""
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    return list(zip(bounds, accumulate(counted.buckets), strict=True))
