"""What the figures are to reach, in one table."""

from dataclasses import dataclass
from typing import Final

from bench.figures import Results, Spread

OURS: Final = "stickyroute"


@dataclass(frozen=True, slots=True)
class Target:
    """One figure of one row, alone or divided by a peer's."""

    text: str
    row: str
    figure: str
    reach: float
    aim: float
    against: str = ""
    """The peer; empty: the figure itself."""
    unit: str = ""
    more: bool = False
    """More is better."""

    def value(self, results: Results) -> Spread | None:
        if self.against:
            return results.ratio(self.figure, OURS, self.against)
        return results.spread(OURS, self.figure)

    def verdict(self, value: float) -> str:
        if self.more:
            return "aim reached" if value >= self.aim else "reached" if value >= self.reach else "missed"
        return "aim reached" if value <= self.aim else "reached" if value <= self.reach else "missed"


TARGETS: Final = (
    Target("CPU per request ÷ HAProxy", "cpu", "cpu", 2.2, 1.4, "haproxy"),
    Target("CPU per request ÷ Envoy", "cpu", "cpu", 0.75, 0.45, "envoy"),
    Target("CPU per request ÷ Traefik", "cpu", "cpu", 0.5, 0.3, "traefik"),
    Target("CPU per request ÷ Caddy", "cpu", "cpu", 0.35, 0.2, "caddy"),
    Target("p99 at 4,000 requests/s ÷ HAProxy", "pace", "p99", 1.5, 1.2, "haproxy"),
    Target("1 MiB down: CPU per MiB ÷ HAProxy", "down", "cpu", 1.0, 0.75, "haproxy"),
    Target("1 MiB down: MB/s ÷ HAProxy", "down", "speed", 1.0, 1.2, "haproxy", more=True),
    Target("1 MiB up: CPU per MiB ÷ HAProxy", "up", "cpu", 1.0, 0.75, "haproxy"),
    Target("1 MiB up: MB/s ÷ HAProxy", "up", "speed", 1.0, 1.2, "haproxy", more=True),
    Target("TLS 1.3: CPU per kept-alive request ÷ HAProxy", "tls", "cpu", 2.2, 1.35, "haproxy"),
    Target("TLS 1.3: CPU per full handshake ÷ HAProxy", "handshake", "cpu", 1.4, 1.15, "haproxy"),
    Target("WebSocket: CPU per 1 KiB message ÷ HAProxy's tunnel", "websocket", "cpu", 1.2, 1.0, "haproxy"),
    Target("memory per idle connection", "memory", "connection", 10, 7, unit="kB"),
    Target("memory of the idle process", "memory", "process", 50, 40, unit="MB"),
    Target("p99 with 10,000 idle connections ÷ without", "crowd", "times", 1.2, 1.05),
    Target("cost of metrics, of a request", "cost", "metrics", 3, 3, unit="%"),
    Target("cost of the access log, of a request", "cost", "log", 25, 25, unit="%"),
    Target("deciding on a known token", "decide", "known", 3, 3, unit="µs"),
    Target("deciding on a token not seen before", "decide", "unseen", 12, 12, unit="µs"),
    Target("memory of a bound session", "decide", "session", 300, 300, unit="B"),
    Target("forged and missing keys, medians apart", "decide", "apart", 20, 20, unit="µs"),
)
