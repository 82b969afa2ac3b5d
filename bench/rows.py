"""The rows of the bench: what is asked of each peer, and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench import machine, site
from bench.figures import Sample
from bench.load import bodies, crowd, handshake, pace, websocket, wrk
from bench.running import Running

RATE: Final = 4000
"""Requests a second of the open loop that latencies are taken from."""
CPU_RATE: Final = 6000
"""Requests a second where CPU is counted: below what the slowest peer can, so that none is saturated."""
BURST: Final = 16
"""Of these so many are due at a time, as many as a proxy finds waiting when it has much to do."""
CROWD: Final = 10_000
"""Idle connections."""


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


def _speed(peer: Running, seconds: float) -> Sample:
    return _used(peer, lambda: wrk.run(peer.url(site.PATH), peer.cookies, seconds))


def _paced(peer: Running, seconds: float, rate: int, *, burst: int = 1, tls: bool = False) -> Sample:
    port = peer.proxy.tls_port if tls else peer.proxy.port
    with pace.connections(port, tls=tls) as opened:
        idle, before = machine.Idle(), machine.cpu(peer.pid)
        taken = pace.run(opened, peer.request, rate, seconds, burst=burst)
        cpu = machine.cpu(peer.pid) - before
        share = idle.share()
    return {
        "p50": pace.quantile(taken, 0.5) * 1e3,
        "p99": pace.quantile(taken, 0.99) * 1e3,
        "cpu": cpu / pace.requests(rate, seconds) * 1e6,
        "idle": share,
    }


def _cpu(peer: Running, seconds: float) -> Sample:
    return _paced(peer, seconds, CPU_RATE, burst=BURST)


def _tls(peer: Running, seconds: float) -> Sample:
    return _paced(peer, seconds, CPU_RATE, burst=BURST, tls=True)


def _pace(peer: Running, seconds: float) -> Sample:
    return _paced(peer, seconds, RATE)


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


def _memory(peer: Running, _seconds: float) -> Sample:
    before = machine.memory(peer.pid)
    with crowd.crowd(peer.proxy.port, peer.request, CROWD):
        held = machine.memory(peer.pid) - before
    return {"connection": held / CROWD / 1e3, "process": peer.idle_memory / 1e6}


def _crowd(peer: Running, seconds: float) -> Sample:
    """Without, twice as often with, and without again: what only drifts is in both alike."""
    alone = _p99s(peer, seconds, 2)
    with crowd.crowd(peer.proxy.port, peer.request, CROWD):
        machine.settle(peer.pid)
        idle = machine.Idle()
        crowded = _p99s(peer, seconds, 4)
        share = idle.share()
    machine.settle(peer.pid)
    alone += _p99s(peer, seconds, 2)
    p99_alone, p99_crowded = median(alone), median(crowded)
    return {
        "alone": p99_alone * 1e3,
        "crowded": p99_crowded * 1e3,
        "times": p99_crowded / p99_alone,
        "idle": share,
    }


def _p99s(peer: Running, seconds: float, times: int) -> list[float]:
    """One after the other: in their median a moment that another took the machine for counts for little."""
    with pace.connections(peer.proxy.port) as opened:
        return [pace.quantile(pace.run(opened, peer.request, RATE, seconds), 0.99) for _ in range(times)]


_REQUEST: Final = (Column("cpu", "µs CPU/request"),)
_BODY: Final = (Column("cpu", "µs CPU/MiB"), Column("speed", "MB/s", 0))

ROWS: Final = (
    Row(
        "memory",
        f"Memory: RSS of the idle process, and what each of {CROWD:,} idle connections adds",
        (Column("process", "MB process", ratio=False), Column("connection", "kB/connection", ratio=False)),
        _memory,
        once=True,
    ),
    Row(
        "cpu",
        f"{CPU_RATE:,} requests/s, {pace.CONNECTIONS} kept-alive connections, 1 KiB answers",
        _REQUEST,
        _cpu,
    ),
    Row(
        "speed",
        f"As many requests as can be, {wrk.CONNECTIONS} kept-alive connections, 1 KiB answers",
        (*_REQUEST, Column("speed", "requests/s", 0)),
        _speed,
    ),
    Row(
        "pace",
        f"{RATE:,} requests/s: how long an answer takes",
        (Column("p50", "p50 ms", 3), Column("p99", "p99 ms", 3), *_REQUEST),
        _pace,
    ),
    Row("down", "Answers of 1 MiB, 8 connections", _BODY, _down),
    Row("up", "Requests of 1 MiB, 8 connections", _BODY, _up),
    Row(
        "tls",
        f"TLS 1.3: {CPU_RATE:,} requests/s, {pace.CONNECTIONS} kept-alive connections, 1 KiB answers",
        _REQUEST,
        _tls,
        tls=True,
    ),
    Row(
        "handshake",
        "TLS 1.3: one full handshake for each request",
        (Column("cpu", "µs CPU/handshake"),),
        _handshake,
        tls=True,
    ),
    Row(
        "websocket",
        f"WebSocket: 1 KiB messages there and back, {websocket.CONNECTIONS} connections",
        (Column("cpu", "µs CPU/message"),),
        _websocket,
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
