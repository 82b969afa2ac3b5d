"""What a soak prints, and what it writes: the same tables."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Final

from bench import report
from bench.soak import crowd, verdict

if TYPE_CHECKING:
    from bench.soak.__main__ import Soaked

_MARKS: Final = (0.0, verdict.MARK, 0.4, 0.6, 0.8, 1.0)


def counts(idle: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in idle.items())


def _clients(soaked: "Soaked") -> report.Table:
    tally = soaked.tally
    lines = [
        [kind, *(f"{found[kind]:,}" for found in (tally.good, tally.bad, tally.unjudged))]
        for kind in sorted(tally.good.keys() | tally.bad.keys() | tally.unjudged.keys())
    ]
    return [["clients", "as it should be", "faults", "not judged"], *lines]


def _memory(soaked: "Soaked") -> report.Table:
    marks = [f"{verdict.at(soaked.load.memory, mark) / 1e6:.1f} MB" for mark in _MARKS]
    return [["memory at", *(f"{mark:.0%}" for mark in _MARKS)], ["", *marks]]


def _idle(soaked: "Soaked") -> report.Table:
    lines = [
        [name, f"{count:g}", f"{soaked.after.get(name, 0.0):g}"] for name, count in soaked.before.items()
    ]
    return [["held with no load", "after the warm-up", "at the end"], *lines]


def _slow(soaked: "Soaked") -> str:
    slow = soaked.slow
    void = f"; {slow.void} pairs void, as other processes used the cores" if slow.void else ""
    if len(slow.pairs) < verdict.PAIRS:
        return f"not judged{void}"
    alone, beside = (median(side) * 1000 for side in zip(*slow.pairs, strict=True))
    return (
        f"the others' p99 {alone:.2f} ms without {crowd.COUNT} slow clients, {beside:.2f} ms beside them: "
        f"{verdict.harm(slow.pairs):.2f} times; {slow.each / 1024:.0f} KiB for each{void}"
    )


def _line(soaked: "Soaked") -> str:
    load = soaked.load
    return (
        f"{load.requests:,} requests in {load.seconds:,.0f} s, {load.requests / load.seconds:,.0f} a second; "
        f"the proxy used {load.cpu:.0%} of a core, the load left {load.idle:.0%} of its own; "
        f"the proxy shed {load.shed}; "
        f"{load.joined} pods joined, {load.left} left"
    )


def _verdict(soaked: "Soaked") -> list[str]:
    return [f"FAULT {fault}" for fault in soaked.faults] or [
        f"no fault; memory from {verdict.MARK:.0%} to the end: {verdict.growth(soaked.load.memory):+.1%}"
    ]


def summary(soaked: "Soaked") -> str:
    """For a terminal."""
    tables = [report.text(table) for table in (_clients(soaked), _memory(soaked), _idle(soaked))]
    return "\n\n".join(
        [_line(soaked), *tables, f"slow clients: {_slow(soaked)}", "\n".join(_verdict(soaked))]
    )


def document(facts: Sequence[str], soaked: "Soaked") -> str:
    """docs/soak.md."""
    return (
        "\n\n".join(
            [
                "# Soak",
                INTRODUCTION,
                "\n".join(f"- {one}" for one in [*facts, f"Traffic: {_line(soaked)}"]),
                report.markdown(_clients(soaked)),
                report.markdown(_memory(soaked)),
                report.markdown(_idle(soaked)),
                f"Slow clients, in {soaked.slow.count} pairs of rounds: {_slow(soaked)}.",
                "\n".join(f"- {one}" for one in _verdict(soaked)),
            ]
        )
        + "\n"
    )


INTRODUCTION: Final = """\
One proxy at high load while pods join and leave every few seconds and clients of each kind come and go.
`python -m bench.soak --write docs/soak.md` writes this page. Each request has an id that the pod repeats in
head and body of its answer: an answer counts as it should be when it is the only one, complete, and its own.
What went amiss by the clock is not judged where the soak's own process did not keep time, for other work on
the machine. Small requests are added at a rate that keeps the proxy at the share of its core which is asked
for, unless the load's own core has too little left.
Memory is resident memory, the median of a tenth of the run. When the load has gone, slow clients crowd in
(heads and bodies that trickle, bodies that stop, answers that nobody reads), and 1,000 requests a second of
others are timed beside them and without them."""
