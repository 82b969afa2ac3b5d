"""What a soak prints, and what it writes: the same tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from bench import report
from bench.soak import verdict

if TYPE_CHECKING:
    from bench.soak.__main__ import Soaked

_MARKS: Final = (0.0, verdict.MARK, 0.4, 0.6, 0.8, 1.0)


def counts(idle: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in idle.items())


def _clients(soaked: "Soaked") -> report.Table:
    kinds = sorted(soaked.tally.good.keys() | soaked.tally.bad.keys())
    lines = [[kind, f"{soaked.tally.good[kind]:,}", f"{soaked.tally.bad[kind]:,}"] for kind in kinds]
    return [["clients", "as it should be", "faults"], *lines]


def _memory(soaked: "Soaked") -> report.Table:
    marks = [f"{verdict.at(soaked.memory, mark) / 1e6:.1f} MB" for mark in _MARKS]
    return [["memory at", *(f"{mark:.0%}" for mark in _MARKS)], ["", *marks]]


def _line(soaked: "Soaked") -> str:
    return (
        f"{soaked.requests:,} requests in {soaked.seconds:,.0f} s, "
        f"{soaked.requests / soaked.seconds:,.0f} a second; "
        f"the proxy used {soaked.cpu:.0%} of a core and shed {soaked.shed}; "
        f"{soaked.joined} pods joined, {soaked.left} left"
    )


def _verdict(soaked: "Soaked") -> list[str]:
    return [f"FAULT {fault}" for fault in soaked.faults] or [
        f"no fault; memory from {verdict.MARK:.0%} to the end: {verdict.growth(soaked.memory):+.1%}"
    ]


def summary(soaked: "Soaked") -> str:
    """For a terminal."""
    tables = [report.text(table) for table in (_clients(soaked), _memory(soaked))]
    return "\n\n".join([_line(soaked), *tables, "\n".join(_verdict(soaked))])


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
                "\n".join(f"- {one}" for one in _verdict(soaked)),
            ]
        )
        + "\n"
    )


INTRODUCTION: Final = """\
One proxy at high load while pods join and leave every few seconds and clients of each kind come and go.
`python -m bench.soak --write docs/soak.md` writes this page. Each request has an id that the pod repeats in
head and body of its answer: an answer counts as it should be when it is the only one, complete, and its own.
Memory is resident memory, the median of a tenth of the run."""
