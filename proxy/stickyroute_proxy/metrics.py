"""Metrics: counted as plain integers where things happen, named and labelled only when they are read.

Labels are bounded by what is configured: routes, scopes, reasons and the pods behind them. No value of a
request ever becomes a label.

What a process counted is a plain mapping, so that several workers' can be added up; `FAMILIES` says what it
means.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from stickyroute_proxy.health.watch import Watch
from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.table import Table
from stickyroute_proxy.wire.counters import Counters


class Family(NamedTuple):
    """What the samples of one name mean."""

    kind: Literal["counter", "gauge", "histogram"]
    """Whatever it is, its samples are added up over workers."""
    text: str
    labels: tuple[str, ...] = ()
    of: str = ""
    """The attribute of `Counters` that it is, a mapping where it has a label; empty: `read` or `about` knows
    where it comes from."""


Value = float | list[float]
"""A histogram's: the buckets, not cumulated, then the sum."""
Samples = dict[str, dict[tuple[str, ...], Value]]
"""Values by the family's name and the labels' values."""

_SCOPE: Final = ("namespace", "route", "scope")
_RULE: Final = ("namespace", "route", "rule")

FAMILIES: Final[Mapping[str, Family]] = {
    # The proxy
    "stickyroute_proxy_info": Family("gauge", "The program that runs.", ("proxy", "fleet", "version")),
    "stickyroute_snapshot_epoch": Family("gauge", "Epoch of the snapshot in use."),
    "stickyroute_snapshot_revision": Family("gauge", "Revision of the snapshot in use."),
    "stickyroute_pushes": Family("counter", "Snapshots and deltas taken from the operator."),
    "stickyroute_pushes_refused": Family("counter", "Snapshots and deltas refused."),
    "stickyroute_workers": Family("gauge", "Worker processes that serve now."),
    "stickyroute_worker_restarts": Family("counter", "Worker processes that ended and were replaced."),
    "stickyroute_certificates_unusable": Family(
        "gauge", "Certificates of the snapshot that OpenSSL refuses; each worker counts them."
    ),
    # Sessions
    "stickyroute_decisions": Family(
        "counter", "Requests by why they went where they went.", (*_SCOPE, "reason")
    ),
    "stickyroute_sessions_new": Family("counter", "Sessions that began.", _SCOPE),
    "stickyroute_sessions_moved": Family("counter", "Sessions that lost their pod.", _SCOPE),
    "stickyroute_sessions_expired": Family(
        "counter", "Sessions that came back after the end of a timer.", _SCOPE
    ),
    "stickyroute_requests_rejected": Family("counter", "Requests for which there was no endpoint.", _SCOPE),
    "stickyroute_clashes": Family(
        "counter", "Cookies and headers of applications dropped, for they have the name of ours.", _SCOPE
    ),
    "stickyroute_sessions": Family(
        "gauge",
        "Sessions known on a pod; one that several workers know counts at each.",
        (*_SCOPE, "service", "pod"),
    ),
    # Requests
    "stickyroute_requests": Family(
        "counter",
        "Exchanges by the class of their answer; none: the client had gone. Without a route: none matched.",
        (*_RULE, "code"),
    ),
    "stickyroute_request_seconds": Family("histogram", "From a request's head to its answer's end.", _RULE),
    "stickyroute_requests_in_flight": Family(
        "gauge", "Requests on a pod now.", ("namespace", "service", "pod")
    ),
    "stickyroute_answers_own": Family(
        "counter", "Answers that the proxy gave itself, by status.", ("code",), of="refused"
    ),
    "stickyroute_queued": Family("gauge", "Requests that wait for room on a pod now.", of="queued"),
    "stickyroute_queued_requests": Family(
        "counter", "Requests that had to wait for room on a pod.", of="queued_total"
    ),
    "stickyroute_shed": Family(
        "counter", "Connections and requests that were turned away, by cause.", ("cause",), of="shed"
    ),
    "stickyroute_connects": Family("counter", "Connections opened to pods.", of="connects"),
    "stickyroute_connect_failures": Family(
        "counter", "Connections to pods that failed.", of="connect_failures"
    ),
    "stickyroute_retries": Family("counter", "Further attempts on another connection or pod.", of="retries"),
    "stickyroute_retries_denied": Family(
        "counter", "Further attempts that the retry budget did not allow.", of="retries_denied"
    ),
    "stickyroute_health_checks": Family("counter", "Active health checks by their result.", ("result",)),
    "stickyroute_ejections": Family("counter", "Pods ejected because they failed clients in a row."),
    "stickyroute_pods_out": Family(
        "gauge",
        "1 for a pod that health checks found Unhealthy or Ejected, at each worker that finds it so.",
        ("namespace", "service", "pod", "state"),
    ),
    "stickyroute_received_bytes": Family("counter", "Bytes of request bodies.", of="received_bytes"),
    "stickyroute_sent_bytes": Family("counter", "Bytes of answer bodies.", of="sent_bytes"),
    "stickyroute_connections": Family("counter", "Connections that clients opened.", of="connections"),
    "stickyroute_connections_open": Family("gauge", "Connections of clients now.", of="open_connections"),
    "stickyroute_handshakes": Family(
        "counter", "TLS handshakes of clients that came to their end.", of="handshakes"
    ),
    "stickyroute_connections_unopened": Family(
        "counter",
        "Connections of clients that ended in the PROXY header or the TLS handshake, by cause.",
        ("cause",),
        of="openings_failed",
    ),
    "stickyroute_pod_handshakes_failed": Family(
        "counter",
        "Connections to pods that failed in the TLS handshake, by cause.",
        ("cause",),
        of="endpoint_handshakes_failed",
    ),
    "stickyroute_access_log_dropped": Family(
        "counter",
        "Lines of the access log dropped because its reader is behind.",
        of="access_log_dropped",
    ),
    "stickyroute_access_log_failed": Family(
        "counter", "Lines of the access log that could not be written.", of="access_log_failed"
    ),
    # The store of learned keys
    "stickyroute_store_lookups": Family(
        "counter",
        "Look-ups of learned keys: local, hit, miss, late (longer than a request waits), error (no store).",
        ("result",),
        of="store_lookups",
    ),
    "stickyroute_store_reachable": Family(
        "gauge", "Worker processes that reach the store.", of="store_reachable"
    ),
    "stickyroute_store_dropped": Family(
        "counter",
        "Entries that the store did not get: too many waited, or it refused them.",
        of="store_dropped",
    ),
    "stickyroute_exchanges": Family("gauge", "Exchanges under way now.", of="exchanges"),
    "stickyroute_tunnels": Family("gauge", "WebSocket tunnels open now.", of="tunnels"),
    "stickyroute_tunnels_ended": Family(
        "counter",
        "WebSocket tunnels that were ended because their binding had, by why.",
        ("reason",),
        of="tunnels_ended",
    ),
    "stickyroute_upstream_connections": Family("gauge", "Connections to pods now.", of="upstreams"),
    "stickyroute_tasks": Family("gauge", "Tasks of all processes' event loops now."),
    # Processes, by the names that dashboards know
    "process_start_time_seconds": Family("gauge", "When the proxy started, Unix seconds."),
    "process_cpu_seconds": Family("counter", "User and system time of all processes."),
    "process_resident_memory_bytes": Family("gauge", "Resident memory of all processes."),
    "process_open_fds": Family("gauge", "Open file descriptors of all processes."),
    "python_gc_collections": Family("counter", "Runs of the garbage collector.", ("generation",)),
}
"""Every metric; a new counter needs a line here and, where `of` does not say it all, one in `read`."""

_OF_COUNTERS: Final = tuple((name, family.of) for name, family in FAMILIES.items() if family.of)


def read(table: Table | None, counters: Counters, health: Watch) -> Samples:
    """What this process counted and holds."""
    samples = process()
    for name, attribute in _OF_COUNTERS:
        value = getattr(counters, attribute)
        samples[name] = (
            {(str(key),): number for key, number in value.items()} if FAMILIES[name].labels else {(): value}
        )
    told = (*_traffic(counters), *_health(health), *(() if table is None else _served(table)))
    for name, labels, value in told:
        family = samples.setdefault(name, {})
        family[labels] = value if isinstance(value, list) else family.get(labels, 0) + value
    return samples


def about(receiver: Receiver, proxy: str, version: str, started: float) -> Samples:
    """What the process that is pushed to says of the proxy as a whole."""
    held = receiver.version
    return {
        "stickyroute_proxy_info": {(proxy, receiver.fleet, version): 1},
        "stickyroute_snapshot_epoch": {(): held.epoch if held else 0},
        "stickyroute_snapshot_revision": {(): held.revision if held else 0},
        "stickyroute_pushes": {(): receiver.pushes},
        "stickyroute_pushes_refused": {(): receiver.refusals},
        "process_start_time_seconds": {(): started},
    }


def process() -> Samples:
    """What this process costs."""
    times = os.times()
    generations = enumerate(gc.get_stats())
    found: Samples = {
        "process_cpu_seconds": {(): times.user + times.system},
        "stickyroute_tasks": {(): _tasks()},
        "python_gc_collections": {(str(number),): stats["collections"] for number, stats in generations},
    }
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found["process_resident_memory_bytes"] = {(): pages * os.sysconf("SC_PAGE_SIZE")}
        found["process_open_fds"] = {(): sum(1 for _ in Path("/proc/self/fd").iterdir())}
    return found


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs here
        return 0


def total(parts: Iterable[Samples]) -> Samples:
    """The sum of several processes' samples."""
    summed: Samples = {}
    for samples in parts:
        for name, values in samples.items():
            family = summed.setdefault(name, {})
            for labels, value in values.items():
                before = family.get(labels)
                family[labels] = value if before is None else _sum(before, value)
    return summed


def lasting(samples: Samples) -> Samples:
    """What still counts when the process has ended: counters never go back."""
    return {name: values for name, values in samples.items() if FAMILIES[name].kind != "gauge"}


def encode(samples: Samples) -> bytes:
    return json.dumps({name: list(values.items()) for name, values in samples.items()}).encode()


def decode(content: bytes) -> Samples:
    return {
        name: {tuple(labels): value for labels, value in values}
        for name, values in json.loads(content).items()
    }


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    assert not isinstance(one, list)  # noqa: S101 - values of one family are alike
    assert not isinstance(other, list)  # noqa: S101
    return one + other


Sample = tuple[str, tuple[str, ...], Value]


def _served(table: Table) -> Iterator[Sample]:
    """What happened to sessions, by scope, and what runs on each pod now."""
    for scope in table.scopes.values():
        labels = tuple(scope.id.split("/", 2))
        for reason, count in scope.decisions().items():
            yield "stickyroute_decisions", (*labels, str(reason)), count
        yield "stickyroute_sessions_new", labels, scope.new
        yield "stickyroute_sessions_moved", labels, scope.moved
        yield "stickyroute_sessions_expired", labels, scope.expired
        yield "stickyroute_requests_rejected", labels, scope.rejected
        yield "stickyroute_clashes", labels, sum(one.times for one in scope.clashes.values())
        for place in scope.sessions.places.values():
            yield "stickyroute_sessions", (*labels, place.service, place.pod), len(place.sessions)
    yield "stickyroute_certificates_unusable", (), len(table.certificates.unusable)
    for set_id, found in table.sets.items():
        namespace = set_id.partition("/")[0]
        for endpoint in found.endpoints:
            labels = namespace, endpoint.service, endpoint.pod
            yield "stickyroute_requests_in_flight", labels, endpoint.in_flight


def _health(health: Watch) -> Iterator[Sample]:
    """What checks found."""
    yield "stickyroute_health_checks", ("good",), health.good
    yield "stickyroute_health_checks", ("bad",), health.bad
    yield "stickyroute_ejections", (), health.ejections
    now = health.clock()
    for set_id, judge in health.judges.items():
        for endpoint in judge.endpoints:
            state = endpoint.found(now)
            if state is not None:
                labels = set_id.partition("/")[0], endpoint.service, endpoint.pod, str(state)
                yield "stickyroute_pods_out", labels, 1


def _traffic(counters: Counters) -> Iterator[Sample]:
    """What passed through."""
    for (route, rule), counted in ({("/", ""): counters.unrouted} | counters.rules).items():
        labels = (*route.split("/", 1), rule)
        for digit, number in enumerate(counted.classes):
            if number:
                yield "stickyroute_requests", (*labels, f"{digit}xx" if digit else "none"), number
        yield "stickyroute_request_seconds", labels, [*counted.buckets, counted.seconds]
