"""Differences between what became of a message here and there, by class, and the document that lists them."""

from collections import Counter, defaultdict

from tests import provenance
from tests.component.wire.corpus import answer, rules
from tests.component.wire.corpus.answer import Answer
from tests.component.wire.corpus.message import Message
from tests.differential.peers import PEERS
from tests.differential.reasons import REASONS, REFUSED, SERVED

ORDINARY = frozenset(
    (
        "plain",
        "length",
        "chunked",
        "HTTP/1.0",
        "chunk extension",
        "hop by hop",
        "until close",
        "HTTP/1.0 answer",
    )
)
"""Rules that decide nothing where another applies."""

HEAD = """# What other proxies make of the corpus

The corpus (`tests/component/wire/corpus`) went through each proxy to a backend that records. Here is each
class of messages whose outcomes differ: the rule that decides, what became of them here and there, how
many they are, and why. The outcomes: refused, with any status; served; served with another meaning
(method, target, host or body are not what the rule says); passed on malformed (a strict reader finds
fault with it); closed without an answer; held open; cut (seen not to have ended). The peers run with
their defaults and pass Host on unchanged. `make differential` writes this page.

"""


class Differences:
    """Gathered by `take`, told by `document` and `unexplained`."""

    def __init__(self) -> None:
        self._taken: Counter[tuple[str, str]] = Counter()
        self._classes: dict[tuple[str, str, str], dict[str, Counter[str]]] = defaultdict(
            lambda: defaultdict(Counter)
        )
        self._examples: dict[tuple[str, str, str], str] = {}

    def take(self, side: str, peer: str, message: Message | Answer, ours: str, theirs: str) -> None:
        """Note what became of a message here and at a peer."""
        self._taken[side, peer] += 1
        kinds = [REFUSED if one.startswith(REFUSED) else one for one in (ours, theirs)]
        if kinds[0] != kinds[1]:
            key = (side, _decisive(message, kinds[0]), kinds[0])
            self._classes[key][peer][kinds[1]] += 1
            self._examples.setdefault(key, message.name)

    def unexplained(self) -> list[str]:
        """The classes that have no reason."""
        return [
            f"no reason for {side}, {rule}, {ours} here: {dict(found)}, such as {self._examples[key]}"
            for key, found in sorted(self._classes.items())
            for side, rule, ours in (key,)
            if rule not in REASONS.get((side, ours), ())
        ]

    def document(self) -> str:
        versions = ", ".join(peer.version for peer in PEERS if peer.installed)
        facts = [*provenance.facts("python -m tests.differential"), f"Beside: {versions}"]
        parts = [HEAD + "\n".join(f"- {fact}" for fact in facts)]
        for side in ("requests", "answers"):
            parts += [f"## {side.title()}", self._totals(side), self._table(side)]
        return "\n\n".join(parts) + "\n"

    def _totals(self, side: str) -> str:
        lines = ["| peer | messages | another outcome |", "|---|---|---|"]
        for (one, peer), taken in self._taken.items():
            if one == side:
                differ = sum(
                    sum(found[peer].values()) for key, found in self._classes.items() if key[0] == side
                )
                lines.append(f"| {peer} | {taken:,} | {differ:,} |")
        return "\n".join(lines)

    def _table(self, side: str) -> str:
        peers = [peer for one, peer in self._taken if one == side]
        lines = [f"| rule | here | {' | '.join(peers)} | why |", "|---" * (len(peers) + 3) + "|"]
        for (one, rule, ours), found in sorted(self._classes.items()):
            if one == side:
                there = [_told(found[peer]) for peer in peers]
                why = REASONS.get((side, ours), {}).get(rule, "")
                lines.append(f"| {' | '.join((rule, ours, *there, why))} |")
        return "\n".join(lines)


def _told(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))


def _decisive(message: Message | Answer, ours: str) -> str:
    """The rule that decided what became of a message here."""
    if ours == SERVED:
        deciding = [rule for rule in message.rules if rule not in ORDINARY]
        deciding.sort(key=lambda rule: rule == "method token")  # where the target is odd too, that decides
    elif isinstance(message, Message):
        deciding = [rule for rule in message.rules if rules.RULES[rule].refused]
    else:
        deciding = [rule for rule in message.rules if answer.RULES[rule].outcomes - answer.SERVED]
    return deciding[0] if deciding else "plain"
