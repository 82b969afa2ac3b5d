"""The rows of the bench: what is asked of each peer, and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench import machine, site
from bench.figures import Sample
from bench.load import bodies, crowd, handshake, pace, websocket, wrk
from bench.running import Running

RATE: Final = 4000
"""Requests a second of the open loop."""
CROWD: Final = 10_000
"""Idle connections."""

HEAVY: Final = ("haproxy", "nginx", "stickyroute")
"""The peers of rows that say little of the others, or take long."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure as it is printed."""

    figure: str
    title: str
    places: int = 1
    ratio: bool = True
    """Whether it is divided by HAProxy's too."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement of a peer, repeated in interleaved rounds."""

    name: str
    title: str
    columns: tuple[Column, ...]
    measure: Callable[[Running, float], Sample]
    """For so many seconds. Raises LoadError."""
    tls: bool = False
    peers: tuple[str, ...] = ()
    """Those that are measured unless others are asked for; empty: all."""
    once: bool = False
    """Repeating says nothing new."""


def _used(peer: Running, load: Callable[[], wrk.Answered]) -> Sample:
    """CPU for each answer, answers a second, and what the load left of its core."""
    idle, before = machine.Idle(), machine.cpu(peer.pid)
    answered = load()
    cpu = machine.cpu(peer.pid) - before
    return {
        "cpu": cpu / answered.requests * 1e6,
        "speed": answered.requests / answered.seconds,
        "idle": idle.share(),
    }


def _cpu(peer: Running, seconds: float) -> Sample:
    return _used(peer, lambda: wrk.run(peer.url(site.PATH), peer.cookies, seconds))


def _tls(peer: Running, seconds: float) -> Sample:
    return _used(peer, lambda: wrk.run(peer.url(site.PATH, tls=True), peer.cookies, seconds))


def _down(peer: Running, seconds: float) -> Sample:
    return _in_mb(_used(peer, lambda: bodies.run(peer.proxy.port, peer.cookies, seconds, up=False)))


def _up(peer: Running, seconds: float) -> Sample:
    return _in_mb(_used(peer, lambda: bodies.run(peer.proxy.port, peer.cookies, seconds, up=True)))


def _in_mb(sample: Sample) -> Sample:
    """A body is 1 MiB: CPU for each is CPU for each MiB already."""
    return {**sample, "speed": sample["speed"] * site.MIB / 1e6}


def _handshake(peer: Running, seconds: float) -> Sample:
    return _used(peer, lambda: handshake.run(peer.proxy.tls_port, peer.cookies, seconds))


def _websocket(peer: Running, seconds: float) -> Sample:
    def load() -> wrk.Answered:
        return wrk.Answered(2 * websocket.run(peer.proxy.port, peer.cookies, seconds), seconds)

    return _used(peer, load)


def _pace(peer: Running, seconds: float) -> Sample:
    idle, before = machine.Idle(), machine.cpu(peer.pid)
    taken = pace.run(peer.proxy.port, peer.request, RATE, seconds)
    cpu = machine.cpu(peer.pid) - before
    return {
        "p50": pace.quantile(taken, 0.5) * 1e3,
        "p99": pace.quantile(taken, 0.99) * 1e3,
        "cpu": cpu / RATE / (seconds + pace.WARM_UP) * 1e6,
        "idle": idle.share(),
    }


def _memory(peer: Running, _seconds: float) -> Sample:
    before = machine.memory(peer.pid)
    with crowd.crowd(peer.proxy.port, peer.request, CROWD):
        held = machine.memory(peer.pid) - before
    return {"connection": held / CROWD / 1e3, "process": peer.idle_memory / 1e6}


def _crowd(peer: Running, seconds: float) -> Sample:
    idle = machine.Idle()
    alone = pace.run(peer.proxy.port, peer.request, RATE, seconds)
    with crowd.crowd(peer.proxy.port, peer.request, CROWD):
        crowded = pace.run(peer.proxy.port, peer.request, RATE, seconds)
    p99_alone, p99_crowded = pace.quantile(alone, 0.99), pace.quantile(crowded, 0.99)
    return {
        "alone": p99_alone * 1e3,
        "crowded": p99_crowded * 1e3,
        "times": p99_crowded / p99_alone,
        "idle": idle.share(),
    }


_REQUEST: Final = (Column("cpu", "µs CPU/request"), Column("speed", "requests/s", 0))
_BODY: Final = (Column("cpu", "µs CPU/MiB"), Column("speed", "MB/s", 0))

ROWS: Final = (
    Row(
        "memory",
        f"Memory: RSS of the idle process, and what each of {CROWD:,} idle connections adds",
        (Column("process", "MB process", ratio=False), Column("connection", "kB/connection", ratio=False)),
        _memory,
        once=True,
    ),
    Row("cpu", "Requests, kept alive, 64 connections, 1 KiB answers", _REQUEST, _cpu),
    Row(
        "pace",
        f"The same at {RATE:,} requests/s",
        (Column("p50", "p50 ms", 3), Column("p99", "p99 ms", 3), Column("cpu", "µs CPU/request")),
        _pace,
    ),
    Row("down", "Answers of 1 MiB, 8 connections", _BODY, _down, peers=HEAVY),
    Row("up", "Requests of 1 MiB, 8 connections", _BODY, _up, peers=HEAVY),
    Row("tls", "TLS 1.3: requests, kept alive, 64 connections", _REQUEST, _tls, tls=True, peers=HEAVY),
    Row(
        "handshake",
        "TLS 1.3: one full handshake for each request",
        (Column("cpu", "µs CPU/handshake"),),
        _handshake,
        tls=True,
        peers=HEAVY,
    ),
    Row(
        "websocket",
        f"WebSocket: 1 KiB messages there and back, {websocket.CONNECTIONS} connections",
        (Column("cpu", "µs CPU/message"),),
        _websocket,
        peers=HEAVY,
    ),
    Row(
        "crowd",
        f"{RATE:,} requests/s beside {CROWD:,} idle connections",
        (
            Column("alone", "p99 ms alone", 3),
            Column("crowded", "p99 ms beside them", 3),
            Column("times", "times", 2, ratio=False),
        ),
        _crowd,
        peers=("haproxy", "stickyroute"),
    ),
)
