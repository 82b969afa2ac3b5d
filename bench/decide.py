"""What a decision costs, in microseconds and bytes, on one core without sockets.

    python -m bench.decide

`python -m bench` runs it beside its rows. To decide is to find the rule, the keys in the request, and the
endpoint; with forged keys it is all from a request's bytes to the head that goes upstream.
"""

import argparse
import gc
import json
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from bench import forged, machine, report
from bench.figures import Results, Sample, Spread
from bench.fleets import COOKIE, ENVELOPE, HEADER, HOST, NOW, fleet, minted, only_rule, pod, shown
from bench.rounds import Work, interleaved
from bench.targets import OURS

from stickyroute_api import snapshot
from stickyroute_api.snapshot import Delta, Snapshot
from stickyroute_proxy.affinity.choose import choose
from stickyroute_proxy.affinity.report import report as tell
from stickyroute_proxy.lean import collect_rarely, settle
from stickyroute_proxy.slices import SLICE, at_once
from stickyroute_proxy.table import Table, build
from stickyroute_proxy.wire.head import RequestHead

CALLS: Final = 5_000
"""Decisions of each kind in a round, each of another client."""
ROUNDS: Final = 15
SESSIONS: Final = 100_000
"""Bound sessions whose memory is measured together."""

Line = tuple[str, Spread, str]
"""A figure: what it is of, the median and extremes of its rounds, and its unit."""


def measure(python: str, environment: Mapping[str, str]) -> tuple[Results, report.Table]:
    """The figures of a process of its own on the proxies' core. Raises CalledProcessError."""
    command = ["taskset", "-c", str(machine.PROXY_CORE), python, "-m", "bench.decide", "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=dict(environment))
    samples, table = json.loads(done.stdout)
    return Results({OURS: samples}, {}), table


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.decide",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="samples and table for another process")
    given = parser.parse_args()
    collect_rarely()
    samples, lines = decisions()
    apart, more = forgeries()
    each, held = memory()
    samples[0] = {**samples[0], "apart": apart, "session": each}
    table = [["", "median", "least", "most", ""], *map(_cells, [*lines, *more, *held, *builds()])]
    print(json.dumps([samples, table]) if given.json else report.text(table))


def _cells(line: Line) -> list[str]:
    title, spread, unit = line
    return [title, *(f"{value:,.2f}" for value in (spread.middle, spread.least, spread.most)), unit]


def _only(value: float) -> Spread:
    return Spread(value, value, value)


def decisions() -> tuple[list[Sample], list[Line]]:
    """Those of all kinds; the samples are of a cookie's token, known and not seen before."""
    works = {
        "choose, a known token": known(COOKIE),
        "choose, a token not seen before": unseen(COOKIE),
        "choose, no token": repeated(COOKIE, lambda _: None),
        "choose, a forged token": repeated(COOKIE, tampered),
        "choose, a known token in a header": known(HEADER),
        "choose, a token in a header not seen before": unseen(HEADER),
        "choose, a known token in an envelope": known(ENVELOPE),
        "choose, a token in an envelope not seen before": unseen(ENVELOPE),
        "choose, a session whose pod is gone, 10 others": moved(),
    }
    taken = interleaved(works, ROUNDS)
    first, second, *_ = taken.values()
    samples: list[Sample] = [
        {"known": one, "unseen": other} for one, other in zip(first, second, strict=True)
    ]
    return samples, [(name, Spread.of(found), "µs") for name, found in taken.items()]


class Decisions:
    """Requests of many clients, each new to the proxy in every round as one on a fresh connection is."""

    def __init__(self, policy: snapshot.Persistence, key: Callable[[bytes], bytes | None]) -> None:
        """`key`: what a client shows that was given this."""
        self.random = Random(2)
        self._policy = policy
        self.given = fleet(1, 10, policy)
        self.table = build(self.given, None, NOW, self.random)
        rule = only_rule(self.table)
        self._keys = [key(minted(rule, self.random)) for _ in range(CALLS)]
        self._heads: list[RequestHead] = []

    def renew(self) -> None:
        self._heads = [shown(self._policy, key) for key in self._keys]

    def run(self) -> None:
        find, random = self.table.find, self.random
        for head in self._heads:
            rule = find(HOST, b"/cart/items", b"", b"GET", head.headers)
            if rule is not None:
                choose(rule, head, NOW, random)


def tampered(key: bytes) -> bytes:
    """A key with one character of its token changed."""
    return key[:50] + (b"B" if key[50:51] == b"A" else b"A") + key[51:]


def repeated(policy: snapshot.Persistence, key: Callable[[bytes], bytes | None]) -> Work:
    """Decisions that leave nothing behind."""
    made = Decisions(policy, key)
    return Work(made.run, CALLS, made.renew)


def known(policy: snapshot.Persistence) -> Work:
    """Decisions on tokens that the proxy has opened before."""
    made = Decisions(policy, lambda key: key)
    made.renew()
    made.run()
    return Work(made.run, CALLS, made.renew)


def unseen(
    policy: snapshot.Persistence, endpoints: Mapping[str, tuple[snapshot.Endpoint, ...]] | None = None
) -> Work:
    """Decisions of a proxy that has just started; `endpoints`: those it has, where clients knew others."""
    made = Decisions(policy, lambda key: key)
    if endpoints is not None:
        made.given = made.given.model_copy(update={"revision": 2, "endpoints": endpoints})

    def forget() -> None:
        made.table = build(made.given, None, NOW, made.random)
        made.renew()

    return Work(made.run, CALLS, forget)


def moved() -> Work:
    """Decisions of a proxy that has just started, on tokens that name a pod which it has never seen."""
    return unseen(COOKIE, {"shop/s0:80": tuple(pod(f"other-{each}") for each in range(10))})


def forgeries() -> tuple[float, list[Line]]:
    """How far apart medians are at most, and each case."""
    found = forged.measure(ROUNDS)
    lines: list[Line] = []
    for one in found:
        lines.append((f"request, {one.title}", one.forged, "µs"))
        lines.append(("the same without", one.missing, "µs"))
    return max(one.apart for one in found if one.judged), lines


def builds() -> list[Line]:
    current = fleet(1000, 10)
    random = Random(4)
    start = time.thread_time()
    table = build(current, None, NOW, random)
    first = time.thread_time() - start
    settle()
    times: list[float] = []
    for turn in range(200):
        key = f"shop/s{turn}:80"
        delta = _changed(current, key, turn)
        start = time.thread_time()
        current = delta.apply(current)
        table = build(current, table, NOW, random)
        times.append((time.thread_time() - start) * 1e3)
    return [
        ("first build, 1,000 routes and 10,000 endpoints", _only(first * 1e3), "ms"),
        ("delta and build of one changed pod, 200 times", Spread.of(times), "ms"),
    ]


def _changed(current: Snapshot, key: str, turn: int) -> Delta:
    return Delta(
        fleet="bench",
        base_epoch=1,
        base_revision=current.revision,
        epoch=1,
        revision=current.revision + 1,
        endpoints={key: (*current.endpoints[key][1:], pod(f"fresh-{turn}"))},
    )


def memory() -> tuple[float, list[Line]]:
    """Bytes of a bound session, and what many take to report and to sweep."""
    random = Random(5)
    table = build(fleet(1, 10), None, NOW, random)
    rule = only_rule(table)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(SESSIONS):
        choose(rule, shown(COOKIE, minted(rule, random)), NOW, random)
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) / SESSIONS
    tracemalloc.stop()
    start = time.thread_time()
    text = at_once(tell(table, "proxy-1", NOW, NOW)).model_dump_json()
    reported = (time.thread_time() - start) * 1e3
    longest = [_longest_slice(table) * 1e3 for _ in range(ROUNDS)]
    start = time.thread_time()
    table.sweep(NOW + 1)
    swept = (time.thread_time() - start) * 1e3
    return each, [
        (f"memory of a bound session, of {SESSIONS:,}", _only(each), "B"),
        (f"their report, of {len(text):,} B", _only(reported), "ms"),
        ("the longest that it holds the loop", Spread.of(longest), "ms"),
        ("one sweep over them", _only(swept), "ms"),
    ]


def _longest_slice(table: Table) -> float:
    """Seconds, as `in_slices` cuts a report, the end with its JSON."""
    longest, steps = 0.0, tell(table, "proxy-1", NOW, NOW)
    start = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            end.value.model_dump_json()
            return max(longest, time.perf_counter() - start)
        if (held := time.perf_counter() - start) > SLICE:
            longest = max(longest, held)
            start = time.perf_counter()


if __name__ == "__main__":
    main()
