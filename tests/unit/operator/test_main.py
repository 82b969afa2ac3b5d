import json
import logging

import pytest

from stickyroute_operator.main import _Json, _options, main, parser


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("CLASS_NAME", "NAMESPACE", "RELEASE", "WATCH_NAMESPACES", "TRUSTED_PROXIES", "HEALTH"):
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
    assert options.settings.trusted_proxies == ("10.0.0.0/8",)
    assert read("--class-name", "outer").fleet == "outer"


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


@pytest.mark.parametrize("name", ["WATCH_NAMESPACES", "TRUSTED_PROXIES"])
def test_a_bad_list_in_the_environment_is_bad_usage(monkeypatch, capsys, name):
    monkeypatch.setenv(f"STICKYROUTE_{name}", "good,Not Good")
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert f"STICKYROUTE_{name}" in capsys.readouterr().err
