"""The command line, the environment beneath it, and readiness."""

import os
from types import SimpleNamespace

import pytest

from stickyroute_proxy.admin import PATIENCE, Readiness
from stickyroute_proxy.listen import Address
from stickyroute_proxy.options import cores, parse


def test_defaults():
    options = parse([], {"POD_NAME": "proxy-7"})
    assert (options.class_name, options.name) == ("stickyroute", "proxy-7")
    assert (options.http, options.https, options.control, options.admin, options.drain) == (
        Address("0.0.0.0", 8080),
        Address("0.0.0.0", 8443),
        Address("0.0.0.0", 9443),
        Address("0.0.0.0", 9090),
        Address("0.0.0.0", 9091),
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
        ("workers", "many"),
        ("workers", "-1"),
        ("workers", "257"),
    ],
)
def test_bad_values_name_their_option(flag, text, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([f"--{flag}={text}"], {})
    assert ended.value.code == 2
    assert f"argument --{flag}: '{text}' is" in capsys.readouterr().err


def test_http_and_https_need_a_port_each(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--http=0.0.0.0:8443"], {})
    assert ended.value.code == 2
    assert "argument --https: '0.0.0.0:8443' is where --http listens" in capsys.readouterr().err
    parse(["--http=127.0.0.1:0", "--https=127.0.0.1:0"], {})  # the system chooses two


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


@pytest.mark.parametrize(("text", "workers"), [("1", 1), ("3", 3), ("0", 7), ("auto", 7)])
def test_workers(monkeypatch, text, workers):
    monkeypatch.setattr("stickyroute_proxy.options.cores", lambda: 7)
    assert parse(["--workers", text], {}).workers == workers
    assert parse([], {"STICKYROUTE_WORKERS": text}).workers == workers
    assert parse([], {}).workers == 1


@pytest.mark.parametrize(
    ("limit", "count"),
    [("max 100000", 6), ("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("900000 100000", 6)],
)
def test_auto_is_the_cpu_limit_rounded_up_within_the_cores_there_are(monkeypatch, tmp_path, limit, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(6)))
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert cores(tmp_path) == count
    assert cores(tmp_path / "none") == 6
