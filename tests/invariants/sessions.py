"""I1 to I6: where sessions go. Each check yields a sentence for what it finds, and reads nothing but logs."""

from collections import defaultdict
from functools import lru_cache
from itertools import pairwise

from tests.invariants import tunnels
from tests.invariants.shelf import Shelf
from tests.invariants.story import SLACK
from tests.invariants.view import DEADLINE, KEEPING, MOVED, NOTICED

HOME = {"Bound", "ContainerRestarted"}
ROUNDED = 0.002
"""Seconds by which two times of one log may be in the wrong order."""
SOON = 3.0
"""Seconds after which a pod's arrival is no longer why sessions move."""


def judged(story):
    """Requests that show a token and were decided on, with all reasons that they may have."""
    known, shelf = _known(story), _shelf(story)
    for ask in story.asks.values():
        line, binding = ask.line, ask.binding
        if line is None or binding is None or not line.reason:
            continue
        views = story.views(ask)
        if not views:
            continue
        may = set()
        for view in views:
            may |= view.reasons(binding, line.start, line.decided)
        if any(_refused(story, view, ask) for view in views):
            may.add("ConnectFailed")
        if may - HOME and _followed(known, ask):
            may.add("Bound")
        if views[0].learn == "Store" and shelf.may_lack(ask):
            may.add("New")
        yield ask, views, may


def _refused(story, view, ask):
    """Whether all that the binding names may have refused a connection."""
    line, named = ask.line, view.named(ask.binding)
    asked = [one for one in named if one["state"] in KEEPING] or named
    return bool(asked) and all(story.is_down(one["id"], line.start - 1.0, line.decided) for one in asked)


def i1_stability(story):
    """A valid token for a pod that serves in the proxy's configuration always reaches it."""
    known = _known(story)
    for ask, views, may in judged(story):
        line, binding = ask.line, ask.binding
        if may <= HOME and line.reason not in may:
            yield (
                f"{ask}: its token is bound to {binding.pod}, which serves in {_versions(ask)},"
                f" but it went to {line.endpoint or 'nobody'} ({line.reason})"
            )
        elif line.reason in HOME and not _is_home(views, binding, line.uid) and not _followed(known, ask):
            yield f"{ask}: {line.reason} to {line.endpoint}, and its token is bound to {binding.pod}"


def i2_justified_moves(story):
    """Each move has one cause, true and told to the application alike, and one new token."""
    for ask, views, may in judged(story):
        line, binding = ask.line, ask.binding
        if not may <= HOME and line.reason not in may and not _nobody(line, views):
            yield (
                f"{ask}: left {binding.pod} for {line.endpoint or 'nobody'} with reason {line.reason};"
                f" in {_versions(ask)} that can be {_any(may)} only"
            )
        if line.reason in MOVED:
            yield from _told(ask, views)
    for ask in story.asks.values():
        line = ask.line
        if line is None or len(ask.seen) != 1:
            continue
        if line.reason == "New" and not ask.token and ask.good and ask.given in {"", "-"}:
            yield f"{ask}: a new session on {line.endpoint}, and it got no token"
        told = line.reason if line.reason in NOTICED else ""
        # A pod that broke it off, before it was tried and decided again, was told of the decision before.
        if (not line.retries or ask.seen[0].uid == line.uid) and ask.seen[0].notice != told:
            yield (
                f"{ask}: decided {line.reason}, and {ask.seen[0].pod} was told"
                f" {ask.seen[0].notice or 'nothing'} and not {told or 'nothing'}"
            )


def _told(ask, views):
    """Whether the client of a session that lost its pod has the key that it is to have."""
    line, view = ask.line, views[0]
    returns = view.may_return(ask.binding, line.reason)
    if not line.endpoint:
        ends = view.mode == "Redirect" or not returns
        if ask.status and (ask.given == "-") != ends:
            yield f"{ask}: turned away ({line.reason}), and its token is {'kept' if ends else 'taken back'}"
    elif not ask.good or view.learn:
        return  # what it is then told is the application's
    elif returns and view.mode == "Temporary":
        if ask.given:
            yield f"{ask}: lodged elsewhere ({line.reason}), and yet it got a token"
    elif ask.given in {"", "-", ask.token}:
        yield f"{ask}: moved to {line.endpoint} ({line.reason}) without a new token"


def i3_minimal_disruption(story):
    """A pod that goes moves only its own sessions and values; one that comes moves none of others but values

    that are its own now.
    """
    arrivals = _arrivals(story)
    for ask, views, may in judged(story):
        line, binding = ask.line, ask.binding
        if may <= HOME and line.uid and not _is_home(views, binding, line.uid):
            came = arrivals.get((line.life.stem, line.uid))
            if came is not None and 0 <= line.start - came <= SOON:
                yield f"{ask}: {line.endpoint} came, and took a session of {binding.pod}, which stays"
    for (_, room), asks in _by_room(story).items():
        for before, after in pairwise(asks):
            if before.line.endpoint == after.line.endpoint:
                continue
            old, new = (story.views(ask) for ask in (before, after))
            uids = [ask.line.uid for ask in (before, after)]
            if all(uids[0] in view.best for view in new) and all(uids[1] in view.best for view in old):
                yield (
                    f"{after}: value {room} went from {before.line.endpoint} to {after.line.endpoint},"
                    f" both of which serve in {_versions(before)} and {_versions(after)}"
                )


def i4_no_resurrection(story):
    """After a removal is applied nothing goes to the pod, and nobody inherits its sessions."""
    known = _known(story)
    for ask in story.asks.values():
        line = ask.line
        if line is None or not line.endpoint:
            continue
        uid, views = line.uid, story.views(ask)
        if views and not any(uid in view.endpoints for view in views):
            yield f"{ask}: went to {line.endpoint} ({line.reason}), which is not in {_versions(ask)}"
        if ask.uid and ask.uid != uid:
            yield f"{ask}: was sent to {line.endpoint} at {line.address}, and pod {ask.uid} answered there"
        binding = ask.binding
        if binding is None or line.reason not in HOME or not ask.uid or _followed(known, ask):
            continue
        if not _is_home(views, binding, ask.uid):
            yield f"{ask}: {line.reason}, but {ask.uid} answered, and its token is bound to {binding.uid}"


def i5_drain(story):
    """What is in flight when a pod ends is finished, and a draining pod gets bound sessions only, in time."""
    for ask in story.asks.values():
        line = ask.line
        for seen in ask.seen if ask.status != 101 else ():
            ends = [one["time"] for one in story.pods[seen.uid] if one["what"] == "terminating"]
            if ends and seen.begin <= ends[0] <= seen.end and (not seen.finished or ask.status != 200):
                cut = line is not None and line.life.killed < seen.end + SLACK
                if not cut and not story.is_down(seen.uid, seen.begin, ends[0]):
                    yield f"{ask}: in flight on {seen.pod} when it was told to end, and not finished"
        if line is not None and line.endpoint and not line.retries:
            yield from _on_draining(ask, story.views(ask))
    for ask, views, _ in judged(story):
        line, binding = ask.line, ask.binding
        ends = [_deadline(view, binding) for view in views]
        stayed = line.reason in HOME and _is_home(views, binding, line.uid)
        if stayed and all(end is not None and line.start > end for end in ends):
            yield f"{ask}: still went to {binding.pod}, {line.start - min(ends):.1f} s after its drain's end"
    yield from tunnels.ended(story)


def _on_draining(ask, views):
    line, binding = ask.line, ask.binding
    if not views:
        return
    if line.reason in HOME:
        if binding is not None and all(_has_better(view, ask) for view in views):
            yield f"{ask}: went to {line.endpoint}, draining in {_versions(ask)}; others of its version serve"
    elif all(_drains_while_others_serve(view, line.uid) for view in views):
        yield f"{ask}: a new session ({line.reason}) for {line.endpoint}, draining in {_versions(ask)}"


def i6_agreement(story):
    """With the same configuration every proxy sends the same token, or the same value, to the same pod."""
    places = defaultdict(dict)
    for ask in story.asks.values():
        line, binding = ask.line, ask.binding
        if line is None or not line.endpoint or line.retries:
            continue
        if binding is not None and line.reason in MOVED and line.reason != "ConnectFailed":
            # Of the snapshots that it may have been decided by: those in which its pod was lost.
            views = [
                view
                for view in story.views(ask)
                if line.reason in view.reasons(binding, line.start, line.decided)
            ]
        elif ask.route == "rooms" or (binding is not None and line.reason == "New"):
            views = story.views(ask)
        else:
            continue
        choices = {view.choice for view in views}
        if len(choices) == 1:
            key = ask.token if binding is not None else ask.session
            places[key, line.reason, *choices].setdefault(line.endpoint, ask)
    for (_, reason, _), found in places.items():
        if len(found) > 1:
            told = ", ".join(
                f"{ask} by {ask.proxy} to {pod} ({_versions(ask)})" for pod, ask in found.items()
            )
            yield f"one key, one choice, {reason}: {told}"


# What the checks are made of


def _arrivals(story):
    """When each proxy process first knew a pod as Serving, beyond its first snapshot."""
    found = {}
    for life in story.lives:
        for time, version in life.applied:
            for endpoints in story.snapshots.get(version, {"endpoints": {}})["endpoints"].values():
                for one in endpoints:
                    if one["state"] == "Serving":
                        found.setdefault((life.stem, one["id"]), time)
    firsts = {life.stem: life.applied[0][0] for life in story.lives if life.applied}
    return {key: time for key, time in found.items() if time > firsts[key[0]]}


def _by_room(story):
    """The requests of each value on each proxy process, of which it is known by what they were decided."""
    found = defaultdict(list)
    for ask in story.asks.values():
        line = ask.line
        if ask.route != "rooms" or line is None or not line.endpoint or line.retries:
            continue
        if len(line.life.versions(line.start, line.decided)) == 1 and story.views(ask):
            found[line.life.stem, ask.session].append(ask)
    for asks in found.values():
        asks.sort(key=lambda ask: ask.line.start)
    return found


def _nobody(line, views):
    """Whether there may have been nobody to go to."""
    return line.reason == "NoEndpoint" and any(not view.ranks for view in views)


def _drains_while_others_serve(view, uid):
    one = view.endpoints.get(uid)
    return one is not None and one["state"] == "Draining" and uid not in view.best and bool(view.best)


def _has_better(view, ask):
    """Whether a pod drains that a session of its cohort was sent to, while another of it serves."""
    states = {one["id"]: one["state"] for one in view.named(ask.binding) if not view.orders.get(one["pod"])}
    return states.get(ask.line.uid) == "Draining" and "Serving" in states.values()


def _deadline(view, binding):
    """When the sessions of a draining pod have to have left; None: it does not drain, or nobody is better."""
    named = view.named(binding)
    if not named or any(one["state"] != "Draining" or one["id"] in view.best for one in named):
        return None
    return max(one["draining_since"] for one in named) + view.drain + DEADLINE


def _is_home(views, binding, uid):
    """Whether the binding names that pod."""
    return uid == binding.uid or any(view.name(uid) == binding.name for view in views)


_shelf = lru_cache(maxsize=1)(Shelf)


@lru_cache(maxsize=1)
def _known(story):
    """Requests by session and pod, of those whose keys applications give out."""
    found = defaultdict(list)
    for ask in story.asks.values():
        if ask.line is not None and ask.line.uid and any(view.learn for view in story.views(ask)):
            found[ask.session, ask.line.uid].append(ask)
    return found


def _followed(known, ask):
    """Whether an older key's session was known already where it went.

    The application keeps its key until it gives out another: meanwhile each process tells it once of a move,
    and of one with a stored key all processes together.
    """
    line = ask.line
    return any(
        other is not ask
        and other.line.start <= line.decided + ROUNDED
        and (other.line.life is line.life or (other.token == ask.token and other.line.reason in MOVED))
        for other in known.get((ask.session, line.uid), ())
    )


def _versions(ask):
    line = ask.line
    return "snapshot " + " or ".join(map(_number, line.life.versions(line.start, line.decided)))


def _number(version):
    return ".".join(map(str, version))


def _any(reasons):
    return " or ".join(sorted(reasons))
