import json
import os
import re
from math import floor
from pathlib import Path
from random import Random
from select import PIPE_BUF

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import Proxy, fleet, pod

from stickyroute_api.reasons import BindingReason
from stickyroute_api.settings import AccessLog as Settings
from stickyroute_proxy.accesslog import MAX_AGENT, MAX_PATH, AccessLog, Record, Unread, date, line
from stickyroute_proxy.affinity.decision import Decision
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.wire.head import Kinds, RequestHead

ROOT = Path(__file__).parents[3]
NOW = 1_800_000_000.0421
TIME = "2027-01-15T08:00:00.042Z"
PARTS = date(floor(NOW)), 42
TRACE = b"0af7651916cd43dd8448eb211c80319c"


def head(path=b"/cart?card=4111", *fields, line=None):
    found = RequestHead()
    found.address = "192.0.2.1"
    found.secure = False
    found.read(
        line or b"GET %b HTTP/1.1" % path,
        [
            (b"Host", b"Shop.example.com:80"),
            (b"Cookie", b"sr=token"),
            (b"Authorization", b"Bearer secret"),
            *fields,
        ],
        Kinds(),
    )
    found.request_id = b"id-1"
    return found


def record(request=None, **fields):
    """A request's head and what became of it."""
    found = Record()
    found.started = 100.0
    for name, value in fields.items():
        setattr(found, name, value)
    found.plain = not fields.keys() & {"message", "received", "retries", "connect"}
    return request or head(), found


def read(exchange, ended):
    return json.loads(line(*exchange, ended, *PARTS))


def bound():
    """A decision for a pod at an IPv6 address, and its rule."""
    proxy = Proxy(fleet(web=(pod("web-1", address="2001:db8::7"),)))
    return proxy.rule(), proxy.ask()


def test_a_line_says_all_that_is_known():
    rule, decision = bound()
    request = head(
        b"/cart?card=4111",
        (b"USER-AGENT", b"curl/8"),
        (b"Traceparent", b"00-" + TRACE + b"-b7ad6b7169203331-01"),
        (b"User-Agent", b"second"),
    )
    given = record(
        request,
        rule=rule,
        decision=decision,
        status=200,
        received=5,
        sent=1024,
        retries=1,
        connect=0.0015,
        first_byte=100.25,
    )
    assert read(given, 100.5) == {
        "time": TIME,
        "requestId": "id-1",
        "client": "192.0.2.1",
        "scheme": "http",
        "host": "shop.example.com",
        "method": "GET",
        "path": "/cart",
        "protocol": "HTTP/1.1",
        "userAgent": "curl/8",
        "traceId": TRACE.decode(),
        "status": 200,
        "message": None,
        "received": 5,
        "sent": 1024,
        "route": "shop/shop",
        "rule": "app",
        "scope": "shop/shop/web",
        "reason": "New",
        "endpoint": "web-1",
        "address": "[2001:db8::7]:8080",
        "retries": 1,
        "total": 500.0,
        "connect": 1.5,
        "firstByte": 250.0,
    }


def test_what_is_not_known_is_null_and_no_field_is_missing():
    rule, decision = bound()
    whole = read(record(rule=rule, decision=decision), 100.5)
    unread = Unread("192.0.2.1", b"id-1", secure=True)
    unread.started = 100.0
    unread.status, unread.message = 400, 'Host is "none"'
    found = read((None, unread), 100.0)
    assert list(found) == list(whole)
    assert {name: value for name, value in found.items() if value is not None} == {
        "time": TIME,
        "requestId": "id-1",
        "client": "192.0.2.1",
        "scheme": "https",
        "status": 400,
        "message": 'Host is "none"',
        "received": 0,
        "sent": 0,
        "retries": 0,
        "total": 0.0,
    }


def test_the_documented_fields_are_those_of_a_line():
    text = (ROOT / "docs" / "access-log.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(read(record(), 100.0))


@pytest.mark.parametrize(
    "value",
    [TRACE, b"00-" + TRACE + b"-b7ad6b7169203331", b"00-" + TRACE.upper() + b"-b7ad6b7169203331-01", b""],
)
def test_a_malformed_traceparent_is_none(value):
    assert read(record(head(b"/", (b"traceparent", value))), 100.0)["traceId"] is None


@given(
    path=st.binary(max_size=300),
    agent=st.binary(max_size=600),
    names=st.tuples(st.binary(max_size=20), st.binary(max_size=99)),
    identity=st.binary(max_size=128),
    texts=st.tuples(st.text(max_size=20), st.none() | st.text()),
)
def test_whatever_a_client_sends_a_line_is_one_line_of_json(path, agent, names, identity, texts):
    """Even what no parser lets through."""
    (method, host), (address, message) = names, texts
    request = head(b"/", (b"User-Agent", agent))
    request.path, request.method, request.host = path, method, host
    request.address, request.request_id = address, identity
    text = line(*record(request, message=message), 101.0, *PARTS).decode("ascii")
    assert text.isprintable() is False
    assert text[:-1].isprintable()
    assert text[-1] == "\n"
    found = json.loads(text)
    assert found["message"] == message
    assert found["client"] == address
    if path.isascii():
        assert found["path"] == path[:MAX_PATH].decode()


def told(exchange, ended):
    """The line as `json` makes it: all of it anew, but for the digits of the milliseconds."""
    request, of = exchange
    decision, endpoint = of.decision, of.decision and of.decision.endpoint
    agent = request.field(b"user-agent")
    times = {"total": ended - of.started}
    times |= {"connect": of.connect, "firstByte": of.first_byte and of.first_byte - of.started}
    fields = {
        "time": TIME,
        "requestId": request.request_id.decode(),
        "client": request.address,
        "scheme": "http",
        "host": "shop.example.com",
        "method": "GET",
        "protocol": "HTTP/1.1",
        "userAgent": agent[:MAX_AGENT].decode("utf-8", "backslashreplace") if agent else None,
        "traceId": None,
        "path": request.path[:MAX_PATH].decode("utf-8", "backslashreplace"),
        "status": of.status,
        "message": of.message,
        "route": of.rule and of.rule.route,
        "rule": of.rule and of.rule.name,
        "scope": of.rule and of.rule.scope.id,
        "reason": decision and decision.reason.value,
        "endpoint": endpoint and endpoint.pod,
        "address": endpoint and endpoint.authority,
        "retries": of.retries,
        "connect": (of.connect is not None and "@connect") or None,
        "received": of.received,
        "sent": of.sent,
        "total": "@total",
        "firstByte": (of.first_byte is not None and "@firstByte") or None,
    }
    text = json.dumps(fields, separators=(",", ":"))
    for name, seconds in times.items():
        # Thousandths of a millisecond, cut; these are all whole numbers of 1/1024 s.
        text = text.replace(f'"@{name}"', f"{floor((seconds or 0) * 1e6) / 1000:.3f}")
    return text + "\n"


RULES = [proxy.rule() for proxy in (Proxy(fleet()), Proxy(fleet(web=(pod("web-1"),))))]
RULES[1].name = "other"
DECISIONS = [
    Decision(endpoint, reason)
    for endpoint in (None, bound()[1].endpoint)
    for reason in (BindingReason.NEW, BindingReason.BOUND)
]
SECONDS = st.integers(0, 3 * 1024).map(lambda number: number / 1024)


@given(
    exchanges=st.lists(
        st.fixed_dictionaries(
            {
                "path": st.sampled_from([b"/", b"/a", b'/"\\', b"/" + b"b" * 2000]),
                "agent": st.sampled_from([b"", b"one", b'"two"', b"c" * 300]),
                "identity": st.sampled_from([b"a1", b"a-1", b'"']),
                "rule": st.sampled_from([None, *RULES]),
                "decision": st.sampled_from([None, *DECISIONS]),
                "status": st.sampled_from([0, 200, 404]),
                "sent": st.sampled_from([0, 1024, 1 << 40]),
                "first_byte": st.none() | SECONDS,
                "rare": st.none() | st.sampled_from(["", "told", "opened"]),
                "total": SECONDS,
            }
        ),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_kept_of_a_line_for_the_next_changes_no_line(exchanges):
    request, of, kinds = head(), Record(), Kinds()
    for one in exchanges:
        fields = [(b"Host", b"shop.example.com"), *([(b"User-Agent", one["agent"])] if one["agent"] else ())]
        same = fields == request.headers
        request.read(b"GET %b HTTP/1.1" % one["path"], fields, kinds, same)
        request.request_id = one["identity"]
        of.started = 100.0
        of.rule, of.decision, of.status, of.sent = (
            one[name] for name in ("rule", "decision", "status", "sent")
        )
        of.first_byte = None if one["first_byte"] is None else 100.0 + one["first_byte"]
        if one["rare"] == "opened":
            of.connecting = 0.0
            of.connected(0.0625)
        elif one["rare"] is not None:
            of.tell(one["rare"], received=5, retries=1)
        ended = 100.0 + one["total"]
        assert line(request, of, ended, *PARTS).decode() == told((request, of), ended)
        of.clear()


class Piped:
    """A log into a pipe that is read at its end."""

    def __init__(self, **settings):
        self._read, write = os.pipe()
        self.counters = Counters()
        self.log = AccessLog(write, self.counters, Random(3))
        os.close(write)
        self.log.take(Settings(**settings))

    def lines(self):
        self.log.close(10)
        with os.fdopen(self._read, "rb") as reader:
            return [json.loads(text) for text in reader.read().splitlines()]


def test_secrets_are_not_told():
    piped = Piped(mode="All")
    piped.log.add(*record(status=200), 100.5, NOW)
    (found,) = piped.lines()
    assert found["time"] == TIME
    text = json.dumps(found)
    assert not any(secret in text for secret in ("4111", "token", "secret"))


def test_a_long_line_is_cut_to_what_a_pipe_takes_as_one():
    piped = Piped(mode="All")
    long = head(b"/" + b'"' * 8000, (b"User-Agent", b"\x01" * 8000))
    long.host = b"a" * 255
    for _ in range(3):
        piped.log.add(*record(long, status=200), 100.5, NOW)
        piped.log.add(*record(head(b"/" + b"a" * 8000), status=200), 100.5, NOW)
    found = piped.lines()
    assert [len(one["path"]) for one in found] == [64, MAX_PATH] * 3
    assert all(len(json.dumps(one)) < PIPE_BUF for one in found)


def test_what_requests_of_a_connection_have_in_common_is_told_of_each_anew():
    request = head(b"/a", (b"User-Agent", b"one"))
    first = read(record(request), 100.0)
    fields = [*request.headers[:3], (b"User-Agent", b"two")]
    request.read(b"GET /b HTTP/1.1", request.headers, request._kinds, same=True)
    second = read(record(request), 100.0)
    request.read(b"PUT /c HTTP/1.1", fields, request._kinds)
    third = read(record(request), 100.0)
    assert [(one["method"], one["path"], one["userAgent"]) for one in (first, second, third)] == [
        ("GET", "/a", "one"),
        ("GET", "/b", "one"),
        ("PUT", "/c", "two"),
    ]


def test_a_sample_holds_its_share_and_every_server_error():
    piped = Piped(mode="Sampled", sample=0.1)
    for number in range(200):
        piped.log.add(*record(status=(200, 404, 503, 0)[number % 4]), 100.5, NOW)
    statuses = [one["status"] for one in piped.lines()]
    assert statuses.count(503) == 50
    assert 5 <= len(statuses) - 50 <= 30


def test_changed_settings_count_from_the_next_exchange():
    piped = Piped(mode="Sampled", sample=1e-9)
    piped.log.add(*record(status=200), 100.5, NOW)
    piped.log.take(Settings(mode="All"))
    piped.log.add(*record(status=201), 100.5, NOW)
    assert [one["status"] for one in piped.lines()] == [201]
