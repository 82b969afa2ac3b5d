"""What the bench prints, and what it writes: the same tables."""

from collections.abc import Sequence

from bench.figures import Results, Spread
from bench.rows import BURST, Column, Row
from bench.targets import OURS, TARGETS, Target

REFERENCE = "haproxy"
Table = list[list[str]]
"""Lines of cells, the titles first."""


def row_table(row: Row, results: Results) -> Table:
    """One row's figures, by peer."""
    titles = ["peer"]
    for column in row.columns:
        titles.append(column.title)
        if column.ratio:
            titles.append("÷ HAProxy")
    lines = [[*titles, "load idle"]]
    for peer in results.rounds:
        cells = [peer]
        for column in row.columns:
            cells += _cells(column, results, peer)
        lines.append([*cells, _idle(results, peer)])
    lines += [[peer, why, *[""] * (len(titles) - 1)] for peer, why in results.absent.items()]
    return lines


def _cells(column: Column, results: Results, peer: str) -> list[str]:
    value = results.spread(peer, column.figure)
    cells = ["-" if value is None else f"{value.middle:,.{column.places}f}"]
    if column.ratio:
        ratio = results.ratio(column.figure, peer, REFERENCE)
        void = results.void(peer, REFERENCE)
        cells.append("-" if ratio is None else "void" if void else spread_text(ratio))
    elif value is not None and value.least != value.most:
        cells[0] += f" ({value.least:,.{column.places}f} to {value.most:,.{column.places}f})"
    return cells


def _idle(results: Results, peer: str) -> str:
    share = results.spread(peer, "idle")
    if share is None:
        return "-"
    return f"{share.middle:.0%}{' void' if results.void(peer) else ''}"


def spread_text(spread: Spread) -> str:
    if spread.least == spread.most:
        return f"{spread.middle:.2f}"
    return f"{spread.middle:.2f} ({spread.least:.2f} to {spread.most:.2f})"


def verdict_table(measured: dict[str, Results]) -> Table:
    """The targets of the rows that were measured."""
    return [
        ["figure", "measured", "reach", "aim", "verdict"],
        *(
            [target.text, *_verdict(target, measured[target.row])]
            for target in TARGETS
            if target.row in measured
        ),
    ]


def _verdict(target: Target, results: Results) -> list[str]:
    sign, unit = ("≥ " if target.more else "≤ "), f" {target.unit}" if target.unit else ""
    limits = [f"{sign}{limit:g}{unit}" for limit in (target.reach, target.aim)]
    value = target.value(results)
    if value is None:
        missing = [results.absent[peer] for peer in (OURS, target.against) if peer in results.absent]
        return ["-", *limits, "; ".join(missing) or "not measured"]
    verdict = target.verdict(value.middle)
    if results.void(OURS, *filter(None, [target.against])):
        verdict = "void: the load had no core left"
    return [spread_text(value) + unit, *limits, verdict]


def text(table: Table) -> str:
    """For a terminal."""
    widths = [max(len(line[at]) for line in table) for at in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    )


def markdown(table: Table) -> str:
    first, *rest = table
    lines = [first, ["---"] * len(first), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(
    facts: Sequence[str],
    measured: Sequence[tuple[Row, Results]],
    others: Sequence[tuple[str, Table]],
    verdicts: Table,
) -> str:
    """docs/performance.md; `others`: what was measured of StickyRoute alone, with titles."""
    parts = [
        "# Performance",
        INTRODUCTION,
        "\n".join(f"- {fact}" for fact in facts),
        METHOD,
        "## Targets",
        markdown(verdicts),
    ]
    for row, results in measured:
        parts += [f"## {row.title}", markdown(row_table(row, results))]
    for title, table in others:
        parts += [f"## {title}", markdown(table)]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
What StickyRoute costs beside other proxies on the same machine, in the same run, with sticky cookies,
routing, metrics, deadlines and limits on. `python -m bench --write docs/performance.md` writes this page."""
METHOD = f"""\
The proxies have one core, load generators and pods another, with priority over what else the machine does;
one proxy is measured at a time. Each is met with a request first, and must keep a client to its pod; any
answer but a good one fails its row. Each has one thread, keeps its connections to pods, and logs no requests.
Those whose metrics are an option have them on; the others are given no limits for each client, which
StickyRoute has.

Rounds are interleaved, and ratios are taken within a round: their median, and in brackets their extremes.
Absolute figures swing with the machine; ratios say more. CPU is that of all threads and child processes, from
the scheduler's statistics. "load idle" is the share of the load's core that nothing used: below 10 % the load
was what was measured, and the figure is void. CPU for a request is therefore counted at a rate that saturates
nobody, with requests due {BURST} at a time, so that a proxy has several to do when it wakes, as under load.
Latencies are of requests due one at a time, and count from when each was due, not from when it was sent.
Memory is resident memory. Beside the idle connections, which a process that sleeps holds, latencies are taken
between measurements without them, in the same proxy process; each figure is the median of four p99s.

Decisions are timed in a process without sockets, in interleaved rounds, and by its own time on the core. A
forged key has the form of a good one, and a new one is made up for each request. It is compared with a
request that differs in nothing else, all the way from its bytes to the head that goes upstream; a cookie of
8 KiB with as many bytes under another name. Several envelopes are shown, but not part of the target: each is
opened for the application, whatever its token is worth."""
