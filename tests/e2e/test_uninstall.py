"""`helm uninstall` leaves nothing but the definition and what users made."""

from tests.e2e import kube, manifests


def test_uninstall_leaves_only_the_definition_and_the_users_objects(release, place):
    kube.apply(place, manifests.route("mine", "mine.stickyroute.test", ["web"]))
    kube.helm("uninstall", release.name, "-n", release.namespace)
    kinds = kube.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    readable = ",".join(kind for kind in kinds if not kind.startswith("events"))

    def left():
        return set(kube.kubectl("-n", release.namespace, "get", readable, "-o", "name").split())

    own = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    kube.until("an empty namespace", lambda: not left() - own, 120)
    wide = kube.kubectl(
        "get", "clusterroles,clusterrolebindings,customresourcedefinitions", "-o", "name"
    ).split()
    assert [name for name in wide if "stickyroute" in name] == [
        "customresourcedefinition.apiextensions.k8s.io/stickyroutes.stickyroute.dev"
    ]
    kube.kubectl("-n", place, "get", "stickyroute", "mine")
