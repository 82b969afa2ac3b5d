"""What an answer gives the client to show next time: a token, or one around the application's own value."""

from stickyroute_proxy.affinity.bind import followed
from stickyroute_proxy.affinity.cookie import may_set
from stickyroute_proxy.affinity.decision import Decision
from stickyroute_proxy.affinity.mint import minted, prolonged, sealer
from stickyroute_proxy.affinity.retry import prolong
from stickyroute_proxy.seams import Plane
from stickyroute_proxy.table import Endpoint, Rule
from stickyroute_proxy.wire.answer import AnswerHead


def give(plane: Plane, rule: Rule, decision: Decision, answer: AnswerHead, *, secure: bool) -> bytes:
    """The lines that give the client its token; empty where it has the right one."""
    drop_ours(plane, rule, answer)
    token = decision.set_token
    if answer.long_lived and decision.token is not None:
        token = prolong(rule, decision, plane.clock())
    if token is None or not may_set(answer.status, answer.cache_control) or answer.targets_caches():
        return b""
    return rule.scope.carrier.given(token, secure) + _private(answer)


def change(plane: Plane, rule: Rule, answer: AnswerHead) -> None:
    """Change the answer as the rule says; a header of the token's name goes with that."""
    answer.change(rule.changes.answer)
    if answer.lines is not answer.given and not rule.scope.cleans and _clash(plane, rule, answer.given):
        # Its like is to be read anew, and counted.
        answer.replace(answer.lines)


def drop_ours(plane: Plane, rule: Rule, answer: AnswerHead) -> None:
    """Take cookies of the token's name out: the application never sees them, and gives none."""
    if answer.sets_cookies:
        drop_all_ours(plane, rule, answer)


def drop_all_ours(plane: Plane, rule: Rule, answer: AnswerHead) -> None:
    """The same of an answer that the rule does not change, such as Early Hints: a header of the name too."""
    kept = rule.scope.carrier.down_fields(answer.lines)
    if kept is not answer.lines:
        _clash(plane, rule, answer.lines)
        answer.replace(kept)


def _clash(plane: Plane, rule: Rule, lines: list[bytes]) -> bool:
    """Count what the application loses: it would have the client keep what never gets there."""
    now = plane.clock()
    times = rule.scope.carrier.clashes(lines, now)
    if times:
        rule.scope.clash(times, now)
    return times > 0


def wrap(plane: Plane, rule: Rule, decision: Decision, endpoint: Endpoint, answer: AnswerHead) -> bytes:
    """Put the values that the application gives out into envelopes; further lines.

    The client needs them now, to be logged in: what lets shared caches keep the answer gives way.
    """
    now = plane.clock()
    seal = sealer(rule, decision, endpoint, now, plane.random)
    lines = rule.scope.carrier.wrapped(answer.lines, seal, now)
    if lines == answer.lines:
        return b""
    answer.replace(lines)
    if answer.targets_caches() or not may_set(answer.status, answer.cache_control):
        answer.leave_caches()
    return _private(answer)


def learn(
    plane: Plane, rule: Rule, decision: Decision, endpoint: Endpoint, answer: AnswerHead, *, key: bytes
) -> None:
    """Keep the bindings of the values that the application gives out, and the client's own if it has changed.

    `key`: what that is kept under; empty where none is known.
    """
    scope, memory, now = rule.scope, plane.memory, plane.clock()
    held = followed(scope, decision)
    changed = decision.binding is not None or answer.long_lived
    if key and changed and held is not None and held.endpoint == scope.name(endpoint):
        memory.keep(scope, key, prolonged(held, now) if answer.long_lived else held)
    for value in scope.carrier.minted(answer.lines, now):
        fresh = scope.key(value)
        if fresh != key:
            binding = minted(rule, held, endpoint, now, plane.random)
            memory.keep(scope, fresh, prolonged(binding, now) if answer.long_lived else binding)


def _private(answer: AnswerHead) -> bytes:
    """The line that keeps shared caches from storing an answer with a token; empty where it has its like.

    Caches treat `private` with field names as without, or overlook it (RFC 9111, section 5.2.2.7), so it has
    none. `no-cache="Set-Cookie"` would let them store the rest, and is as seldom understood.
    """
    said = answer.cache_control or b""
    directives = said.lower().split(b",")
    # What stands in quotes may look like a directive, and be none.
    if b'"' not in said and any(
        directive.strip(b" \t") in (b"private", b"no-store") for directive in directives
    ):
        return b""
    return b"Cache-Control: private\r\n"
