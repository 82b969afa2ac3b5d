"""`persistence`: how a session is known again, how long it lasts, and what happens when its pod goes."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from stickyroute_api.check import Check, Model
from stickyroute_api.duration import parse_duration
from stickyroute_api.fields import (
    COOKIE_PATH,
    DOMAIN,
    DURATION,
    REDIRECT,
    Duration,
    HttpToken,
    PositiveDuration,
    matches,
)

RESERVED = (
    r"(?i)^(accept|authorization$|cache[-_]control$|connection$|content[-_]|cookie2?$|date$|expect$|forwarded$"
    r"|host$|http2[-_]settings$|if[-_]|keep[-_]alive$|origin$|pragma$|proxy[-_]|range$|referer$|sec[-_]"
    r"|set[-_]cookie2?$|te$|trailer$|transfer[-_]encoding$|upgrade$|user[-_]agent$|via$|x[-_]forwarded[-_])"
)
"""Header names that HTTP itself or proxies give a meaning: ours must not be one of them."""

_reserved = re.compile(RESERVED)


class CookieOptions(Model):
    """Attributes of the session cookie (RFC 6265bis)."""

    checks: ClassVar = (
        Check(
            name="same-site-none-needs-secure",
            cel="self.sameSite != 'None' || self.secure != 'Never'",
            holds=lambda cookie: cookie.same_site != "None" or cookie.secure != "Never",
            message="sameSite None needs a secure cookie, as browsers demand: set secure to Auto or Always",
            field="sameSite",
        ),
        Check(
            name="partitioned-needs-secure",
            cel="!self.partitioned || self.secure != 'Never'",
            holds=lambda cookie: not cookie.partitioned or cookie.secure != "Never",
            message="partitioned needs a secure cookie, as browsers demand: set secure to Auto or Always",
            field="partitioned",
        ),
    )

    path: Annotated[str, StringConstraints(pattern=COOKIE_PATH, min_length=1, max_length=256)] = "/"
    """The paths that the browser returns the cookie on."""
    domain: Annotated[str, StringConstraints(pattern=DOMAIN, max_length=253)] = ""
    """The domain, with its subdomains, that the browser returns the cookie to; none: the host that set it."""
    same_site: Literal["Strict", "Lax", "None"] = "Lax"
    """Whether requests from other sites carry the cookie. None needs secure."""
    secure: Literal["Auto", "Always", "Never"] = "Auto"
    """Whether the cookie travels over TLS only. Auto: if the request that set it did."""
    http_only: bool = True
    """Whether the cookie is hidden from scripts."""
    partitioned: bool = False
    """Whether an embedding site gets a cookie jar of its own (CHIPS)."""
    lifetime_type: Literal["Session", "Permanent"] = "Session"
    """Session: the browser drops the cookie when it closes. Permanent: it keeps it for absoluteTimeout."""


class Learn(Model):
    """Where the application gives out the session key, and how it is kept."""

    from_: Annotated[Literal["ResponseHeader", "ResponseCookie"], Field(alias="from")]
    """ResponseCookie with type AppCookie, ResponseHeader with type Header."""
    mode: Literal["Envelope", "Store"] = "Envelope"
    """Envelope: the application's value travels sealed in ours. Store: the fleet's store keeps it."""


class Failover(Model):
    """What a client gets when its session's pod is gone."""

    checks: ClassVar = (
        Check(
            name="redirect-needs-url",
            cel="self.mode != 'Redirect' || (has(self.redirectURL) && self.redirectURL != '')",
            holds=lambda failover: failover.mode != "Redirect" or failover.redirect_url != "",
            message="redirectURL is required with mode Redirect: give the address to go to, such as /login",
            field="redirectURL",
            reason="FieldValueRequired",
        ),
        Check(
            name="url-needs-redirect",
            cel="self.mode == 'Redirect' || !has(self.redirectURL) || self.redirectURL == ''",
            holds=lambda failover: failover.mode == "Redirect" or failover.redirect_url == "",
            message="redirectURL is for mode Redirect only: set that mode or remove redirectURL",
            field="redirectURL",
            reason="FieldValueForbidden",
        ),
        Check(
            name="status-needs-reject",
            cel="self.mode == 'Reject' || self.status == 503",
            holds=lambda failover: failover.mode == "Reject" or failover.status == 503,
            message="status is for mode Reject only: set that mode or remove status",
            field="status",
            reason="FieldValueForbidden",
        ),
        Check(
            name="notify-header-is-ours",
            cel=f"!self.notifyHeader.matches('{RESERVED}')",
            holds=lambda failover: not _reserved.search(failover.notify_header),
            message="notifyHeader must not be a header that HTTP itself uses:"
            " choose a name of your own, such as X-Session-Lost",
            field="notifyHeader",
        ),
    )

    mode: Literal["Repin", "Temporary", "Reject", "Redirect"] = "Repin"
    """Repin: another pod from now on. Temporary: another pod until its own is back.
    Reject: an error. Redirect: a redirect to redirectURL."""
    hold: Duration = "0s"
    """How long a request waits for its pod to come back first."""
    status: Annotated[int, Field(ge=400, le=599)] = 503
    """The status of mode Reject."""
    redirect_url: Annotated[
        str, StringConstraints(pattern=REDIRECT, max_length=1024), Field(alias="redirectURL")
    ] = ""
    """Where mode Redirect sends the client."""
    notify_header: HttpToken = "X-Session-Lost"
    """The request header that tells the application why a session came to another pod."""


class Limits(Model):
    """What one pod takes, counted over the whole fleet; 0: no limit."""

    max_sessions_per_pod: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Sessions on one pod before new ones go elsewhere."""
    max_requests_per_pod: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    """Requests in flight on one pod before new sessions go elsewhere."""
    overflow: Literal["OtherPod", "Queue", "Reject"] = "OtherPod"
    """What a new session gets whose pod is at a limit. OtherPod: another pod; 503 where all are.
    Queue: another pod; where all are, a place in the queue. Reject: 503."""


class Rebalance(Model):
    """The moving of idle sessions to new pods, for applications that can take it. Off by default."""

    sessions_per_minute: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many may move in a minute, over all proxies. 0: none."""
    idle_for: PositiveDuration = "60s"
    """Only sessions without a request for so long, and without an open tunnel."""


class Persistence(Model):
    """How sessions stay on their pods."""

    checks: ClassVar = (
        Check(
            name="session-name-required",
            cel="!(self.type in ['AppCookie', 'Header', 'QueryParam']) || has(self.sessionName)",
            holds=lambda it: (
                it.type not in {"AppCookie", "Header", "QueryParam"} or it.session_name is not None
            ),
            message="sessionName is required with type AppCookie, Header and QueryParam:"
            " name the cookie, header or parameter",
            field="sessionName",
            reason="FieldValueRequired",
        ),
        Check(
            name="session-name-unused",
            cel="!(self.type in ['SourceIP', 'None']) || !has(self.sessionName)",
            holds=lambda it: it.type not in {"SourceIP", "None"} or it.session_name is None,
            message="sessionName means nothing with type SourceIP and None: remove it or choose another type",
            field="sessionName",
            reason="FieldValueForbidden",
        ),
        Check(
            name="session-header-is-ours",
            cel=f"self.type != 'Header' || !has(self.sessionName) || !self.sessionName.matches('{RESERVED}')",
            holds=lambda it: it.type != "Header" or not _reserved.search(it.session_name or ""),
            message="sessionName must not be a header that HTTP itself uses:"
            " choose a name of your own, such as X-Session",
            field="sessionName",
        ),
        Check(
            name="host-prefix-needs-plain-scope",
            cel="self.type != 'Cookie' || !has(self.sessionName) || !has(self.cookie)"
            " || !self.sessionName.lowerAscii().startsWith('__host-')"
            " || (self.cookie.path == '/' && (!has(self.cookie.domain) || self.cookie.domain == ''))",
            holds=lambda it: (
                not _prefixed(it, "__host-") or (it.cookie.path == "/" and it.cookie.domain == "")
            ),
            message="a sessionName that starts with __Host- needs cookie.path / and no cookie.domain:"
            " set them so or rename the cookie",
            field="sessionName",
        ),
        Check(
            name="prefix-needs-secure",
            cel="self.type != 'Cookie' || !has(self.sessionName) || !has(self.cookie)"
            " || !self.sessionName.matches('(?i)^__(host|secure)-') || self.cookie.secure != 'Never'",
            holds=lambda it: not _prefixed(it, "__host-", "__secure-") or it.cookie.secure != "Never",
            message="a sessionName that starts with __Host- or __Secure- needs a secure cookie:"
            " set cookie.secure to Auto or Always or rename the cookie",
            field="sessionName",
        ),
        Check(
            name="cookie-needs-type-cookie",
            cel="self.type == 'Cookie' || !has(self.cookie)",
            holds=lambda it: it.type == "Cookie" or not it.given("cookie"),
            message="cookie is for type Cookie only: set that type or remove cookie",
            field="cookie",
            reason="FieldValueForbidden",
        ),
        Check(
            name="permanent-needs-absolute-timeout",
            cel="!has(self.cookie) || self.cookie.lifetimeType != 'Permanent' || has(self.absoluteTimeout)",
            holds=lambda it: it.cookie.lifetime_type != "Permanent" or it.absolute_timeout is not None,
            message="absoluteTimeout is required with cookie.lifetimeType Permanent:"
            " give how long the cookie lasts, such as 12h, or set lifetimeType to Session",
            field="absoluteTimeout",
            reason="FieldValueRequired",
        ),
        Check(
            name="idle-timeout-unused",
            cel="!(self.type in ['QueryParam', 'SourceIP', 'None']) || !has(self.idleTimeout)",
            holds=lambda it: it.type not in {"QueryParam", "SourceIP", "None"} or it.idle_timeout is None,
            message="idleTimeout means nothing with type QueryParam, SourceIP and None, without timers:"
            " remove it or choose another type",
            field="idleTimeout",
            reason="FieldValueForbidden",
        ),
        Check(
            name="absolute-timeout-unused",
            cel="!(self.type in ['QueryParam', 'SourceIP', 'None']) || !has(self.absoluteTimeout)",
            holds=lambda it: it.type not in {"QueryParam", "SourceIP", "None"} or it.absolute_timeout is None,
            message="absoluteTimeout means nothing with type QueryParam, SourceIP and None, without timers:"
            " remove it or choose another type",
            field="absoluteTimeout",
            reason="FieldValueForbidden",
        ),
        Check(
            name="idle-within-absolute",
            cel="!has(self.idleTimeout) || !has(self.absoluteTimeout)"
            f" || !{matches('self.idleTimeout', DURATION)} || !{matches('self.absoluteTimeout', DURATION)}"
            " || duration(self.idleTimeout) <= duration(self.absoluteTimeout)",
            holds=lambda it: (
                it.idle_timeout is None
                or it.absolute_timeout is None
                or parse_duration(it.idle_timeout) <= parse_duration(it.absolute_timeout)
            ),
            message="idleTimeout must not be longer than absoluteTimeout, it would never end a session:"
            " shorten it or remove it",
            field="idleTimeout",
        ),
        Check(
            name="app-cookie-needs-learn",
            cel="self.type != 'AppCookie' || has(self.learn)",
            holds=lambda it: it.type != "AppCookie" or it.learn is not None,
            message="learn is required with type AppCookie: set learn.from to ResponseCookie",
            field="learn",
            reason="FieldValueRequired",
        ),
        Check(
            name="learn-unused",
            cel="self.type in ['AppCookie', 'Header'] || !has(self.learn)",
            holds=lambda it: it.type in {"AppCookie", "Header"} or it.learn is None,
            message="learn is for type AppCookie and Header only: set such a type or remove learn",
            field="learn",
            reason="FieldValueForbidden",
        ),
        Check(
            name="learn-from-fits-type",
            cel="!has(self.learn) || !(self.type in ['AppCookie', 'Header'])"
            " || self.learn.from == (self.type == 'AppCookie' ? 'ResponseCookie' : 'ResponseHeader')",
            holds=lambda it: (
                it.learn is None
                or it.learn.from_
                == {"AppCookie": "ResponseCookie", "Header": "ResponseHeader"}.get(it.type, it.learn.from_)
            ),
            message="learn.from must be ResponseCookie with type AppCookie, ResponseHeader with type Header",
            field="learn.from",
        ),
        Check(
            name="envelope-keeps-no-idle-time",
            cel="!has(self.learn) || self.learn.mode != 'Envelope' || !has(self.idleTimeout)",
            holds=lambda it: it.learn is None or it.learn.mode != "Envelope" or it.idle_timeout is None,
            message="idleTimeout needs learn.mode Store: set that mode, or use absoluteTimeout instead",
            field="idleTimeout",
            reason="FieldValueForbidden",
        ),
    )

    type: Literal["Cookie", "AppCookie", "Header", "QueryParam", "SourceIP", "None"] = "Cookie"
    """What a session is known by. Cookie: a cookie of ours. AppCookie: one of the application's.
    None: requests are spread freely."""
    session_name: HttpToken | None = None
    """The cookie, header or parameter. With type Cookie none that the application sets, for that take
    AppCookie; none given: a name of the scope's own."""
    bind_to: Literal["Pod", "StatefulPod", "Cohort"] = "Pod"
    """Pod: that very pod. StatefulPod: the pod's name, so a restarted StatefulSet pod keeps its sessions.
    Cohort: any pod of the same version."""
    idle_timeout: PositiveDuration | None = None
    """A session unused for so long ends. None given: no such limit."""
    absolute_timeout: PositiveDuration | None = None
    """A session ends so long after it began. None given: no such limit."""
    epoch: Annotated[int, Field(ge=0, le=2_147_483_647)] = 0
    """Raise it, and every binding made before ends. Never lower it: what was made under a value does not
    end when that value comes back."""
    cookie: CookieOptions = CookieOptions()
    """The cookie's attributes, with type Cookie."""
    learn: Learn | None = None
    """How the application's own key is learned, with types AppCookie and Header."""
    failover: Failover = Failover()
    """What a client gets when its session's pod is gone."""
    drain_timeout: Duration = "0s"
    """How long a terminating pod keeps its sessions. 0s: they move at once."""
    limits: Limits = Limits()
    """What one pod takes."""
    rebalance: Rebalance = Rebalance()
    """Whether idle sessions move to pods with few."""
    pod_deletion_cost: bool = False
    """Whether pods' deletion cost follows their sessions, so that scale-in takes the emptiest first."""


def _prefixed(persistence: Persistence, *prefixes: str) -> bool:
    """Whether our cookie's name starts with a prefix that browsers give a meaning."""
    name = (persistence.session_name or "").lower()
    return persistence.type == "Cookie" and name.startswith(prefixes)
