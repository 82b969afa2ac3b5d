"""How WebSockets end: by their clients, or with 1001 once their bindings have; never without a word."""

from math import inf

from tests.invariants.story import SLACK

ENDS = {"PodTerminated", "PodDisabled", "Released", "EpochRaised", "PolicyChanged"}
"""What ends all bindings to a pod, and with them what is open by them."""
SPREAD = 5.0
"""Seconds over which those of one cause are ended."""
NOTICED = 2.0
"""Seconds by which proxies know of a pod's end, and their sweep of a deadline's."""
GOODBYE = 5.0
NORMAL, GOING_AWAY = 1000, 1001


def ended(story):
    """The chats whose end is not as it is to be."""
    for ask in story.asks.values():
        if ask.status != 101 or ask.line is None or ask.after is None:
            continue
        if ask.close == GOING_AWAY:
            why = ask.line.message.removeprefix("ended: ")
            if why not in ENDS & _reasons(story, ask):
                yield f"{ask}: its chat with {ask.line.endpoint} was ended ({why}), and it is bound there"
        elif ask.close != NORMAL and not _broke(story, ask):
            yield f"{ask}: its chat with {ask.line.endpoint} was cut off without a word: {ask.error}"
        overdue = ask.done - _due(story, ask)
        if overdue > 0:
            yield f"{ask}: its chat with {ask.line.endpoint} lasted {overdue:.1f} s too long"


def _views(story, ask, begin, end):
    found = (story.view(version, ask.route) for version in ask.line.life.versions(begin, end))
    return [view for view in found if view is not None]


def _reasons(story, ask):
    """Why its binding may have ended when it did, or so long before."""
    found = set()
    begin = max(ask.line.start, ask.done - SPREAD - GOODBYE - SLACK)
    for view in _views(story, ask, begin, ask.done):
        found |= view.reasons(ask.after, begin, ask.done)
    return found


def _broke(story, ask):
    """Whether its pod or its proxy ended without a word then."""
    times = [event["time"] for event in story.pods[ask.line.uid] if event["what"] == "crashed"]
    return any(abs(time - ask.done) <= 2 * SLACK for time in (*times, ask.line.life.killed))


def _due(story, ask):
    """When it has to be over, because its pod ends and another serves; infinite: it may last."""
    uid = ask.line.uid
    told = next((one["time"] for one in story.pods[uid] if one["what"] == "terminating"), inf)
    if told > ask.done:
        return inf
    views = _views(story, ask, told, ask.done)
    due = told + max((view.drain for view in views), default=inf) + SPREAD + NOTICED
    unheard = any(begin - 1.0 <= due and told <= end for begin, end in (*story.away, *story.unheard))
    # Where there is no other pod to go to, it goes on.
    return inf if unheard or any(_is_last(view, uid) for view in views) else due


def _is_last(view, uid):
    one = view.endpoints.get(uid)
    return one is not None and one["state"] == "Draining" and uid in view.best
