"""A real API server takes the definition and every sample, and refuses the bad ones by field.

Needs kubectl and a cluster in KUBECONFIG, nothing else of ours; only dry runs, but for the definition where
it is missing or another.
"""

import json
import subprocess
from pathlib import Path

import pytest

from stickyroute_api import crd

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "crds/stickyroute.dev_stickyroutes.yaml"
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
BAD = sorted((ROOT / "tests/e2e/bad").glob("*.yaml"))


def kubectl(*arguments, text=None):
    return subprocess.run(
        ["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=60, check=False
    )


def create(manifest):
    return kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=manifest)


@pytest.fixture(scope="module", autouse=True)
def definition():
    """The definition of this checkout, established."""
    name = crd.definition()["metadata"]["name"]
    there = kubectl("get", "crd", name, "-o", "json")
    if there.returncode != 0 or not same(json.loads(there.stdout)):
        applied = kubectl("apply", "--server-side", "--force-conflicts", "-f", str(MANIFEST))
        assert applied.returncode == 0, applied.stderr
    waited = kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}")
    assert waited.returncode == 0, waited.stderr


def same(there):
    (wanted,) = crd.definition()["spec"]["versions"]
    return [version["schema"] for version in there["spec"]["versions"]] == [wanted["schema"]]


def test_the_definition_is_accepted_and_structural():
    answer = kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "json", "-f", str(MANIFEST)
    )
    assert answer.returncode == 0, answer.stderr
    conditions = {item["type"]: item for item in json.loads(answer.stdout)["status"]["conditions"]}
    assert conditions["Established"]["status"] == "True"
    assert conditions["NamesAccepted"]["status"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted(path):
    answer = create(path.read_text(encoding="utf-8"))
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_sample_is_refused_by_field(path):
    text = path.read_text(encoding="utf-8")
    first, second, *_ = text.splitlines()
    answer = create(text)
    assert answer.returncode != 0, answer.stdout
    assert first.removeprefix("# field: ") in answer.stderr
    assert any(word in answer.stderr for word in second.removeprefix("# says: ").split(" | ")), answer.stderr


def test_the_defaults_are_filled_in():
    answer = create(json.dumps(route(persistence={"cookie": {}})))
    assert answer.returncode == 0, answer.stderr
    spec = json.loads(answer.stdout)["spec"]
    assert spec["className"] == "stickyroute"
    assert spec["persistence"]["type"] == "Cookie"
    assert spec["persistence"]["cookie"]["sameSite"] == "Lax"
    assert spec["rules"][0]["backends"][0]["weight"] == 1


def test_a_route_as_large_as_the_limits_fits_the_cost_budget():
    match = {
        "path": {"type": "RegularExpression", "value": "/" + "a" * 200},
        "headers": [{"name": f"x-{number}", "value": "v" * 50} for number in range(4)],
    }
    headers = [{"name": f"X-{'h' * 40}-{number}", "value": "v" * 100} for number in range(16)]
    modifier = {"set": headers, "add": headers, "remove": [header["name"] for header in headers]}
    prefix = {"type": "ReplaceFullPath", "replaceFullPath": "/" + "a" * 200}
    rules = [
        {
            "name": f"rule-{number}",
            "matches": [match] * 16,
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier},
                {"type": "URLRewrite", "urlRewrite": {"hostname": "example.com", "path": prefix}},
            ],
            "backends": [{"service": f"web-{backend}", "port": "http"} for backend in range(16)],
            "persistence": {
                "idleTimeout": "30m",
                "absoluteTimeout": "12h",
                "cookie": {"domain": "example.com"},
            },
        }
        for number in range(64)
    ]
    hosts = [f"{'x' * 50}-{number}.example.com" for number in range(16)]
    answer = create(json.dumps(route(rules=rules, hosts=hosts)))
    assert answer.returncode == 0, answer.stderr[:2000]


def test_explain_and_the_short_name():
    answer = kubectl("explain", "stickyroutes.spec.persistence.idleTimeout")
    assert "A session unused for so long ends" in answer.stdout, answer.stderr
    listed = kubectl("get", "sr", "--all-namespaces", "-o", "wide")
    assert listed.returncode == 0, listed.stderr


def route(**spec):
    rules = [{"name": "app", "backends": [{"service": "web", "port": 80}]}]
    return {
        "apiVersion": crd.definition()["spec"]["group"] + "/v1alpha1",
        "kind": "StickyRoute",
        "metadata": {"name": "probe"},
        "spec": {"rules": rules, **spec},
    }
