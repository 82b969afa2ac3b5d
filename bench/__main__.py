"""The data plane beside other proxies: `make bench`, or `python -m bench --help`."""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import cost, decide, install, machine, report, running
from bench.figures import Results, Sample
from bench.load.wrk import LoadError
from bench.peers import Caddy, Envoy, HAProxy, Nginx, Peer, StickyRoute, Traefik
from bench.rows import ROWS, Row
from bench.targets import OURS

Alone = tuple[str, Results, report.Table]
"""What was measured of StickyRoute alone: the title, the figures and how they are shown."""


def main() -> None:
    given = arguments().parse_args()
    machine.prepare()
    chosen = [peer for peer in known(given.python) if given.peers is None or peer.name in given.peers]
    if given.install:
        install.install(chosen)
    if set(given.rows) != {"decide"} and (tools := install.absent_tools()):
        raise SystemExit(f"missing: {' '.join(tools)}; on Debian `python -m bench --install` brings them")
    absent = {peer.name: "not installed" for peer in chosen if not peer.installed}
    for name, why in absent.items():
        print(f"{name}: {why}, left out; `--install` brings it from a package")
    present = [peer for peer in chosen if peer.name not in absent]
    rows = [row for row in ROWS if row.name in given.rows]
    began = time.monotonic()
    facts = describe(present)
    print("\n".join(facts), flush=True)
    try:
        measured = measure(rows, present, given.peers, given.rounds, given.seconds)
        alone = [(name, *work(given.python)) for name, work in ALONE.items() if name in given.rows]
    except (LoadError, running.StartError) as error:
        raise SystemExit(str(error)) from None
    everything = {row.name: results for row, results in measured}
    everything |= {name: results for name, _, results, _ in alone}
    verdicts = report.verdict_table(everything)
    print(f"\n{report.text(verdicts)}\n\n{time.monotonic() - began:.0f} s")
    if given.write is not None:
        tables = [(title, table) for _, title, _, table in alone]
        given.write.write_text(report.document(facts, measured, tables, verdicts))


def arguments() -> argparse.ArgumentParser:
    names = [*(row.name for row in ROWS), *ALONE]
    peers = [peer.name for peer in known(sys.executable)]

    def several(known: Sequence[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := set(chosen).difference(known):
                raise argparse.ArgumentTypeError(
                    f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}"
                )
            return chosen

        return parse

    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--rows", type=several(names), default=names, help=f"which of {','.join(names)} (default: all)"
    )
    parser.add_argument(
        "--peers",
        type=several(peers),
        help=f"which of {','.join(peers)} (default: those that a row is about)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement (default: 3)")
    parser.add_argument("--install", action="store_true", help="bring missing peers from packages")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write the summary, such as docs/performance.md"
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter that StickyRoute runs on")
    return parser


def known(python: str) -> list[Peer]:
    """All peers, the one that others are compared to first.

    In a round they are measured in this order: HAProxy and StickyRoute one after the other, so that a machine
    that is slower for some seconds is slower for both.
    """
    return [HAProxy(), StickyRoute(python), Envoy(), Traefik(), Caddy(), Nginx()]


def describe(peers: Sequence[Peer]) -> list[str]:
    """When, with what, and on what."""
    now = datetime.now(UTC)
    versions = ", ".join(f"{peer.name} {peer.version()}" for peer in peers)
    return [
        f"Date: {now:%Y-%m-%d %H:%M} UTC",
        f"Versions: {versions}",
        f"Command: `{shlex.join(['python', '-m', 'bench', *sys.argv[1:]])}`",
        f"Machine: {machine.kind()}",
        f"Idle before the run: {machine.quiet()}",
    ]


def measure(
    rows: Sequence[Row], proxies: Sequence[Peer], asked: Sequence[str] | None, rounds: int, seconds: float
) -> list[tuple[Row, Results]]:
    """All rows, printed as they come."""
    if not rows:
        return []
    measured: list[tuple[Row, Results]] = []
    with (
        tempfile.TemporaryDirectory() as name,
        running.pods(Path(name)),
        running.peers(proxies, Path(name)) as peers,
    ):
        for row in rows:
            results = run(row, peers, asked, rounds, seconds)
            measured.append((row, results))
            print(f"\n{row.title} [{row.name}]\n{report.text(report.row_table(row, results))}", flush=True)
    return measured


def run(
    row: Row,
    peers: Sequence[running.Running],
    asked: Sequence[str] | None,
    rounds: int,
    seconds: float,
) -> Results:
    """One row in interleaved rounds."""
    wanted = [peer for peer in peers if asked is not None or not row.peers or peer.proxy.name in row.peers]
    absent = {peer.proxy.name: "not served" for peer in wanted if row.tls and not peer.proxy.serves_tls}
    measured: dict[str, list[Sample]] = {
        peer.proxy.name: [] for peer in wanted if peer.proxy.name not in absent
    }
    for _ in range(1 if row.once else rounds):
        for peer in wanted:
            name = peer.proxy.name
            if name in absent:
                continue
            try:
                peer.visit()
                measured[name].append(row.measure(peer, seconds))
            except (LoadError, running.StartError) as error:
                absent[name] = f"failed: {error}"
                del measured[name]
    return Results(measured, absent)


def measure_cost(python: str) -> Alone:
    """What metrics and access log cost, printed."""
    sample, unit = cost.measure(lambda: StickyRoute(python))
    results = Results({OURS: [sample]}, {} if "log" in sample else {"log": "no line was written"})
    log = f"{sample['log']:.1f} %" if "log" in sample else "not written"
    table = [
        ["", unit],
        ["a request", f"{sample['request']:,.0f}"],
        ["metrics, of it", f"{sample['metrics']:.1f} %"],
        ["access log of every request, more than it", log],
    ]
    return shown("cost", "Metrics and access log", results, table)


def measure_decide(python: str) -> Alone:
    """What decisions cost, printed."""
    environment = {**os.environ, **StickyRoute(python).environment}
    try:
        results, table = decide.measure(python, environment)
    except subprocess.CalledProcessError as error:
        raise running.StartError(f"bench.decide ended with status {error.returncode}") from None
    return shown("decide", "Decisions, in one process", results, table)


def shown(name: str, title: str, results: Results, table: report.Table) -> Alone:
    print(f"\n{title} [{name}]\n{report.text(table)}", flush=True)
    return title, results, table


ALONE: Final[dict[str, Callable[[str], Alone]]] = {"cost": measure_cost, "decide": measure_decide}
"""By the row's name; each takes the interpreter. Raises StartError."""


if __name__ == "__main__":
    main()
