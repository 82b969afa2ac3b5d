"""What the data path counts: plain integers, read by whoever exposes them."""

from bisect import bisect_left
from collections import defaultdict
from typing import Final

from stickyroute_proxy.affinity.rule import Rule

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency histogram, seconds; one more bucket counts what is beyond."""
MS_1, MS_2_5, MS_5 = BUCKETS[:3]
"""What most requests take less than: comparing costs less than looking for their bucket."""


class RuleCounters:
    """Exchanges of one rule."""

    __slots__ = ("answers", "seconds")

    answers: defaultdict[int, list[int]]
    """Answers by their status (0: none could be given, the client had gone), and each status's by their
    duration: not cumulated, one entry more than BUCKETS."""
    seconds: float
    """The sum of all durations, from the request's head to the answer's end."""

    def __init__(self) -> None:
        self.answers = defaultdict(_no_answers)
        self.seconds = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.answers[status][bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    @property
    def buckets(self) -> list[int]:
        """Exchanges by their duration, whatever their status, made of `answers` when it is read."""
        return [sum(column) for column in zip(_no_answers(), *self.answers.values(), strict=True)]

    @property
    def classes(self) -> list[int]:
        """Answers by the first digit of their status, made of `answers` when it is read."""
        found = [0] * 6
        for status, numbers in self.answers.items():
            # RFC 9110 (section 15) has clients take 600 and beyond for 5xx
            found[status // 100 if status < 600 else 5] += sum(numbers)
        return found


def _no_answers() -> list[int]:
    return [0] * (len(BUCKETS) + 1)


class Counters:
    """Totals of one process since its start."""

    __slots__ = (
        "access_log_dropped",
        "access_log_failed",
        "connect_failures",
        "connections",
        "connects",
        "ended",
        "endpoint_handshakes_failed",
        "handshakes",
        "open_connections",
        "openings_failed",
        "queued",
        "queued_total",
        "received_bytes",
        "refused",
        "requests",
        "retries",
        "retries_denied",
        "rules",
        "sent_bytes",
        "shed",
        "store_dropped",
        "store_lookups",
        "store_reachable",
        "tunnels",
        "tunnels_ended",
        "unrouted",
        "upstreams",
    )

    def __init__(self) -> None:  # noqa: PLR0915 - one of each
        self.rules: dict[tuple[str, str], RuleCounters] = {}
        """By (route, rule), `namespace/name` and the rule's name."""
        self.unrouted = RuleCounters()
        """Requests that no rule was found for, or that could not be read."""
        self.refused: dict[int, int] = {}
        """Answers of our own, by status."""
        self.connects = 0
        """Upstream connections that were opened."""
        self.connect_failures = 0
        self.endpoint_handshakes_failed: dict[str, int] = {}
        """Those of them that failed in the TLS handshake, by Cause."""
        self.retries = 0
        """Further attempts, after a failed connect or on a connection that was closed before an answer."""
        self.retries_denied = 0
        """Further attempts that the retry budget did not allow."""
        self.received_bytes = 0
        """Request bodies."""
        self.sent_bytes = 0
        """Answer bodies."""
        self.connections = 0
        """Client connections ever accepted."""
        self.open_connections = 0
        """Client connections now, those that have not come to a request included."""
        self.handshakes = 0
        """TLS handshakes with clients that came to their end."""
        self.openings_failed: dict[str, int] = {}
        """Client connections that ended in PROXY header or handshake, by Failure."""
        self.requests = 0
        """Exchanges ever begun."""
        self.ended = 0
        """Exchanges ever ended."""
        self.queued = 0
        """Exchanges that wait for room on an endpoint now."""
        self.queued_total = 0
        """Exchanges that ever had to."""
        self.shed: dict[str, int] = {}
        """Connections and requests turned away, by Cause."""
        self.access_log_dropped = 0
        """Lines of the access log that were dropped because too many waited to be written."""
        self.access_log_failed = 0
        """Lines that could not be written; counted by the writing thread alone."""
        self.store_lookups: dict[str, int] = {}
        """Look-ups of learned keys, by Result."""
        self.store_reachable = 0
        """1 while the store answers."""
        self.store_dropped = 0
        """Entries that the store did not get."""
        self.tunnels = 0
        """WebSocket tunnels open now."""
        self.tunnels_ended: dict[str, int] = {}
        """Those that were ended from here because their binding had, by BindingReason."""
        self.upstreams = 0
        """Upstream connections open now."""

    @property
    def exchanges(self) -> int:
        """Exchanges under way."""
        return self.requests - self.ended

    def count_shed(self, cause: str) -> None:
        self.shed[cause] = self.shed.get(cause, 0) + 1

    def begin(self, rule: Rule) -> RuleCounters:
        """Those of the rule, which holds them from now on: requests need not look them up."""
        found = rule.counter = self.of(rule.route, rule.name)
        return found

    def of(self, route: str, rule: str) -> RuleCounters:
        key = (route, rule)
        found = self.rules.get(key)
        if found is None:
            found = self.rules[key] = RuleCounters()
        return found
