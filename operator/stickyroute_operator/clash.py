"""Scopes whose application gives out a cookie or header of our own name. Pure.

Proxies take it out of answers, so the application's sessions do not last; nothing else would tell of it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from re import compile as regex
from typing import Final

from stickyroute_api.affinity import Clash
from stickyroute_api.reasons import ConditionReason
from stickyroute_operator.ledger import ScopeView
from stickyroute_operator.translate import RouteVerdict, Verdict

LASTS = 86400.0
"""Seconds after the last one for which it is told: then the application is taken to have changed."""
_COUNTED: Final = regex(r" \(dropped so far: [^)]*\)?")
_REMEDIES = {
    "cookie": "type AppCookie with learn.from ResponseCookie",
    "header": "learn.from ResponseHeader",
}


def clashing(verdict: RouteVerdict, scopes: Iterable[ScopeView], now: float) -> Verdict | None:
    """What is to be told of a route's scopes, as their policies are now; `now` in Unix seconds."""
    ours = dict(verdict.ours)
    told = []
    for view in scopes:
        what = ours.get(view.scope, "")
        clash = view.totals.clashes.get(what)
        if clash is not None and now < clash.last + LASTS:
            told.append(_told(view.scope.rpartition("/")[2], what, clash))
    return Verdict(True, ConditionReason.COOKIE_CONFLICT, "; ".join(told)) if told else None


def uncounted(message: str) -> str:
    """What CookieConflict says without its numbers and times, which grow with each answer."""
    return _COUNTED.sub("", message)


def _told(scope: str, what: str, clash: Clash) -> str:
    last = datetime.fromtimestamp(int(clash.last), UTC).isoformat().replace("+00:00", "Z")
    return (
        f"persistence.sessionName: in scope {scope} the application itself sets {what}, which is the name of"
        f" our own, so the application's was dropped (dropped so far: {clash.times}, the last {last}), and"
        " what it keeps by it begins anew with each request: give sessionName another name, or if the"
        f" application's own is meant to be the key, use {_REMEDIES[what.partition(' ')[0]]}"
    )
