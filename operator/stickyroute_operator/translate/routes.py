"""The front end of StickyRoute: a raw object to the internal form."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import ValidationError

from stickyroute_api import spec as api
from stickyroute_api.duration import parse_duration
from stickyroute_api.fields import parse_size
from stickyroute_api.guarded import plain
from stickyroute_api.pattern import compiled
from stickyroute_api.reasons import ConditionReason
from stickyroute_api.snapshot import (
    ActiveCheck,
    Balancing,
    Cookie,
    Failover,
    HashOn,
    HeaderMatch,
    HealthCheck,
    Limits,
    Match,
    Override,
    PassiveCheck,
    Persistence,
    Rebalance,
    Retries,
    SessionLimits,
    Timeouts,
)
from stickyroute_api.validate import InvalidObject, Problem, parse_route, unsupported
from stickyroute_operator.objects import Reference, RouteObject
from stickyroute_operator.translate.changes import changes
from stickyroute_operator.translate.form import (
    BackendTlsUse,
    BackendUse,
    Compiled,
    Refusal,
    RuleForm,
    TlsUse,
)
from stickyroute_operator.translate.policy import futile

_DEFAULT_CLASS = api.StickyRouteSpec.model_fields["class_name"].default


def compile_route(
    source: RouteObject, *, has_store: bool = True, may_cost: bool = True, alone: bool = False
) -> Compiled:
    """The route's form; what is wrong with it becomes its refusal.

    `has_store`: the fleet has one; `may_cost`: pods may be given a deletion cost; `alone`: there is
    no operator.
    """
    try:
        spec = parse_route(source.manifest).spec
    except InvalidObject as error:
        return _refused(source, ConditionReason.INVALID, error.problems)
    problems = [
        *unsupported(spec, has_store=has_store, may_cost=may_cost, alone=alone),
        *futile(spec),
        *_bad_patterns(spec),
        *_notices_changed(spec),
    ]
    if problems:
        return _refused(source, ConditionReason.UNSUPPORTED_VALUE, problems)
    try:
        return _compiled(source, spec)
    except ValidationError as error:
        # A value that one of our models takes and the other does not: no other route is to pay for it.
        return _refused(source, ConditionReason.INVALID, list(_unfit(error)))


def _compiled(source: RouteObject, spec: api.StickyRouteSpec) -> Compiled:
    return Compiled(
        source=source,
        class_name=spec.class_name,
        hosts=tuple(dict.fromkeys(spec.hosts)),
        persistence=spec.persistence.type,
        rules=tuple(_rule(source, spec, index, rule) for index, rule in enumerate(spec.rules)),
        tls=None
        if spec.tls is None
        else TlsUse(Reference("Secret", source.namespace, spec.tls.secret_name), spec.tls.redirect),
        overrides=tuple(_override(one) for one in spec.overrides),
    )


def scope_name(rule: api.Rule) -> str:
    """What shares sessions: the rule, if it has its own persistence, else its first backend's Service.

    Empty for a rule that answers by itself: it has no sessions.
    """
    if rule.redirects:
        return ""
    return rule.name if rule.persistence is not None else rule.backends[0].service


def default_cookie_name(scope_identity: str) -> str:
    return f"stickyroute-{hashlib.sha256(scope_identity.encode()).hexdigest()[:8]}"


def _refused(source: RouteObject, reason: ConditionReason, problems: list[Problem]) -> Compiled:
    spec = source.spec if isinstance(source.spec, Mapping) else {}
    hosts, persistence = spec.get("hosts"), spec.get("persistence")
    kind = persistence.get("type", "Cookie") if isinstance(persistence, Mapping) else "Cookie"
    return Compiled(
        source=source,
        # What names no class at all is ours to tell of: no other fleet would.
        class_name=name if isinstance(name := spec.get("className"), str) else _DEFAULT_CLASS,
        hosts=tuple(str(host) for host in hosts) if isinstance(hosts, list | tuple) else (),
        persistence=str(kind),
        refusal=Refusal(reason, "; ".join(str(replace(problem, object="")) for problem in problems)),
    )


def _unfit(error: ValidationError) -> Iterator[Problem]:
    for details in error.errors(include_url=False):
        field = ".".join(map(str, details["loc"]))
        yield Problem(
            "spec", f"its {error.title} has a {field} that cannot be: {details['msg']}: give another"
        )


def _rule(source: RouteObject, spec: api.StickyRouteSpec, index: int, rule: api.Rule) -> RuleForm:
    field = f"spec.rules[{index}]"
    scope = scope_name(rule)
    health = None if spec.health_check is None else _health(spec.health_check)
    return RuleForm(
        name=rule.name,
        field=field,
        matches=tuple(_match(match) for match in rule.matches),
        backends=tuple(
            BackendUse(
                f"{field}.backends[{number}]",
                use.service,
                use.port,
                use.weight,
                _backend_tls(source.namespace, use.tls),
                health,
            )
            for number, use in enumerate(rule.backends)
        ),
        scope=scope,
        balancing=_balancing(spec.load_balancing),
        persistence=_persistence(
            api.Persistence(type="None") if rule.redirects else rule.persistence or spec.persistence,
            f"{source.namespace}/{source.name}/{scope}",
        ),
        timeouts=Timeouts(
            connect=parse_duration(rule.timeouts.connect),
            first_byte=parse_duration(rule.timeouts.first_byte),
            body_idle=parse_duration(rule.timeouts.body_idle),
            request=parse_duration(rule.timeouts.request),
            idle=parse_duration(rule.timeouts.idle),
        ),
        retries=Retries(attempts=rule.retries.attempts, on=rule.retries.on),
        limits=_limits(rule.limits),
        changes=changes(rule),
        deletion_cost=not rule.redirects and (rule.persistence or spec.persistence).pod_deletion_cost,
    )


def _backend_tls(namespace: str, tls: api.BackendTls | None) -> BackendTlsUse | None:
    if tls is None:
        return None
    ca = None if tls.ca_ref is None else Reference(tls.ca_ref.kind, namespace, tls.ca_ref.name)
    return BackendTlsUse(tls.server_name or "", ca)


def _balancing(balancing: api.LoadBalancing) -> Balancing:
    hashed = balancing.hash_on
    return Balancing(
        algorithm=balancing.algorithm,
        choices=balancing.choices,
        hash_on=None if hashed is None else HashOn(type=hashed.type, name=hashed.name or ""),
        slow_start=parse_duration(balancing.slow_start),
        prefer_zone=balancing.zone == "Prefer",
    )


def _limits(limits: api.RuleLimits) -> Limits:
    return Limits(
        body_bytes=None if limits.body_size is None else parse_size(limits.body_size),
        requests_per_endpoint=limits.requests_per_endpoint,
        queue=limits.queue,
        queue_timeout=parse_duration(limits.queue_timeout),
    )


def _match(match: api.RouteMatch) -> Match:
    return Match(
        path_type=match.path.type,
        path=match.path.value,
        method=match.method or "",
        headers=tuple(_value(header) for header in match.headers),
        query_params=tuple(_value(param) for param in match.query_params),
    )


def _value(match: api.ValueMatch) -> HeaderMatch:
    return HeaderMatch(name=match.name, value=match.value, regex=match.type == "RegularExpression")


def _persistence(policy: api.Persistence, identity: str) -> Persistence:
    if policy.type == "None":
        return Persistence(
            type="None",
            epoch=policy.epoch,  # it ends tunnels, as a drain does
            failover=_failover(policy.failover),
            drain_timeout=parse_duration(policy.drain_timeout),
            limits=_session_limits(policy.limits),
        )
    is_cookie = policy.type == "Cookie"
    return Persistence(
        type=policy.type,
        name="" if is_cookie else policy.session_name or "",
        cookie=_cookie(policy, identity) if is_cookie else None,
        learn=None if policy.learn is None else policy.learn.mode,
        idle_timeout=_seconds(policy.idle_timeout),
        absolute_timeout=_seconds(policy.absolute_timeout),
        epoch=policy.epoch,
        bind_to=policy.bind_to,
        failover=_failover(policy.failover),
        drain_timeout=parse_duration(policy.drain_timeout),
        limits=_session_limits(policy.limits),
        rebalance=Rebalance(
            sessions_per_minute=policy.rebalance.sessions_per_minute,
            idle_for=parse_duration(policy.rebalance.idle_for),
        ),
    )


def _cookie(policy: api.Persistence, identity: str) -> Cookie:
    given = policy.cookie
    return Cookie(
        name=policy.session_name or default_cookie_name(identity),
        path=given.path,
        domain=given.domain,
        same_site=given.same_site,
        secure=given.secure,
        http_only=given.http_only,
        partitioned=given.partitioned,
        permanent=given.lifetime_type == "Permanent",
    )


def _failover(failover: api.Failover) -> Failover:
    return Failover(
        mode=failover.mode,
        hold=parse_duration(failover.hold),
        status=failover.status,
        redirect_url=failover.redirect_url,
        notify_header=failover.notify_header,
    )


def _session_limits(limits: api.Limits) -> SessionLimits:
    return SessionLimits(
        sessions=limits.max_sessions_per_pod,
        requests=limits.max_requests_per_pod,
        overflow=limits.overflow,
    )


def _health(check: api.HealthCheck) -> HealthCheck:
    active, passive = check.active, check.passive
    return HealthCheck(
        active=None
        if active is None
        else ActiveCheck(
            path=active.path,
            interval=parse_duration(active.interval),
            timeout=parse_duration(active.timeout),
            healthy=active.healthy,
            unhealthy=active.unhealthy,
        ),
        passive=None
        if passive is None
        else PassiveCheck(
            consecutive_failures=passive.consecutive_failures,
            eject_for=parse_duration(passive.eject_for),
            max_ejected_percent=passive.max_ejected_percent,
        ),
        panic_percent=check.panic_percent,
    )


def _override(override: api.Override) -> Override:
    # No binding is older than 1970: so long ago is as if nothing were released.
    since = max(0.0, override.since.timestamp()) if override.since is not None else 0.0
    return Override(pod=override.pod, action=override.action, since=since)


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else parse_duration(duration)


def _notices_changed(spec: api.StickyRouteSpec) -> Iterator[Problem]:
    """Filters that would say, or unsay, to the application that a session has lost its pod."""
    for index, rule in enumerate(spec.rules):
        notice = (rule.persistence or spec.persistence).failover.notify_header
        for number, one in enumerate(rule.filters):
            modifier = one.request_header_modifier
            if modifier is None:
                continue
            names = [*(header.name for header in (*modifier.set, *modifier.add)), *modifier.remove]
            if plain(notice) in map(plain, names):
                yield Problem(
                    f"spec.rules[{index}].filters[{number}].requestHeaderModifier",
                    f"{notice} is this rule's failover.notifyHeader, which only StickyRoute sets:"
                    " use another header, or another notifyHeader",
                )


def _bad_patterns(spec: api.StickyRouteSpec) -> Iterator[Problem]:
    for field, pattern in _patterns(spec):
        try:
            compiled(pattern)
        except ValueError as error:
            yield Problem(field, f"{error}; see https://github.com/google/re2/wiki/Syntax")


def _patterns(spec: api.StickyRouteSpec) -> Iterator[tuple[str, str]]:
    for rule_index, rule in enumerate(spec.rules):
        for match_index, match in enumerate(rule.matches):
            field = f"spec.rules[{rule_index}].matches[{match_index}]"
            if match.path.type == "RegularExpression":
                yield f"{field}.path.value", match.path.value
            for kind, values in (("headers", match.headers), ("queryParams", match.query_params)):
                for index, value in enumerate(values):
                    if value.type == "RegularExpression":
                        yield f"{field}.{kind}[{index}].value", value.value
