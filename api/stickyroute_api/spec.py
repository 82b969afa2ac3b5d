"""StickyRoute (`stickyroute.dev/v1alpha1`): the whole spec, its limits and its rules.

The CRD is generated from these models (`crd.py`), so a limit stands once: the API server, `stickyroute serve`
and the operator hold the same. Names follow Gateway API (GEP-1619) wherever it has one. Attribute docstrings
are what `kubectl explain` shows.
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from stickyroute_api.balancing import ActiveCheck, HashOn, HealthCheck, LoadBalancing, PassiveCheck
from stickyroute_api.check import Check, Model, Unique
from stickyroute_api.fields import (
    MAX_REGEX,
    METHOD,
    PRINTABLE,
    VISIBLE,
    Host,
    HttpToken,
    Label,
    ObjectName,
)
from stickyroute_api.filters import (
    Filter,
    Filters,
    HeaderField,
    HeaderModifier,
    PathModifier,
    RequestRedirect,
    UrlRewrite,
)
from stickyroute_api.persistence import CookieOptions, Failover, Learn, Limits, Persistence
from stickyroute_api.traffic import BackendRef, Backends, BackendTls, CaRef, Retries, RuleLimits, Timeouts

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "ActiveCheck",
    "BackendRef",
    "BackendTls",
    "CaRef",
    "CookieOptions",
    "Failover",
    "Filter",
    "HashOn",
    "HeaderField",
    "HeaderModifier",
    "HealthCheck",
    "Learn",
    "Limits",
    "LoadBalancing",
    "ObjectMeta",
    "Override",
    "PassiveCheck",
    "PathMatch",
    "PathModifier",
    "Persistence",
    "RequestRedirect",
    "Retries",
    "RouteMatch",
    "Rule",
    "RuleLimits",
    "StickyRoute",
    "StickyRouteSpec",
    "Timeouts",
    "Tls",
    "UrlRewrite",
    "ValueMatch",
]

GROUP, VERSION, KIND, PLURAL = "stickyroute.dev", "v1alpha1", "StickyRoute", "stickyroutes"
API_VERSION = f"{GROUP}/{VERSION}"


class PathMatch(Model):
    """What a request's path must be."""

    checks: ClassVar = (
        Check(
            name="path-starts-with-slash",
            cel="self.type == 'RegularExpression' || self.value.startsWith('/')",
            holds=lambda path: path.type == "RegularExpression" or path.value.startswith("/"),
            message="value must start with / for the types Exact and PathPrefix: write it as in /cart",
            field="value",
        ),
        Check(
            name="path-without-query",
            cel="self.type == 'RegularExpression' || !(self.value.contains('?') || self.value.contains('#'))",
            holds=lambda path: path.type == "RegularExpression" or not {"?", "#"} & set(path.value),
            message="value must be a path without ? and #: match the query with queryParams",
            field="value",
        ),
        Check(
            name="path-regex-length",
            cel=f"self.type != 'RegularExpression' || size(self.value) <= {MAX_REGEX}",
            holds=lambda path: path.type != "RegularExpression" or len(path.value) <= MAX_REGEX,
            message=f"a regular expression has at most {MAX_REGEX} characters:"
            " shorten value or split it over several matches",
            field="value",
        ),
    )

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    """Exact: the same path. PathPrefix: it or what is below it, by whole segments. RegularExpression: RE2,
    full match."""
    value: Annotated[str, StringConstraints(pattern=VISIBLE, min_length=1, max_length=1024)] = "/"
    """The path, prefix or expression, without the query."""


class ValueMatch(Model):
    """What a header or a query parameter must be."""

    name: HttpToken
    """The header (in any case) or the query parameter."""
    type: Literal["Exact", "RegularExpression"] = "Exact"
    """Exact: the same value. RegularExpression: RE2, full match."""
    value: Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=MAX_REGEX)]
    """The value or expression."""


class RouteMatch(Model):
    """One way in which a request fits a rule; all that is given must hold."""

    path: PathMatch = PathMatch()
    """The path. None given: any."""
    method: Annotated[str, StringConstraints(pattern=METHOD, min_length=1, max_length=20)] | None = None
    """The method, such as GET. None given: any."""
    headers: Annotated[tuple[ValueMatch, ...], Field(max_length=16)] = ()
    """Headers that must be there."""
    query_params: Annotated[tuple[ValueMatch, ...], Field(max_length=16)] = ()
    """Query parameters that must be there."""


class Override(Model):
    """What an operator orders for one pod."""

    checks: ClassVar = (
        Check(
            name="release-needs-since",
            cel="self.action != 'Release' || has(self.since)",
            holds=lambda override: override.action != "Release" or override.since is not None,
            message="since is required with action Release: give the time before which bindings end",
            field="since",
            reason="FieldValueRequired",
        ),
        Check(
            name="since-needs-release",
            cel="self.action == 'Release' || !has(self.since)",
            holds=lambda override: override.action == "Release" or override.since is None,
            message="since is for action Release only: set that action or remove since",
            field="since",
            reason="FieldValueForbidden",
        ),
    )

    pod: ObjectName
    """The pod's name."""
    action: Literal["Drain", "Disable", "Release"]
    """Drain: no new sessions. Disable: none at all. Release: bindings made before `since` end."""
    since: AwareDatetime | None = None
    """With Release: the moment, such as 2030-01-31T12:00:00Z."""


class Tls(Model):
    """How the hosts are served over TLS."""

    secret_name: ObjectName
    """A Secret of type kubernetes.io/tls in the route's own namespace, with the hosts' certificate."""
    redirect: bool = True
    """Whether plain HTTP is redirected to HTTPS, but for /.well-known/acme-challenge/."""


_REDIRECTS = "self.filters.exists(f, f.type == 'RequestRedirect')"


class Rule(Model):
    """Which requests go to which backends; the most specific match of all rules wins."""

    checks: ClassVar = (
        Check(
            name="backends-missing",
            cel=f"has(self.backends) || (has(self.filters) && {_REDIRECTS})",
            holds=lambda rule: bool(rule.backends) or rule.redirects,
            message="backends is required: name a Service and its port, or give a filter RequestRedirect",
            field="backends",
            reason="FieldValueRequired",
        ),
        Check(
            name="redirect-needs-no-backends",
            cel=f"!has(self.filters) || !{_REDIRECTS} || !(has(self.backends) || has(self.persistence))",
            holds=lambda rule: not rule.redirects or not (rule.backends or rule.persistence),
            message="a rule with a filter RequestRedirect must not have backends or persistence:"
            " nothing reaches a pod; remove them",
            field="filters",
            reason="FieldValueForbidden",
        ),
        Check(
            name="redirect-excludes-rewrite",
            cel=f"!has(self.filters) || !{_REDIRECTS} || !self.filters.exists(f, f.type == 'URLRewrite')",
            holds=lambda rule: not rule.redirects or all(one.type != "URLRewrite" for one in rule.filters),
            message="filters must not have both RequestRedirect and URLRewrite: nothing reaches a pod;"
            " remove one",
            field="filters",
        ),
        Check(
            name="prefix-replaced-needs-prefix",
            cel="!has(self.filters) || !self.filters.exists(f,"
            " (has(f.urlRewrite) && has(f.urlRewrite.path)"
            " && f.urlRewrite.path.type == 'ReplacePrefixMatch')"
            " || (has(f.requestRedirect) && has(f.requestRedirect.path)"
            " && f.requestRedirect.path.type == 'ReplacePrefixMatch'))"
            " || !has(self.matches)"
            " || self.matches.all(m, !has(m.path) || m.path.type == 'PathPrefix')",
            holds=lambda rule: (
                not any(_replaces_prefix(one) for one in rule.filters)
                or all(match.path.type == "PathPrefix" for match in rule.matches)
            ),
            message="filters must not replace a prefix unless every match is by PathPrefix:"
            " use such matches, or ReplaceFullPath",
            field="filters",
        ),
    )

    name: Label
    """Unique in the route. Sessions are counted and kept by it where the rule has its own persistence."""
    matches: Annotated[tuple[RouteMatch, ...], Field(min_length=1, max_length=16)] = (RouteMatch(),)
    """The requests: one match suffices. None given: every request."""
    filters: Filters = ()
    """What is changed in requests and answers."""
    backends: Backends = ()
    """Where they go. Rules whose first backend is the same Service share their sessions."""
    persistence: Persistence | None = None
    """Replaces the route's persistence as a whole, with sessions of the rule's own."""
    timeouts: Timeouts = Timeouts()
    """How long one exchange may take."""
    retries: Retries = Retries()
    """What is tried again."""
    limits: RuleLimits = RuleLimits()
    """How much one request may bring, and how many there may be at once."""

    @property
    def redirects(self) -> bool:
        """Whether every request is answered with a redirect."""
        return any(one.type == "RequestRedirect" for one in self.filters)


def _replaces_prefix(one: Filter) -> bool:
    changes = (one.url_rewrite, one.request_redirect)
    return any(
        change is not None and change.path is not None and change.path.type == "ReplacePrefixMatch"
        for change in changes
    )


class StickyRouteSpec(Model):
    """Hosts, the rules for their requests, and how sessions stay on their pods."""

    checks: ClassVar = (
        Check(
            name="scope-names-differ",
            cel="self.rules.all(r, !has(r.persistence) || self.rules.all(o,"
            " has(o.persistence) || !has(o.backends) || o.backends[0].service != r.name))",
            holds=lambda spec: {rule.name for rule in spec.rules if rule.persistence}.isdisjoint(
                _shared_services(spec)
            ),
            message="a rule with its own persistence must not have the name of a Service that leads a rule"
            " without one: their sessions would mix; rename the rule",
            field="rules",
        ),
        Check(
            name="one-cookie-per-scope",
            cel="!has(self.persistence) || !has(self.persistence.sessionName)"
            " || self.persistence.type != 'Cookie' || self.rules.all(r, has(r.persistence)"
            " || !has(r.backends) || self.rules.all(o, has(o.persistence) || !has(o.backends)"
            " || o.backends[0].service == r.backends[0].service))",
            holds=lambda spec: (
                spec.persistence.session_name is None
                or spec.persistence.type != "Cookie"
                or len(_shared_services(spec)) <= 1
            ),
            message="persistence.sessionName names one cookie for the sessions of several Services: each"
            " would end the other; remove it, or give each rule its own persistence and sessionName",
            field="persistence.sessionName",
        ),
        Check(
            name="cookie-domain-covers-hosts",
            cel="!has(self.hosts) || !has(self.persistence) || !has(self.persistence.cookie)"
            " || !has(self.persistence.cookie.domain) || self.persistence.cookie.domain == ''"
            " || self.hosts.all(h, h == self.persistence.cookie.domain"
            " || h.endsWith('.' + self.persistence.cookie.domain))",
            holds=lambda spec: _covers(spec.persistence.cookie.domain, spec.hosts),
            message="cookie.domain must be each host or a parent of it, as browsers demand:"
            " correct it or remove it",
            field="persistence.cookie.domain",
        ),
        Check(
            name="rule-cookie-domain-covers-hosts",
            cel="!has(self.hosts) || self.rules.all(r, !has(r.persistence) || !has(r.persistence.cookie)"
            " || !has(r.persistence.cookie.domain) || r.persistence.cookie.domain == ''"
            " || self.hosts.all(h, h == r.persistence.cookie.domain"
            " || h.endsWith('.' + r.persistence.cookie.domain)))",
            holds=lambda spec: all(
                _covers(rule.persistence.cookie.domain, spec.hosts) for rule in spec.rules if rule.persistence
            ),
            message="a rule's persistence.cookie.domain must be each host or a parent of it, as browsers"
            " demand: correct it or remove it",
            field="rules",
        ),
    )

    class_name: Label = "stickyroute"
    """The fleet of proxies that serves the route."""
    hosts: Annotated[tuple[Host, ...], Field(max_length=16), Unique()] = ()
    """Host names; *. at the start stands for one or more labels. None given: any host."""
    tls: Tls | None = None
    """How the hosts are served over TLS."""
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=64), Unique("name")]
    """Which requests go where."""
    load_balancing: LoadBalancing = LoadBalancing()
    """Which pod takes a new session."""
    persistence: Persistence = Persistence()
    """How sessions stay on their pods, in every rule that does not say its own. None given: by cookie."""
    health_check: HealthCheck | None = None
    """How pods are found unhealthy, beyond their readiness in Kubernetes."""
    overrides: Annotated[tuple[Override, ...], Field(max_length=64), Unique("pod")] = ()
    """Orders for single pods."""


def _shared_services(spec: StickyRouteSpec) -> set[str]:
    """The Services that name the scopes of rules without persistence of their own."""
    return {rule.backends[0].service for rule in spec.rules if rule.backends and rule.persistence is None}


def _covers(domain: str, hosts: tuple[str, ...]) -> bool:
    return not domain or all(host == domain or host.endswith(f".{domain}") for host in hosts)


class ObjectMeta(BaseModel):
    """What we read of a Kubernetes object's metadata."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None


class StickyRoute(BaseModel):
    """One StickyRoute object as the API server holds it."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    metadata: ObjectMeta
    spec: StickyRouteSpec
    status: dict[str, Any] | None = None
