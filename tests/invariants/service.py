"""I7 to I13: answers, configuration, convergence, bounds. Each check yields a sentence for what it finds."""

from collections import Counter, defaultdict
from functools import cache, partial
from math import inf, sqrt

from tests.invariants.routes import UNCOUNTED
from tests.invariants.story import SLACK
from tests.invariants.view import MOVED, TURNED_AWAY

RESTART = 14.0
"""Seconds in which a proxy that begins anew from its disk is ready."""
CONVERGENCE = 10.0
"""Seconds in which a change has reached every proxy, once faults have stopped."""
FILES, CONNECTIONS, MEMORY = 10, 5, 12 << 20
"""What may be more after an attack than before it: descriptors, connections, bytes."""
SIGMAS = 3
"""How many standard deviations an estimate by a sample may be off."""
BEGINS = {"New", "IdleTimeout"}
"""With these another session begins, which is known once its key comes back."""


def excuse(story, ask):
    """Why a request failed, where that is declared or was done to it; empty: nothing explains it."""
    line = ask.line
    for life in story.lives:
        if ask.proxy not in {"", life.proxy} or life.killed is inf:
            continue
        if ask.sent <= life.out + SLACK and ask.done >= life.killed - SLACK and ask.status == 0:
            return "its proxy was killed"
    if line is None:
        view = story.view(max(story.snapshots), ask.route)
        turned = view is not None and TURNED_AWAY.get(view.mode) == ask.status
        return f"failover {view.mode}, its line torn off" if turned and _is_cut(story, ask) else ""
    views = story.views(ask)
    if line.reason in MOVED and not line.endpoint:
        modes = [view.mode for view in views if TURNED_AWAY.get(view.mode) == ask.status]
        return f"failover {modes[0]} ({line.reason})" if modes else ""
    broke = [
        event["time"]
        for event in story.pods.get(line.uid, ())
        if event["what"] == "crashed" or (event["what"] == "stopped" and _within(event["time"], story.away))
    ]
    if ask.status == 502 and any(line.start - SLACK <= time <= line.end + SLACK for time in broke):
        return "its pod ended without a word"
    return ""


def i7_one_answer(story):
    """Every request has one complete answer, or one explicit and explained error; it is done at most once."""
    for ask in story.asks.values():
        if ask.status and len(ask.lines) != 1 and (ask.lines or not _is_cut(story, ask)):
            yield f"{ask}: {len(ask.lines)} lines in the access logs, and one is due"
        if len(ask.lines) == 1 and ask.status not in {0, ask.line.status}:
            yield f"{ask}: the client got {ask.status}, and {ask.proxy} logged {ask.line.status}"
        if not ask.good and not excuse(story, ask):
            line = ask.line
            told = f"{line.reason} {line.endpoint}".strip() if line is not None else "no line"
            yield f"{ask}: failed with {ask.status or 'no answer'} by {ask.proxy} ({told}): {ask.error}"
        finished = sum(seen.finished for seen in ask.seen)
        # A pod may end before what it has written is sent: then a GET is tried again.
        again = ask.method == "GET" and ask.line is not None and ask.line.retries
        if ask.status == 200 and finished != 1 and not (again and finished):
            yield f"{ask}: answered by {len(ask.seen)} pods, and it is to be one"
        if ask.method == "POST" and len(ask.seen) > 1:
            pods = ", ".join(seen.pod for seen in ask.seen)
            yield f"{ask}: a POST reached pods {len(ask.seen)} times: {pods}"


def _is_cut(story, ask):
    """Whether the log of the proxy that had the request may lack its line."""
    return any(
        ask.proxy in {"", life.proxy} and life.torn < ask.done + 2.0 and ask.sent < life.out + SLACK
        for life in story.lives
    )


def i8_no_crosstalk(story):
    """No answer comes to another's request; no header or cookie of one session reaches a pod as another's."""
    for ask in story.asks.values():
        if ask.wrong:
            yield f"{ask}: {ask.wrong}"
        for seen in ask.seen:
            if (seen.session, seen.secret) != (ask.session, f"private-{ask.session}"):
                yield f"{ask}: {seen.pod} got the cookie of {seen.session} and the header {seen.secret}"
            if seen.leaked:
                yield f"{ask}: {seen.pod} got the proxy's own cookie or header"
            if ask.binding is not None and seen.shown != ask.binding.value:
                yield f"{ask}: {seen.pod} got the value {seen.shown!r}, and had given {ask.binding.value!r}"


def i9_monotonic_config(story):
    """What a proxy serves never becomes older, whoever pushes."""
    last = {}
    for life in story.lives:
        for time, version in life.applied:
            before = last.get(life.proxy)
            if before is not None and version < before and (version[0] < before[0] or time > life.ready):
                yield f"{life.proxy} went from snapshot {_number(before)} back to {_number(version)}"
            last[life.proxy] = version
            if version not in story.snapshots and not story.of("recorder"):
                yield f"{life.proxy} serves snapshot {_number(version)}, which no operator published"
    for event in story.of("rival"):
        if event["status"] != 409:
            yield f"{event['proxy']} answered {event['status']} and not 409 to a push from the past"


def i10_static_stability(story):  # noqa: C901 - two cases of one question
    """Without an operator nothing changes, and a proxy that begins anew serves what it last served."""
    held = {}
    for life in story.lives:
        before = held.get(life.proxy)
        for begin, end in story.away:
            if not begin <= life.started <= end:
                for time, version in life.applied:
                    if begin + 1.0 < time < end - SLACK:
                        yield f"{life.proxy} took snapshot {_number(version)} while there was no operator"
                continue
            if before is not None and life.ready > life.started + RESTART:
                yield f"{life.proxy} began anew without an operator, and did not become ready"
            first = life.applied[0] if life.applied else (inf, None)
            if before is not None and first[0] < end and first[1] != before:
                yield (
                    f"{life.proxy} began anew with snapshot {_number(first[1])},"
                    f" and had served {_number(before)}"
                )
        if life.applied:
            held[life.proxy] = life.applied[-1][1]
    for ask in story.asks.values():
        line = ask.line
        if line is not None and line.status == 503 and "no configuration" in ask.error:
            yield f"{ask}: {ask.proxy} was to be asked, and served nothing"


def i11_convergence(story):
    """Every proxy has what Services and pods are, and status says so, soon after faults stop."""
    wanted = defaultdict(list)
    for event in story.of("wanted"):
        wanted[event["service"]].append(event)
    for service, events in wanted.items():
        for index, event in enumerate(events):
            due = _due(story, event["time"])
            for life in story.lives:
                if life.ready > event["time"] or life.out < due or life.ended < due or due == inf:
                    continue
                good = [one["pods"] for one in events[index:] if one["time"] <= due + SLACK]
                seen = [_states(story, version, service) for version in life.versions(event["time"], due)]
                if not any(states in good for states in seen):
                    yield (
                        f"{life.proxy} did not have {service} as it was wanted {due - event['time']:.0f} s"
                        f" before: {_difference(seen[-1] if seen else {}, good[-1])}"
                    )
                    break
    yield from _statuses(story)


def _statuses(story):
    for event in story.of("status"):
        status = event["status"]
        conditions = {one["type"]: one for one in status["conditions"]}
        proxies = {life.proxy for life in story.lives if life.ended is inf}
        ready, _, of = status["endpointsReady"].partition("/")
        if status["observedGeneration"] != event["generation"]:
            yield f"{event['route']}: status tells of generation {status['observedGeneration']}"
        for kind in ("Accepted", "ResolvedRefs", "Programmed", "Ready"):
            if conditions[kind]["status"] != "True":
                yield f"{event['route']}: {kind} is not True: {conditions[kind]['message']}"
        if ready != of or status["fleet"]["current"] != len(proxies):
            yield f"{event['route']}: status has {status['endpointsReady']} endpoints, {status['fleet']}"


def i12_isolation(story):
    """Whatever becomes of other routes, one that nobody touches stays as it is."""
    begin = story.of("load")[0]["time"]
    before = [version for version, time in story.published.items() if time < begin]
    parts = {}
    for version in [*before[-1:], *(one for one, time in story.published.items() if time >= begin)]:
        snapshot = story.snapshots[version]
        # A new operator finds out anew which pods the proxies know: Joining to it means nothing here.
        endpoints = [
            (one["id"], one["state"].replace("Joining", "Serving"))
            for one in snapshot["endpoints"].get(story.key("quiet:80"), ())
        ]
        parts.setdefault(str((snapshot["routes"].get(story.key("quiet")), endpoints)), version)
    if len(parts) > 1:
        told = ", ".join(map(_number, list(parts.values())[:3]))
        yield f"the route that nobody touches differs between snapshots {told}"
    pods = {}
    for ask in story.asks.values():
        if ask.route != "quiet" or ask.line is None or "overloaded" in ask.error:
            continue  # nobody asked for that, which is I7's to tell
        if ask.line.route != story.key("quiet"):
            yield f"{ask}: was served by {ask.line.route or 'no route'}, and is of quiet"
        elif ask.line.reason == "IdleTimeout":
            pods.pop(ask.session, None)
        elif ask.status == 200 and pods.setdefault(ask.session, ask.line.endpoint) != ask.line.endpoint:
            yield f"{ask}: moved from {pods[ask.session]} to {ask.line.endpoint}, which nothing had touched"


def i13_boundedness(story):
    """After an attack connections, descriptors and memory are what they were before it."""
    samples = {(event["proxy"], event["when"]): event for event in story.of("sample")}
    least = [event for (_, when), event in samples.items() if when == "before"]
    if not least:
        return
    for (proxy, when), event in samples.items():
        if when == "before":
            continue
        before = samples.get((proxy, "before")) or max(least, key=lambda one: one["fds"])
        for name, more in (("connections", CONNECTIONS), ("upstreams", CONNECTIONS), ("fds", FILES)):
            if event[name] > before[name] + more:
                yield f"{proxy}: {event[name]:.0f} {name} {when} the attack, {before[name]:.0f} before it"
        if when == "after" and event["memory"] > before["memory"] + MEMORY:
            grown = (event["memory"] - before["memory"]) / (1 << 20)
            yield f"{proxy}: {grown:.1f} MiB more memory after the attack than before it"


def moves_counted(story):
    """What proxies report of decisions and moves is what their logs tell."""
    ends = {event["proxy"]: event for event in story.of("decisions")}
    reports = {event["proxy"]: event["report"] for event in story.of("report")}
    for life in story.lives:
        if life.ended is not inf or life.proxy not in ends:
            continue
        reported = Counter()
        for name, value in ends[life.proxy]["counts"].items():
            labels = dict(pair.split("=") for pair in name.partition("{")[2][:-1].split(","))
            scope = "/".join(labels[one].strip('"') for one in ("namespace", "route", "scope"))
            if not scope.startswith(story.key("")):
                continue
            reported[scope, labels["reason"].strip('"')] += int(value)
        logged_too = {key for key in life.counts if key[0] and key[0].startswith(story.key("")) and key[1]}
        for key in reported.keys() | logged_too:
            logged = life.counts[key]
            # A request that is tried again is decided again: that is one line, and two decisions.
            if not logged <= reported[key] <= logged + life.retries:
                told = f"{reported[key]} decisions {key[1]} of {key[0]}"
                yield f"{life.proxy}: {told} reported, {logged} logged"
        for scope, told in reports.get(life.proxy, {"scopes": {}})["scopes"].items():
            if scope.startswith(story.key("")):
                yield from _moves_of(story, life, scope, told)


def _moves_of(story, life, scope, told):
    """What one process reports of the moves of one scope, beside its log."""
    moves, most = _moves(story, life, scope)
    if not _near(told["moved"], moves.total(), most.total()):
        yield f"{life.proxy}: {told['moved']} moves of {scope} reported, {moves.total()} in its log"
    names = {}
    for version in life.numbers:
        names |= _names(story, version, scope)
    reported = Counter()
    for one in told["departures"]:
        reported[names.get(one["endpoint"], one["endpoint"]), one["reason"]] += one["moved"]
    for name, reason in reported.keys() | moves.keys():
        # A process cannot name a pod that had gone before it began.
        if name in names.values() and not _near(
            reported[name, reason], moves[name, reason], most[name, reason]
        ):
            yield (
                f"{life.proxy}: {reported[name, reason]} departures from {name} in {scope} with {reason}"
                f" reported, {moves[name, reason]} in its log"
            )


def sessions_counted(story):
    """The status counts the sessions that made a request since the last restart of a proxy, within 2 %.

    And, where reports carry a sample of the ids, what that may be off. A restart is over when the old process
    has ended too: what it served after its last report nobody knows.
    """
    share = min((event["report"]["sample"] for event in story.of("report")), default=1.0)
    began = max(time for life in story.lives for time in (life.ready, life.ended) if time is not inf)
    last = story.snapshots[max(story.snapshots)]["endpoints"].values()
    there = {one["id"] for endpoints in last for one in endpoints}
    ordered = cache(partial(_ordered, story))
    least, most = defaultdict(dict), defaultdict(set)
    met = _met(story)
    for ask in story.asks.values():
        if not ask.token or ask.line is None:
            continue
        key = story.key(ask.route)
        if ask.line.life.ended is inf:
            # One that asks seldom may be known from before.
            most[key].add(ask.session)
        if (ask.line.reason in BEGINS or ask.given == "-") and met[ask.session] <= ask.line.start:
            # Another session begins; proxies may know the one before, which nobody ends there.
            most[key].add(ask.token)
        if ask.good and ask.sent >= max(began, ordered(key)):
            least[key][ask.session] = ask.uid in there and _is_counted(story, ask)
    for event in story.of("status"):
        route, told = event["route"], event["status"]["sessions"]["active"]
        low, high = sum(least[route].values()), len(most[route])
        off = SIGMAS * sqrt(told * (1 - share) / share)
        if route not in map(story.key, UNCOUNTED) and not 0.98 * low - off <= told <= 1.02 * high + off:
            yield f"{route}: status has {told} active sessions, the clients {low} to {high}"


def _ordered(story, key):
    """When the route last came to say something else: of an epoch, or of pods."""
    last, since = None, 0.0
    for version, time in sorted(story.published.items()):
        route = story.snapshots[version]["routes"].get(key)
        if route != last:
            last, since = route, time
    return since


def _met(story):
    """When a process that still runs first decided for a client."""
    found = defaultdict(lambda: inf)
    for ask in story.asks.values():
        if ask.token and ask.line is not None and ask.line.life.ended is inf:
            found[ask.session] = min(found[ask.session], ask.line.start)
    return found


def _is_counted(story, ask):
    """Whether its session is known by its key, at a pod that is there: a guest counts at its own alone."""
    views = story.views(ask)
    return ask.line.reason not in BEGINS and all(
        view.named(ask.binding) or not view.may_return(ask.binding, ask.line.reason)
        for view in (views if ask.binding is not None else ())
    )


# What the checks are made of


def _moves(story, life, scope):
    """Sessions that this proxy bound elsewhere, by what they lost and why: each token once.

    Workers know sessions each for itself: so with the second number, which counts it for each of them.
    """
    found = Counter()
    for ask in story.asks.values():
        line = ask.line
        if line is None or line.life is not life or line.scope != scope or line.reason not in MOVED:
            continue
        views = story.views(ask)
        if line.reason == "EndpointsChanged":
            found["", line.reason, ask.id] += 1
        if not line.endpoint or ask.binding is None or not views:
            continue
        if views[0].mode != "Temporary" or not views[0].may_return(ask.binding, line.reason):
            found[ask.binding.name, line.reason, ask.token] += 1
    least, most = Counter(), Counter()
    for (name, reason, _), count in found.items():
        least[name, reason] += 1
        most[name, reason] += min(count, life.workers)
    return least, most


def _near(reported, least, most):
    return 0.98 * least - 1 <= reported <= 1.02 * most + 1


def _names(story, version, scope):
    """What bindings of a scope name, by UID."""
    view = story.view(version, scope.split("/")[1])
    return {} if view is None else {uid: view.name(uid) for uid in view.endpoints}


def _due(story, time):
    """When a change of then has to be known, faults allowed for."""
    due = time + CONVERGENCE
    for begin, end in sorted([*story.away, *story.unheard]):
        if begin - 1.0 <= due and time <= end:
            due = max(due, end + CONVERGENCE)
    return due if due <= max(event["time"] for event in story.events) else inf


def _states(story, version, service):
    snapshot = story.snapshots.get(version)
    if snapshot is None:
        return {}
    return {one["id"]: one["state"] for one in snapshot["endpoints"].get(story.key(f"{service}:80"), ())}


def _difference(states, wanted):
    return ", ".join(
        f"{uid} is {states.get(uid, 'not there')} and not {wanted.get(uid, 'gone')}"
        for uid in sorted(states.keys() | wanted.keys())
        if states.get(uid) != wanted.get(uid)
    )


def _within(time, spans):
    return any(begin <= time <= end for begin, end in spans)


def _number(version):
    return "none" if version is None else ".".join(map(str, version))
