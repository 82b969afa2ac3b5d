"""`stickyroute keys rotate`, with a kubectl that only writes down what it was asked."""

import pytest
from click.testing import CliRunner

from stickyroute_cli.main import stickyroute


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A kubectl on the PATH; returns what it was called with, once it was."""

    def install(status=0, error="", knows=""):
        program = tmp_path / "kubectl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
            f'case "$*" in *" secret {knows or "?"}"*) exit 0;; esac\n'
            f'echo "{error}: $*" >&2\nexit {status}\n'
        )
        program.chmod(0o755)
        return lambda: (tmp_path / "asked").read_text().strip()

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return install


def run(*arguments):
    return CliRunner().invoke(stickyroute, ["keys", "rotate", *arguments])


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ((), "--namespace stickyroute annotate secret stickyroute-token-keys"),
        (
            ("-n", "edge", "--release=sr", "--context=prod"),
            "--context=prod --namespace edge annotate secret sr-stickyroute-token-keys",
        ),
        (
            ("--release", "checkout-platform-production-eu"),
            "--namespace stickyroute annotate secret checkout-platform-production-eu-stickyro-token-keys",
        ),
        (  # no hyphen stays at the cut
            ("--release", f"{'a' * 39}-b-stickyroute"),
            f"--namespace stickyroute annotate secret {'a' * 39}-token-keys",
        ),
    ],
)
def test_the_secret_is_annotated(kubectl, arguments, asked):
    said = kubectl()
    result = run(*arguments)
    assert result.exit_code == 0
    assert said() == f"{asked} stickyroute.dev/rotate=now --overwrite"
    assert "ordered" in result.output


@pytest.mark.parametrize("reason", ["NotFound", "Forbidden"])
@pytest.mark.parametrize("secret", ["edge-stickyroute-token-keys", "edge-token-keys"])
def test_the_release_and_a_fullname_of_ones_own_are_both_found(kubectl, secret, reason):
    kubectl(1, f"Error from server ({reason}): secrets", knows=secret)
    result = run("--release=edge")
    assert result.exit_code == 0
    assert f"stickyroute/{secret}" in result.output


def test_where_neither_is_found_the_likelier_is_told(kubectl):
    kubectl(1, "Error from server (NotFound): secrets")
    result = run("--release=edge")
    assert result.exit_code == 2
    assert " edge-stickyroute-token-keys " in result.output


@pytest.mark.parametrize("length", [39, 45])
def test_where_the_cut_leaves_one_name_it_is_asked_once(kubectl, length):
    said = kubectl(1, "Error from server (NotFound): secrets")
    assert run(f"--release={'a' * length}").exit_code == 2
    assert said().count("annotate") == 1


def test_a_cluster_that_is_away_is_asked_once(kubectl):
    said = kubectl(1, "The connection to the server was refused")
    result = run("--release=edge")
    assert result.exit_code == 2
    assert "refused" in result.output
    assert said().count("annotate") == 1


def test_kubectls_own_words_are_passed_on_with_the_remedy(kubectl):
    kubectl(1, 'secrets "stickyroute-token-keys" not found')
    result = run()
    assert result.exit_code == 2
    assert "not found" in result.output
    assert "--release" in result.output


def test_without_kubectl_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run()
    assert result.exit_code == 2
    assert "kubectl is not installed" in result.output
