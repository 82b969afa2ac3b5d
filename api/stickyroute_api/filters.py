"""`rules[].filters`: what a rule changes in messages. Names and meaning are HTTPRoute's (Gateway API)."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from stickyroute_api.check import Check, Model, Unique
from stickyroute_api.fields import DOMAIN, FULL_PATH, PREFIX_PATH, TOKEN, HeaderValue
from stickyroute_api.guarded import GUARDED, guarded

FREE = Check(
    name="filter-header-is-guarded",
    cel=f"!self.matches('{GUARDED}')",
    holds=lambda name: not guarded(name),
    message="must not be a header that frames the message or that StickyRoute sets itself:"
    " choose another, or use urlRewrite.hostname for Host",
)

Header = Annotated[str, StringConstraints(pattern=TOKEN, min_length=1, max_length=64), FREE]
Hostname = Annotated[str, StringConstraints(pattern=DOMAIN, min_length=1, max_length=253)]


class HeaderField(Model):
    """One header with its value."""

    name: Header
    """The header, in any case."""
    value: HeaderValue
    """Its value, taken as it stands."""


class HeaderModifier(Model):
    """What becomes of headers: first those of `remove` go, then `set` replaces, then `add` adds."""

    checks: ClassVar = (
        Check(
            name="header-modifier-empty",
            cel="(has(self.set) && size(self.set) > 0) || (has(self.add) && size(self.add) > 0)"
            " || (has(self.remove) && size(self.remove) > 0)",
            holds=lambda modifier: bool(modifier.set or modifier.add or modifier.remove),
            message="must set, add or remove a header: name one, or remove the filter",
        ),
    )

    set: Annotated[tuple[HeaderField, ...], Field(max_length=16), Unique("name")] = ()
    """Headers that get this value, whatever they had."""
    add: Annotated[tuple[HeaderField, ...], Field(max_length=16), Unique("name")] = ()
    """Headers that get this value beside what they had."""
    remove: Annotated[tuple[Header, ...], Field(max_length=16), Unique()] = ()
    """Headers that go."""


class PathModifier(Model):
    """How the path becomes another; the query stays."""

    checks: ClassVar = (
        Check(
            name="path-modifier-fits-type",
            cel="self.type == 'ReplaceFullPath' ? has(self.replaceFullPath) && !has(self.replacePrefixMatch)"
            " : has(self.replacePrefixMatch) && !has(self.replaceFullPath)",
            holds=lambda path: (
                (path.type == "ReplaceFullPath")
                is (path.replace_full_path is not None)
                is not (path.replace_prefix_match is not None)
            ),
            message="type ReplaceFullPath goes with replaceFullPath, ReplacePrefixMatch with"
            " replacePrefixMatch: give the one, and remove the other",
        ),
    )

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    """ReplaceFullPath: the whole path. ReplacePrefixMatch: the prefix that matched, the rest stays."""
    replace_full_path: (
        Annotated[str, StringConstraints(pattern=FULL_PATH, min_length=1, max_length=1024)] | None
    ) = None
    """The new path."""
    replace_prefix_match: Annotated[str, StringConstraints(pattern=PREFIX_PATH, max_length=1024)] | None = (
        None
    )
    """What stands in the place of the prefix; / or nothing takes the prefix away."""


class UrlRewrite(Model):
    """What pods get to see in the place of what the client asked for."""

    checks: ClassVar = (
        Check(
            name="rewrite-empty",
            cel="has(self.hostname) || has(self.path)",
            holds=lambda rewrite: rewrite.hostname is not None or rewrite.path is not None,
            message="must give hostname or path: add one, or remove the filter",
        ),
    )

    hostname: Hostname | None = None
    """The Host header. None given: the client's."""
    path: PathModifier | None = None
    """The path. None given: the client's."""


class RequestRedirect(Model):
    """The answer that sends the client elsewhere; what is not given stays as the client asked for it."""

    checks: ClassVar = (
        Check(
            name="redirect-empty",
            cel="has(self.scheme) || has(self.hostname) || has(self.path) || has(self.port)",
            holds=lambda redirect: bool(
                redirect.scheme or redirect.hostname or redirect.path or redirect.port
            ),
            message="must give scheme, hostname, path or port: a redirect to itself would never end",
        ),
    )

    scheme: Literal["http", "https"] | None = None
    """The scheme to go to."""
    hostname: Hostname | None = None
    """The host to go to."""
    path: PathModifier | None = None
    """The path to go to."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port to go to. None given: the scheme's own if one is given, else the client's."""
    status_code: Literal[301, 302, 303, 307, 308] = 302
    """The answer's status."""


_MEMBERS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "URLRewrite": "url_rewrite",
    "RequestRedirect": "request_redirect",
}


def _fits(given: Any) -> bool:
    return all((given.type == kind) is given.given(member) for kind, member in _MEMBERS.items())


class Filter(Model):
    """One change to a rule's messages."""

    checks: ClassVar = (
        Check(
            name="filter-fits-type",
            cel="(self.type == 'RequestHeaderModifier') == has(self.requestHeaderModifier)"
            " && (self.type == 'ResponseHeaderModifier') == has(self.responseHeaderModifier)"
            " && (self.type == 'URLRewrite') == has(self.urlRewrite)"
            " && (self.type == 'RequestRedirect') == has(self.requestRedirect)",
            holds=_fits,
            message="type must be followed by the member of its name, and no other:"
            " for example type URLRewrite with urlRewrite",
        ),
    )

    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier", "URLRewrite", "RequestRedirect"]
    """Which of the members below is given."""
    request_header_modifier: HeaderModifier | None = None
    """Headers of requests, on their way to pods."""
    response_header_modifier: HeaderModifier | None = None
    """Headers of answers, on their way to clients."""
    url_rewrite: UrlRewrite | None = None
    """Host and path, on their way to pods."""
    request_redirect: RequestRedirect | None = None
    """A redirect; nothing reaches a pod."""


Filters = Annotated[tuple[Filter, ...], Field(max_length=4), Unique("type")]
"""Each type at most once."""
