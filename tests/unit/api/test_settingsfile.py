"""Settings as people write them: units, defaults, and what is said of mistakes."""

import pytest

from stickyroute_api.settings import AccessLog, Limits, RetryBudget, Settings, Store, Timeouts
from stickyroute_api.settingsfile import InvalidObject, parse_settings


@pytest.mark.parametrize("content", [None, {}, {"limits": {}, "timeouts": {}}])
def test_nothing_said_is_the_defaults(content):
    assert parse_settings(content) == Settings()


def test_everything_said():
    found = parse_settings(
        {
            "trustedProxies": ["10.0.0.0/8", "fd00::/8"],
            "proxyProtocol": True,
            "limits": {
                "headBytes": "64Ki",
                "headFields": 64,
                "targetBytes": 8192,
                "bodyBytes": "1Gi",
                "connections": 5000,
                "connectionsPerAddress": 50,
                "requests": 1000,
                "pipelined": 1,
            },
            "timeouts": {"handshake": "5s", "head": "1m", "keepAlive": "500ms"},
            "accessLog": {"mode": "Sampled", "sample": 1},
            "retryBudget": {"percent": 0, "perSecond": 3},
            "store": {
                "address": "valkey.shop.svc:6379",
                "database": 2,
                "username": "me",
                "tls": {"enabled": True, "serverName": "valkey"},
            },
        }
    )
    assert found == Settings(
        trusted_proxies=("10.0.0.0/8", "fd00::/8"),
        proxy_protocol=True,
        limits=Limits(
            head_bytes=65536,
            head_fields=64,
            target_bytes=8192,
            body_bytes=1 << 30,
            connections=5000,
            connections_per_address=50,
            requests=1000,
            pipelined=1,
        ),
        timeouts=Timeouts(handshake=5, head=60, keep_alive=0.5),
        access_log=AccessLog(mode="Sampled", sample=1),
        retry_budget=RetryBudget(percent=0, per_second=3),
        store=Store(
            address="valkey.shop.svc:6379", database=2, username="me", tls=True, server_name="valkey"
        ),
    )


def test_a_bare_off_is_off():
    assert parse_settings({"accessLog": {"mode": False}}).access_log.mode == "Off"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "must be a mapping"),
        ({"limits": {"headBytes": "2Mi"}}, "limits.headBytes: must be from 1Ki to 1Mi"),
        ({"limits": {"bodyBytes": "10 MB"}}, "limits.bodyBytes: must be a size such as 10Mi"),
        ({"limits": {"headFields": 4}}, "limits.headFields: must be at least 8 (is 4)"),
        ({"timeouts": {"keepAlive": 75}}, "timeouts.keepAlive: must be a duration such as 90s"),
        ({"timeouts": {"head": "soon"}}, "timeouts.head: must be a duration such as 90s"),
        ({"accessLog": {"mode": "On"}}, "accessLog.mode: must be one of Off, Sampled, All"),
        ({"accessLog": {"sample": 0}}, "accessLog.sample: "),
        ({"trustedProxies": ["10.0.0.1/8"]}, "trustedProxies[0]: 10.0.0.1/8 has host bits set: write a"),
        ({"trustedproxies": []}, 'trustedproxies: is no field here, did you mean "trustedProxies"?'),
        ({"headBytes": "1Ki"}, "headBytes: is no field here: it belongs to limits"),
        ({"zones": {}}, "zones: is no field here"),
    ],
)
def test_mistakes_are_told_by_field_and_remedy(content, told):
    with pytest.raises(InvalidObject) as caught:
        parse_settings(content)
    assert told in str(caught.value)
