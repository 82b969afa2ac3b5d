"""The chart on an empty cluster."""

from tests.e2e import kube


def test_everything_is_ready_within_a_minute(release):
    print(f"\nhelm install to everything Ready: {release.took:.1f} s")
    assert release.took < 60
    assert len(release.pods("proxy")) == 2
    kube.wait_ready(release.namespace, "demo")


def test_helm_test_sees_a_session_stay(release):
    kube.helm("test", release.name, "-n", release.namespace, "--logs")


def test_the_namespace_enforces_the_restricted_standard(release):
    labels = kube.get("namespace", release.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_proxies_hold_no_api_token_and_the_operator_only_the_rights_that_it_uses(release):
    for pod in release.pods("proxy").values():
        assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["tls", "state"]
    who = f"system:serviceaccount:{release.namespace}:{release.name}-operator"
    for verb, what in (
        ("list", "secrets"),
        ("watch", "secrets"),
        ("patch", "secret/other"),
        ("list", "configmaps"),
        ("create", "pods"),
        ("delete", "stickyroutes"),
    ):
        answer = kube.kubectl("auth", "can-i", verb, what, "--as", who, "-n", release.namespace, check=False)
        assert answer.stdout.strip() == "no", f"the operator may {verb} {what}"


def test_an_upgrade_leaves_the_operators_secrets(release):
    def data():
        names = (f"{release.name}-{suffix}" for suffix in ("ca", "operator-tls", "proxy-tls", "token-keys"))
        return {name: kube.get("-n", release.namespace, "secret", name)["data"] for name in names}

    before = data()
    assert all(before.values())
    release.helm("upgrade")
    assert data() == before
