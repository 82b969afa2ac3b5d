"""What autoscalers are shown goes by metrics that the operator has, with the labels that it gives them."""

import re
from pathlib import Path
from types import SimpleNamespace

import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.operator.builders import endpoint, pieces, route, rule, service, state

from stickyroute_operator.health import Health
from stickyroute_operator.ledger import EndpointView, ScopeView, Totals
from stickyroute_operator.translate import translate

DOCUMENT = Path(__file__).parents[3] / "docs/autoscaling.md"


def exposed():
    """The operator's metrics by name: labels and value of each sample."""
    made = translate(
        state(
            route(rules=[rule()]),
            service(),
            pieces(endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2")),
        )
    )
    (uid, *_) = [one.id for ones in made.endpoints.values() for one in ones if one.pod == "web-1"]
    view = ScopeView(Totals(), (EndpointView(uid, "web-1", "web", 7, 0),), (), 1.0)
    health = Health()
    health.reconciler = SimpleNamespace(translation=made, version=None, runs=1, took=0.0)
    health.sessions = lambda: {"default/shop/web": view}
    text = generate_latest(health.registry()).decode()
    return {
        family.name: [(sample.labels, sample.value) for sample in family.samples]
        for family in text_string_to_metric_families(text)
    }


def test_sessions_are_told_of_each_pod_and_of_the_service():
    found = exposed()
    whose = {"namespace": "default", "route": "shop", "service": "web"}
    assert found["stickyroute_pod_sessions"] == [
        (whose | {"pod": "web-1"}, 7),
        (whose | {"pod": "web-2"}, 0),
    ]
    assert found["stickyroute_service_sessions"] == [(whose, 7)]


def test_the_examples_name_metrics_and_labels_that_there_are():
    text = DOCUMENT.read_text()
    found = exposed()
    named = set(re.findall(r"\bstickyroute_\w+", text))
    assert named == {"stickyroute_pod_sessions", "stickyroute_service_sessions"}
    assert named <= found.keys()
    for name, labels in re.findall(r"(stickyroute_\w+)\{(.*?)\}", text):
        used = set(re.findall(r"(\w+)[!=]=?\"", labels))
        assert used
        assert used <= found[name][0][0].keys()


def test_the_examples_are_objects_that_fit_together():
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    parts = [part for block in blocks for part in yaml.safe_load_all(block)]
    by_kind = {part["kind"]: part for part in parts if "kind" in part}
    (adapter,) = [part["rules"]["custom"][0] for part in parts if "rules" in part]
    hpa = by_kind["HorizontalPodAutoscaler"]["spec"]
    assert hpa["metrics"][0]["pods"]["metric"]["name"] == adapter["name"]["as"]
    assert by_kind["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["honorLabels"] is True
    (trigger,) = by_kind["ScaledObject"]["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"]["ignoreNullValues"] == "false", "or else no answer is no sessions, and pods go"
