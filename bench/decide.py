"""What a decision costs, in microseconds and bytes, on one core without sockets.

    python bench/decide.py

Each figure is the best of several rounds: the machine's other work only adds. The collector of cycles is set
as in a proxy: as Python has it, the slowest of many deltas is the one that a collection of all falls on.
"""

import argparse
import base64
import gc
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "api"), str(ROOT / "proxy")]

from stickyroute_api import snapshot  # noqa: E402
from stickyroute_api.snapshot import Delta, Snapshot, TokenKeys  # noqa: E402
from stickyroute_proxy.affinity.choose import choose  # noqa: E402
from stickyroute_proxy.affinity.report import report  # noqa: E402
from stickyroute_proxy.affinity.rule import Rule  # noqa: E402
from stickyroute_proxy.lean import collect_rarely, settle  # noqa: E402
from stickyroute_proxy.slices import SLICE, at_once  # noqa: E402
from stickyroute_proxy.table import Table, build  # noqa: E402
from stickyroute_proxy.wire.head import RequestHead  # noqa: E402

NOW = 1_800_000_000.0
ROUNDS = 7
NAME = b"stickyroute-0123abcd"


COOKIE = snapshot.Persistence(
    type="Cookie", cookie=snapshot.Cookie(name=NAME.decode()), idle_timeout=1800, absolute_timeout=43200
)


def fleet(routes: int, endpoints: int, policy: snapshot.Persistence = COOKIE) -> Snapshot:
    """So many routes, each with one host, one rule for everything, and so many endpoints."""
    return Snapshot(
        fleet="bench",
        epoch=1,
        revision=1,
        keys=TokenKeys(sealing=1, keys={1: base64.b64encode(os.urandom(32)).decode()}),
        routes={
            f"shop/r{number}": snapshot.Route(
                namespace="shop",
                name=f"r{number}",
                created=number,
                hosts=(f"r{number}.example.com",),
                rules=(
                    snapshot.Rule(
                        name="app",
                        matches=(snapshot.Match(),),
                        backends=(snapshot.Backend(service=f"s{number}", endpoints=f"shop/s{number}:80"),),
                        scope=f"s{number}",
                        persistence=policy,
                    ),
                ),
            )
            for number in range(routes)
        },
        endpoints={
            f"shop/s{number}:80": tuple(pod(f"s{number}-{each}") for each in range(endpoints))
            for number in range(routes)
        },
    )


def pod(name: str) -> snapshot.Endpoint:
    return snapshot.Endpoint(id=f"uid-{name}", pod=name, address="10.0.0.1", port=8080)


def ask(token: bytes | None) -> RequestHead:
    """The request of a browser that has this token."""
    head = RequestHead()
    head.cookies = [] if token is None else [b"theme=dark; " + NAME + b"=" + token + b"; lang=en"]
    return head


def only_rule(table: Table) -> Rule:
    rule = table.find(b"r0.example.com", b"/", b"", b"GET", [])
    if rule is None:
        raise LookupError("the bench's own route does not match")
    return rule


def show(name: str, value: float, unit: str, places: int = 2) -> None:
    print(f"{name:<56}{value:>10,.{places}f} {unit}")


def measure(name: str, calls: int, work: Callable[[], object]) -> None:
    """Print the best time of one call; `work` makes so many."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    show(name, best / calls * 1e6, "µs")


def repeated(rule: Rule, request: RequestHead, calls: int, random: Random) -> Callable[[], None]:
    """So many decisions on one request."""

    def work() -> None:
        for _ in range(calls):
            choose(rule, request, NOW, random)

    return work


def decisions(calls: int) -> None:
    table = build(fleet(1, 10), None, NOW, Random(1))
    random = Random(2)
    rule = only_rule(table)
    headers = [(b"Host", b"r0.example.com"), (b"Accept", b"*/*")]

    def find() -> None:
        for _ in range(calls):
            table.find(b"r0.example.com", b"/cart/items", b"", b"GET", headers)

    minted = [choose(rule, ask(None), NOW, random).set_token or b"" for _ in range(calls)]
    unseen = [ask(token) for token in minted]
    choose(rule, unseen[0], NOW, random)

    def first_time() -> None:
        table.known.reopen()
        for request in unseen:
            choose(rule, request, NOW, random)

    measure("find, one host, one rule for everything", calls, find)
    measure("choose, a known token", calls, repeated(rule, unseen[0], calls, random))
    measure("choose, a new session", calls, repeated(rule, ask(None), calls, random))
    forged = ask(minted[0][:-2] + b"AA")
    measure("choose, a forged token", calls, repeated(rule, forged, calls, random))
    measure("choose, a token not seen before", calls, first_time)


def carriers(calls: int) -> None:
    """The same for tokens in a header, and in envelopes of the application's cookie."""
    kinds = {
        "a header": snapshot.Persistence(type="Header", name="X-Session", idle_timeout=1800),
        "an envelope": snapshot.Persistence(type="AppCookie", name="JSESSIONID", learn="Envelope"),
    }
    for name, policy in kinds.items():
        random = Random(6)
        table = build(fleet(1, 10, policy), None, NOW, random)
        rule = only_rule(table)
        begun = choose(rule, shown(policy, None), NOW, random)
        token = begun.set_token or b""
        if begun.binding is not None and policy.learn is not None:
            token = rule.scope.keyring.seal_with(b"value", begun.binding, rule.scope.identity) + b"~value"
        for what, key in (("known", token), ("forged", token[:50] + b"A" + token[51:]), ("no", None)):
            request = shown(policy, key)
            choose(rule, request, NOW, random)
            measure(f"choose, {what} token in {name}", calls, repeated(rule, request, calls, random))


def shown(policy: snapshot.Persistence, key: bytes | None) -> RequestHead:
    """The request of a client that shows this key as the policy has it."""
    head = RequestHead()
    head.cookies, head.headers = [], [(b"Accept", b"*/*")] * 6
    if key is not None and policy.type == "Header":
        head.headers = [*head.headers, (policy.name.encode(), key)]
    elif key is not None:
        head.cookies = [b"theme=dark; " + policy.name.encode() + b"=" + key + b"; lang=en"]
    return head


def moves(calls: int) -> None:
    given = fleet(1, 10)
    random = Random(3)
    table = build(given, None, NOW, random)
    rule = only_rule(table)
    requests = [ask(choose(rule, ask(None), NOW, random).set_token) for _ in range(calls)]
    others = {"shop/s0:80": tuple(pod(f"other-{each}") for each in range(10))}
    build(given.model_copy(update={"revision": 2, "endpoints": others}), table, NOW, random)

    def work() -> None:
        for one in requests:
            choose(rule, one, NOW, random)

    measure("choose, a session whose pod is gone, 10 others", calls, work)


def builds() -> None:
    current = fleet(1000, 10)
    random = Random(4)
    start = time.perf_counter()
    table = build(current, None, NOW, random)
    show("first build, 1,000 routes and 10,000 endpoints", (time.perf_counter() - start) * 1e3, "ms")
    settle()
    times: list[float] = []
    for turn in range(200):
        key = f"shop/s{turn}:80"
        delta = Delta(
            fleet="bench",
            base_epoch=1,
            base_revision=current.revision,
            epoch=1,
            revision=current.revision + 1,
            endpoints={key: (*current.endpoints[key][1:], pod(f"fresh-{turn}"))},
        )
        start = time.thread_time()
        current = delta.apply(current)
        table = build(current, table, NOW, random)
        times.append(time.thread_time() - start)
    times.sort()
    show("delta and build of one changed pod: median", times[len(times) // 2] * 1e3, "ms")
    show("delta and build of one changed pod: slowest of 200", times[-1] * 1e3, "ms")


def memory(sessions: int) -> None:
    random = Random(5)
    table = build(fleet(1, 10), None, NOW, random)
    rule = only_rule(table)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(sessions):
        choose(rule, ask(choose(rule, ask(None), NOW, random).set_token), NOW, random)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    show(f"memory of a bound session, of {sessions:,}", held / sessions, "B", 0)
    start = time.perf_counter()
    text = at_once(report(table, "proxy-1", NOW, NOW)).model_dump_json()
    show(f"their report, of {len(text):,} B", (time.perf_counter() - start) * 1e3, "ms")
    show("the longest that it holds the loop", longest_slice(table) * 1e3, "ms")
    start = time.perf_counter()
    table.sweep(NOW + 1)
    show("one sweep over them", (time.perf_counter() - start) * 1e3, "ms")


def longest_slice(table: Table) -> float:
    """Seconds, as `in_slices` cuts a report, the end with its JSON; the best of the rounds."""
    found = []
    for _ in range(ROUNDS):
        longest, steps = 0.0, report(table, "proxy-1", NOW, NOW)
        start = time.perf_counter()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                end.value.model_dump_json()
                found.append(max(longest, time.perf_counter() - start))
                break
            if (held := time.perf_counter() - start) > SLICE:
                longest = max(longest, held)
                start = time.perf_counter()
    return min(found)


def main() -> None:
    collect_rarely()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round")
    parser.add_argument("--sessions", type=int, default=100_000, help="sessions held for the memory figure")
    given = parser.parse_args()
    decisions(given.calls)
    carriers(given.calls)
    moves(given.calls)
    builds()
    memory(given.sessions)


if __name__ == "__main__":
    main()
