"""One route's form, settled and resolved, to its part of the snapshot and its verdict."""

from collections.abc import Iterator
from dataclasses import dataclass

from stickyroute_api.reasons import ConditionReason, ConditionType
from stickyroute_api.snapshot import Backend, Endpoint, Match, Route, RouteTls, Rule
from stickyroute_operator.translate.backends import Resolved, Resolver, are_same
from stickyroute_operator.translate.conflicts import Settlement
from stickyroute_operator.translate.form import Compiled, RuleForm
from stickyroute_operator.translate.grace import too_short
from stickyroute_operator.translate.referents import ServedTls
from stickyroute_operator.translate.verdicts import RouteVerdict, Trouble, Verdict

_SHOWN = 8
"""So many problems are told at once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one route, with what it came from."""

    form: Compiled
    settlement: Settlement
    resolved: tuple[Resolved, ...]
    tls: ServedTls | None
    conflict: Verdict | None
    """With the cookie of an older scope."""
    route: Route | None
    """None: nothing of it is served."""
    endpoint_sets: dict[str, tuple[Endpoint, ...]]
    verdict: RouteVerdict


def assemble(
    form: Compiled,
    settlement: Settlement,
    resolve: Resolver,
    before: Outcome | None,
    *,
    tls: ServedTls | None,
    conflict: Verdict | None,
) -> Outcome:
    """The outcome of one route; `before` itself when nothing that it came from has changed."""
    namespace = form.source.namespace
    resolved = tuple(resolve(namespace, use) for rule in form.rules for use in rule.backends)
    if (
        before is not None
        and before.form is form
        and before.settlement == settlement
        and before.tls == tls
        and before.conflict == conflict
        and are_same(before.resolved, resolved)
    ):
        return before
    refusal = settlement.refusal
    route = None if refusal is not None else _route(form, settlement, resolved)
    if route is not None and before is not None and before.route == route:
        route = before.route
    if refusal is not None:
        accepted = Verdict(False, refusal.reason, refusal.message)
    elif settlement.notes:
        # Served in part: True, with the reason that tells what is missing.
        accepted = Verdict(True, ConditionReason.ROUTE_CONFLICT, _told(settlement.notes, " "))
    else:
        notes = _inert(form, resolved)
        accepted = Verdict(True, ConditionReason.ACCEPTED, _told(["The route is valid", *notes], "; "))
    return Outcome(
        form=form,
        settlement=settlement,
        resolved=resolved,
        tls=tls,
        conflict=conflict,
        route=route,
        endpoint_sets={one.key: one.endpoints for one in resolved if one.key is not None},
        verdict=RouteVerdict(
            route=form.source,
            accepted=accepted,
            resolved=_references(form, resolved, tls),
            hosts=form.hosts,
            persistence=form.persistence,
            scopes=tuple(
                dict.fromkeys(
                    f"{namespace}/{form.source.name}/{rule.scope}" for rule in form.rules if rule.scope
                )
            ),
            ours=() if route is None else _ours(route),
            endpoints=_endpoints(form, resolved),
            needs_endpoints=not form.rules or any(rule.backends for rule in form.rules),
            deletion_costs=tuple(
                dict.fromkeys(
                    f"{namespace}/{form.source.name}/{rule.scope}"
                    for rule in form.rules
                    if rule.deletion_cost
                )
            ),
            overrides=form.overrides,
            warnings=() if route is None else tuple(_warnings(form, resolved, conflict)),
            pods=tuple({pod.uid: pod for one in resolved for pod in one.pods}.values()),
        ),
    )


def _ours(route: Route) -> tuple[tuple[str, str], ...]:
    found = {f"{route.key}/{rule.scope}": rule.persistence.ours for rule in route.rules}
    return tuple((scope, ours) for scope, ours in found.items() if ours)


def _warnings(
    form: Compiled, resolved: tuple[Resolved, ...], conflict: Verdict | None
) -> Iterator[tuple[ConditionType, Verdict]]:
    if conflict is not None:
        yield ConditionType.COOKIE_CONFLICT, conflict
    drains = [rule.persistence.drain_timeout for rule in form.rules for _ in rule.backends]
    short = too_short((drain, one.pods) for drain, one in zip(drains, resolved, strict=True))
    if short is not None:
        yield ConditionType.GRACE_PERIOD_TOO_SHORT, short


def _inert(form: Compiled, resolved: tuple[Resolved, ...]) -> Iterator[str]:
    """What is valid, but means nothing as the pods are now."""
    pods = {endpoint.pod for one in resolved for endpoint in one.endpoints}
    bound = {rule.persistence.bind_to for rule in form.rules if rule.backends}
    for index, override in enumerate(form.overrides):
        if override.pod not in pods:
            yield (
                f"spec.overrides[{index}].pod: no backend has a pod {override.pod} now: correct the name,"
                " or remove the override when it has done its work"
            )
        elif override.action == "Release" and bound == {"Cohort"}:
            yield (
                f"spec.overrides[{index}].action: Release ends the sessions of one pod, and with bindTo"
                " Cohort none belongs to one: use Disable, or raise persistence.epoch"
            )


def held(form: Compiled, settlement: Settlement) -> Outcome:
    """The outcome of a route whose Secrets and ConfigMaps are still being read: it is not served yet."""
    names = ", ".join(dict.fromkeys(str(reference) for reference in form.references()))
    pending = Verdict(False, ConditionReason.PENDING, f"Being read: {names}")
    return Outcome(
        form=form,
        settlement=settlement,
        resolved=(),
        tls=None,
        conflict=None,
        route=None,
        endpoint_sets={},
        verdict=RouteVerdict(
            route=form.source,
            accepted=Verdict(True, ConditionReason.ACCEPTED, "The route is valid"),
            resolved=pending,
            hosts=form.hosts,
            persistence=form.persistence,
        ),
    )


def _route(form: Compiled, settlement: Settlement, resolved: tuple[Resolved, ...]) -> Route:
    rules = []
    rest = iter(resolved)
    for index, rule in enumerate(form.rules):
        targets = [(use, next(rest)) for use in rule.backends]
        matches = tuple(
            match for number, match in enumerate(rule.matches) if (index, number) not in settlement.shadowed
        )
        if not matches:
            continue
        # What does not resolve gets no share; a rule without any answers 503 and so hides no broader rule.
        backends = tuple(
            Backend(service=use.service, endpoints=found.key, weight=use.weight)
            for use, found in targets
            if found.key is not None
        )
        rules.append(_rule(rule, matches, backends))
    return Route(
        namespace=form.source.namespace,
        name=form.source.name,
        created=form.source.created,
        hosts=form.hosts,
        tls=RouteTls(certificate=form.tls.certificate.key, redirect=form.tls.redirect) if form.tls else None,
        rules=tuple(rules),
        overrides=form.overrides,
    )


def _rule(rule: RuleForm, matches: tuple[Match, ...], backends: tuple[Backend, ...]) -> Rule:
    return Rule(
        name=rule.name,
        matches=matches,
        backends=backends,
        scope=rule.scope,
        balancing=rule.balancing,
        persistence=rule.persistence,
        timeouts=rule.timeouts,
        retries=rule.retries,
        limits=rule.limits,
        changes=rule.changes,
    )


def _references(form: Compiled, resolved: tuple[Resolved, ...], tls: ServedTls | None) -> Verdict:
    uses = [use for rule in form.rules for use in rule.backends]
    troubles = [tls.trouble] if tls is not None and tls.trouble is not None else []
    troubles += [
        Trouble(one.trouble.reason, f"{use.field}: {one.trouble.message}")
        for use, one in zip(uses, resolved, strict=True)
        if one.trouble is not None
    ]
    if troubles:
        return Verdict(False, troubles[0].reason, _told([trouble.message for trouble in troubles], "; "))
    if form.refusal is not None:
        # Nothing could be read that would name a Service.
        return Verdict(False, ConditionReason.NOT_ACCEPTED, "The route is not valid; Accepted says why")
    nameless = sum(1 for _, endpoint in _endpoints(form, resolved) if endpoint.pod == endpoint.id)
    note = (
        f"; {nameless} endpoints name no pod, so sessions are bound to their address and port"
        if nameless
        else ""
    )
    if tls is not None and tls.warning is not None:
        # All is served: True, with the reason that tells what to look at.
        return Verdict(True, tls.warning.reason, f"All that is named exists, but {tls.warning.message}{note}")
    return Verdict(True, ConditionReason.RESOLVED_REFS, f"All Services and ports exist{note}")


def _endpoints(form: Compiled, resolved: tuple[Resolved, ...]) -> tuple[tuple[str, Endpoint], ...]:
    uses = [use for rule in form.rules for use in rule.backends]
    found = {
        (use.service, endpoint.pod, endpoint.id): endpoint
        for use, one in zip(uses, resolved, strict=True)
        for endpoint in one.endpoints
    }
    return tuple((key[0], found[key]) for key in sorted(found))


def _told(messages: list[str] | tuple[str, ...], joint: str) -> str:
    shown = joint.join(messages[:_SHOWN])
    rest = len(messages) - _SHOWN
    return f"{shown}{joint}and {rest} more" if rest > 0 else shown
