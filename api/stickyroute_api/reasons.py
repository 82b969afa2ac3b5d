"""One word per cause, the same in logs, metrics, status and Events.

Gateway API's own reasons come first where it has one; ours follow.
"""

from enum import StrEnum


class BindingReason(StrEnum):
    """Why a request went where it went: the outcome of the checks on its binding."""

    BOUND = "Bound"
    """The binding holds: the session's own endpoint."""
    NEW = "New"
    """No binding was presented."""
    UNPINNED = "Unpinned"
    """The rule keeps no sessions (persistence type None)."""

    INVALID_TOKEN = "InvalidToken"  # noqa: S105 - a reason, not a secret
    """Not a token of ours for this scope: treated as none at all."""
    KEY_RETIRED = "KeyRetired"
    """Sealed by a key that the fleet no longer holds."""
    EPOCH_RAISED = "EpochRaised"
    """`persistence.epoch` was raised after the binding was made."""
    ABSOLUTE_TIMEOUT = "AbsoluteTimeout"
    IDLE_TIMEOUT = "IdleTimeout"
    RELEASED = "Released"
    """An override released the pod's sessions."""
    REBALANCED = "Rebalanced"
    """An idle session was moved to a pod that had fewer."""
    CONTAINER_RESTARTED = "ContainerRestarted"
    """The binding holds, but the pod's memory is gone: the application is told once."""
    HASHED = "Hashed"
    """Placed by its value alone: a key that no binding is kept for."""
    ENDPOINTS_CHANGED = "EndpointsChanged"
    """A hashed key that another set of pods places elsewhere."""

    POD_TERMINATED = "PodTerminated"
    """The pod is terminating and its drain is over, or its identity is known no more."""
    POD_NOT_READY = "PodNotReady"
    POD_UNHEALTHY = "PodUnhealthy"
    POD_DISABLED = "PodDisabled"
    CONNECT_FAILED = "ConnectFailed"
    """The pod refused or did not accept a connection in time."""
    POLICY_CHANGED = "PolicyChanged"
    """The pod lives, but its backend is no longer part of the scope."""

    NO_ENDPOINT = "NoEndpoint"
    """Nothing can serve the request: 503."""
    AT_LIMIT = "AtLimit"
    """Every pod has as many sessions or requests as it takes: 503."""


EXPIRED = frozenset({BindingReason.ABSOLUTE_TIMEOUT, BindingReason.IDLE_TIMEOUT})
"""A session that ended by its own timer: counted as expired, and the application gets no notice."""

MOVED = frozenset(
    {
        BindingReason.RELEASED,
        BindingReason.POD_TERMINATED,
        BindingReason.POD_NOT_READY,
        BindingReason.POD_UNHEALTHY,
        BindingReason.POD_DISABLED,
        BindingReason.CONNECT_FAILED,
        BindingReason.POLICY_CHANGED,
        BindingReason.EPOCH_RAISED,
        BindingReason.REBALANCED,
        BindingReason.ENDPOINTS_CHANGED,
    }
)
"""A session that lost its pod: counted as moved, and the application gets the notice."""


class ConditionType(StrEnum):
    """The types of a StickyRoute's status conditions."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PROGRAMMED = "Programmed"
    READY = "Ready"

    # Only there while True.
    COOKIE_CONFLICT = "CookieConflict"
    """Browsers would send the cookies of two scopes to one, or the application sets one of our name."""
    GRACE_PERIOD_TOO_SHORT = "GracePeriodTooShort"
    """Pods are killed before their drain is over."""


class ConditionReason(StrEnum):
    """Reasons of conditions, Gateway API's first."""

    ACCEPTED = "Accepted"
    UNSUPPORTED_VALUE = "UnsupportedValue"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    RESOLVED_REFS = "ResolvedRefs"
    BACKEND_NOT_FOUND = "BackendNotFound"
    REF_NOT_PERMITTED = "RefNotPermitted"
    INVALID_CERTIFICATE_REF = "InvalidCertificateRef"
    """`tls.secretName` names no usable certificate: HTTPS is refused."""
    INVALID_CA_CERTIFICATE_REF = "InvalidCACertificateRef"
    """A backend's `tls.caRef` names no usable authorities: the backend is not used."""
    PROGRAMMED = "Programmed"
    INVALID = "Invalid"
    PENDING = "Pending"
    READY = "Ready"

    HOST_CLAIMED = "HostClaimed"
    """An older route of another namespace names the host."""
    ROUTE_CONFLICT = "RouteConflict"
    """An older route has the same host and match."""
    PORT_NOT_FOUND = "PortNotFound"
    CERTIFICATE_EXPIRING = "CertificateExpiring"
    """The certificate is served, but expires soon or has expired."""
    CERTIFICATE_MISMATCH = "CertificateMismatch"
    """The certificate is served, but does not name all hosts."""
    NO_ENDPOINTS = "NoEndpoints"
    """No endpoint takes new sessions."""
    AT_LIMIT = "AtLimit"
    """No endpoint takes new sessions, for some have as many as they take; bound ones are served."""
    NO_PROXIES = "NoProxies"
    """The fleet has no ready proxy."""
    NOT_ACCEPTED = "NotAccepted"
    """Nothing of the route is served; Accepted says why."""
    COOKIE_CONFLICT = "CookieConflict"
    GRACE_PERIOD_TOO_SHORT = "GracePeriodTooShort"


class EventReason(StrEnum):
    """Reasons of Events on a StickyRoute."""

    BINDINGS_DROPPED = "BindingsDropped"
    SESSIONS_ENDED = "SessionsEnded"
    """By their timers, or as their key was retired: no pod was lost."""
    BACKEND_NOT_FOUND = "BackendNotFound"
    PORT_NOT_FOUND = "PortNotFound"
    REF_NOT_PERMITTED = "RefNotPermitted"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    INVALID_CERTIFICATE_REF = "InvalidCertificateRef"
    INVALID_CA_CERTIFICATE_REF = "InvalidCACertificateRef"
    CERTIFICATE_EXPIRING = "CertificateExpiring"
    CERTIFICATE_MISMATCH = "CertificateMismatch"
    NOT_ACCEPTED = "NotAccepted"
    PROGRAMMED = "Programmed"
    PROXY_REJECTED_SNAPSHOT = "ProxyRejectedSnapshot"
    NO_ENDPOINTS = "NoEndpoints"
    AT_LIMIT = "AtLimit"
    COOKIE_CONFLICT = "CookieConflict"
    GRACE_PERIOD_TOO_SHORT = "GracePeriodTooShort"
    CONTAINER_RESTARTED = "ContainerRestarted"
    """A container began anew inside its pod: sessions stay, their memory is gone."""
    POD_EJECTED = "PodEjected"
    POD_UNHEALTHY = "PodUnhealthy"


class EndpointState(StrEnum):
    """What an endpoint may take; see the table in docs/architecture.md."""

    SERVING = "Serving"
    JOINING = "Joining"
    """Not yet known to every current proxy: takes new sessions only when nothing else can."""
    DRAINING = "Draining"
    """Terminating: takes no new session; bound ones until its deadline."""
    NOT_READY = "NotReady"

    # What proxies and routes find on their own; a snapshot's endpoints are in none of these.
    AT_LIMIT = "AtLimit"
    """Has as many sessions or requests as it takes: no new sessions."""
    EJECTED = "Ejected"
    """Failed several clients in a row (passive check): no new sessions for a while, bound ones stay."""
    UNHEALTHY = "Unhealthy"
    """Fails the active check: neither new nor bound sessions."""
    DISABLED = "Disabled"
    """By an override: neither new nor bound sessions."""
