import json
import logging

import pytest

from stickyroute_api.settings import Settings
from stickyroute_operator.app import Operator
from stickyroute_operator.main import _Json, _options, main, parser


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in (
        "CLASS_NAME",
        "NAMESPACE",
        "RELEASE",
        "WATCH_NAMESPACES",
        "TRUSTED_PROXIES",
        "HEALTH",
        "SETTINGS",
        "ALLOW_SHARED_HOSTS",
        "ROTATE_KEYS_EVERY",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ):
        monkeypatch.delenv(f"STICKYROUTE_{name}", raising=False)
    monkeypatch.delenv("POD_NAMESPACE", raising=False)


def read(*arguments):
    return _options(parser().parse_args(arguments))


def test_what_the_chart_says():
    options = read(
        *("--class-name=web", "--namespace=system", "--release=sr", "--health=0.0.0.0:8081"),
        *("--log-level=info", "--watch-namespace=b", "--watch-namespace=a"),
    )
    assert (options.fleet, options.namespace, options.release) == ("web", "system", "sr")
    assert options.watch_namespaces == ("a", "b")
    assert options.health == ("0.0.0.0", 8081)
    assert (options.lease, options.control_service) == ("sr-operator", "sr-proxy-control")


def test_the_environment_gives_defaults(monkeypatch):
    monkeypatch.setenv("STICKYROUTE_CLASS_NAME", "inner")
    monkeypatch.setenv("POD_NAMESPACE", "here")
    monkeypatch.setenv("STICKYROUTE_WATCH_NAMESPACES", "a, b")
    monkeypatch.setenv("STICKYROUTE_TRUSTED_PROXIES", "10.0.0.0/8")
    options = read()
    assert (options.fleet, options.namespace) == ("inner", "here")
    assert options.watch_namespaces == ("a", "b")
    assert options.trusted_proxies == ("10.0.0.0/8",)
    assert read("--class-name", "outer").fleet == "outer"


async def test_settings_come_from_a_file_and_the_flag_for_trusted_proxies_wins(tmp_path):
    assert settings_of(read()) == Settings()
    file = tmp_path / "settings.json"
    file.write_text('{"trustedProxies": ["10.0.0.0/8"], "limits": {"bodyBytes": "10Mi"}}')
    settings = settings_of(read(f"--settings={file}"))
    assert (settings.trusted_proxies, settings.limits.body_bytes) == (("10.0.0.0/8",), 10 << 20)
    settings = settings_of(read(f"--settings={file}", "--trusted-proxy=fd00::/8"))
    assert (settings.trusted_proxies, settings.limits.body_bytes) == (("fd00::/8",), 10 << 20)


def settings_of(options):
    return Operator(options, api=None).reconciler._settings


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        ("limits:", "is not JSON"),
        ('{"limits": {"headBytes": 1}}', "limits.headBytes: must be from 1Ki to 1Mi"),
    ],
)
def test_bad_settings_are_bad_usage(tmp_path, capsys, content, told):
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as end:
        main([f"--settings={file}"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"argument --settings: {file}" in said
    assert told in said


def test_two_starts_are_two_operators():
    assert read().instance != read().instance


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("--class-name=Web", "'Web'"),
        ("--health=8081", "HOST:PORT"),
        ("--health=0.0.0.0:99999", "HOST:PORT"),
        ("--trusted-proxy=10.0.0.1/8", "10.0.0.0/8"),
        ("--log-level=loud", "debug"),
        ("--what", "--what"),
    ],
)
def test_bad_usage_is_told(argument, word, capsys):
    with pytest.raises(SystemExit) as end:
        main([argument])
    assert end.value.code == 2
    assert word in capsys.readouterr().err


def test_no_cluster_is_told_without_a_traceback(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with pytest.raises(SystemExit) as end:
            main([])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert "no access to a cluster" in told
    assert "Traceback" not in told


def test_log_lines_are_json():
    record = logging.LogRecord("a.b", logging.INFO, "f", 1, "route %s", ("x",), None)
    line = json.loads(_Json().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("info", "a.b", "route x")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("LOG_LEVEL", "argument --log-level: 'loud' is none of debug, info, warning, error"),
        ("LOG_FORMAT", "argument --log-format: 'loud' is none of json, text"),
        ("ALLOW_SHARED_HOSTS", "STICKYROUTE_ALLOW_SHARED_HOSTS: 'loud' is neither true nor false"),
    ],
)
def test_a_bad_word_in_the_environment_is_bad_usage(monkeypatch, capsys, name, told):
    monkeypatch.setenv(f"STICKYROUTE_{name}", "loud")
    with pytest.raises(SystemExit) as end:
        read()
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_shared_hosts_by_the_environment(monkeypatch):
    assert not read().allow_shared_hosts
    for text, allowed in (("true", True), ("false", False)):
        monkeypatch.setenv("STICKYROUTE_ALLOW_SHARED_HOSTS", text)
        assert read().allow_shared_hosts is allowed


@pytest.mark.parametrize("name", ["WATCH_NAMESPACES", "TRUSTED_PROXIES"])
def test_a_bad_list_in_the_environment_is_bad_usage(monkeypatch, capsys, name):
    monkeypatch.setenv(f"STICKYROUTE_{name}", "good,Not Good")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert f"STICKYROUTE_{name}" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "every"), [("", 2592000), ("36h", 129600), ("0s", 0)])
def test_how_often_keys_are_rotated(monkeypatch, text, every):
    assert read(*([f"--rotate-keys-every={text}"] if text else [])).rotate_every.total_seconds() == every
    monkeypatch.setenv("STICKYROUTE_ROTATE_KEYS_EVERY", text)
    assert read().rotate_every.total_seconds() == every


def test_a_time_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        read("--rotate-keys-every=monthly")
    assert "'monthly' is not a duration" in capsys.readouterr().err
