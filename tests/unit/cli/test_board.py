from datetime import UTC, datetime

from stickyroute_api.reasons import ConditionReason, ConditionType, EndpointState
from stickyroute_api.status import Condition, EndpointStatus, Sessions, StickyRouteStatus
from stickyroute_cli.board import Board, table

THEN = datetime(2026, 11, 23, tzinfo=UTC)


def condition(kind, status, reason, message=""):
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        observed_generation=1,
        last_transition_time=THEN,
    )


def status(sessions=(1, 0), state=EndpointState.SERVING, conditions=(), omitted=0):
    return StickyRouteStatus(
        observed_generation=1,
        conditions=conditions or (condition(ConditionType.READY, "True", ConditionReason.READY),),
        hosts="shop.example.com",
        persistence="Cookie",
        endpoints_ready="2/2",
        sessions=Sessions(active=sum(sessions), counted_since=THEN),
        endpoints=tuple(
            EndpointStatus(pod=f"web-{i}", service="web", state=state, sessions=n, requests=0, since=THEN)
            for i, n in enumerate(sessions)
        ),
        endpoints_omitted=omitted,
    )


def test_the_table_shows_routes_endpoints_and_what_is_wrong():
    bad = condition(ConditionType.ACCEPTED, "False", ConditionReason.UNSUPPORTED_VALUE, "spec.tls: remove it")
    shown = table({"default/shop": status(), "default/a": status((), conditions=(bad,), omitted=1)})
    assert shown.splitlines() == [
        "ROUTE         HOSTS             PERSISTENCE  ENDPOINTS  SESSIONS  READY",
        "default/a     shop.example.com  Cookie       2/2        0         Unknown",
        "  and 1 more endpoint",
        "  Accepted=False, UnsupportedValue: spec.tls: remove it",
        "default/shop  shop.example.com  Cookie       2/2        1         True",
        "  web-0  Serving   1 session",
        "  web-1  Serving   0 sessions",
    ]


def test_each_cause_is_told_once():
    why = "spec.host: is no field here"
    refused = (
        condition(ConditionType.ACCEPTED, "False", ConditionReason.INVALID, why),
        condition(ConditionType.RESOLVED_REFS, "False", ConditionReason.NOT_ACCEPTED, "Accepted says why"),
        condition(ConditionType.PROGRAMMED, "False", ConditionReason.NOT_ACCEPTED, f"Not served: {why}"),
        condition(ConditionType.READY, "False", ConditionReason.NOT_ACCEPTED, f"Not served: {why}"),
    )
    assert table({"a/b": status((), conditions=refused)}).splitlines()[2:] == [
        f"  Accepted=False, Invalid: {why}"
    ]
    why = "Secret a/tls does not exist"
    unresolved = (
        condition(ConditionType.RESOLVED_REFS, "False", ConditionReason.INVALID_CERTIFICATE_REF, why),
        condition(ConditionType.READY, "False", ConditionReason.INVALID_CERTIFICATE_REF, why),
    )
    assert table({"a/b": status((), conditions=unresolved)}).splitlines()[2:] == [
        f"  ResolvedRefs=False, InvalidCertificateRef: {why}"
    ]


def test_it_is_printed_at_once_when_it_changes_and_more_rarely_when_sessions_do():
    board = Board()
    assert board.update({"a/b": status()}, 100.0)
    assert board.update({"a/b": status()}, 200.0) is None
    assert "2 sessions" in board.update({"a/b": status((2, 0))}, 201.0)
    assert board.update({"a/b": status((3, 0))}, 202.0) is None
    assert "Draining" in board.update({"a/b": status((3, 0), EndpointState.DRAINING)}, 202.1)
    assert "4 sessions" in board.update({"a/b": status((4, 0), EndpointState.DRAINING)}, 207.2)
