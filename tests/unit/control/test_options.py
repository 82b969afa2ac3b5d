"""The command line, the environment beneath it, and readiness."""

from types import SimpleNamespace

import pytest

from stickyroute_proxy.admin import PATIENCE, Readiness
from stickyroute_proxy.listen import Address
from stickyroute_proxy.options import parse


def test_defaults():
    options = parse([], {"POD_NAME": "proxy-7"})
    assert (options.class_name, options.name) == ("stickyroute", "proxy-7")
    assert (options.http, options.https, options.control, options.admin) == (
        Address("0.0.0.0", 8080),
        Address("0.0.0.0", 8443),
        Address("0.0.0.0", 9443),
        Address("0.0.0.0", 9090),
    )
    assert (options.drain_delay, options.grace, options.state_dir) == (5, 30, None)


def test_the_command_line_goes_before_the_environment():
    environment = {
        "STICKYROUTE_CLASS_NAME": "edge",
        "STICKYROUTE_GRACE": "1m",
        "STICKYROUTE_HTTP": "[::1]:80",
    }
    options = parse(["--grace", "90"], environment)
    assert (options.class_name, options.grace, options.http) == ("edge", 90, Address("::1", 80))
    assert str(options.http) == "[::1]:80"


@pytest.mark.parametrize("text", ["", "[::]:443"])
def test_https_can_be_elsewhere_or_nowhere(text):
    expected = Address("::", 443) if text else None
    assert parse(["--https", text], {}).https == parse([], {"STICKYROUTE_HTTPS": text}).https == expected


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("0.5", 0.5), ("250ms", 0.25), ("1m30s", 90), ("0", 0)]
)
def test_times(text, seconds):
    assert parse(["--drain-delay", text], {}).drain_delay == seconds


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("http", "8080"),
        ("http", "host:"),
        ("http", "host:99999"),
        ("http", "host:-1"),
        ("grace", "nan"),
        ("grace", "-1"),
        ("grace", "1 minute"),
        ("log-level", "chatty"),
    ],
)
def test_bad_values_name_their_option(flag, text, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([f"--{flag}={text}"], {})
    assert ended.value.code == 2
    assert f"argument --{flag}: '{text}' is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("snapshot", "pushes", "age", "draining", "why"),
    [
        (None, 0, 100, False, "no snapshot"),
        (object(), 0, PATIENCE - 0.1, False, "waiting up to 3 s for the operator"),
        (object(), 0, PATIENCE, False, ""),
        (object(), 1, 0, False, ""),
        (object(), 1, 100, True, "draining"),
    ],
    ids=["none", "kept and young", "kept", "pushed", "draining"],
)
def test_readiness(snapshot, pushes, age, draining, why):
    receiver = SimpleNamespace(snapshot=snapshot, pushes=pushes)
    found = Readiness(receiver, started=50.0, draining=draining).why_not(50.0 + age)
    assert found.startswith(why)
    assert bool(found) == bool(why)
