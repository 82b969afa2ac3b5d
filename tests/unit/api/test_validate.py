"""Messages in the words of the YAML; what is valid comes through unchanged."""

import copy
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from tests.unit.api.specs import SPECS

from stickyroute_api.spec import StickyRouteSpec
from stickyroute_api.validate import InvalidObject, parse_route, unsupported

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


def manifest(**spec):
    return {
        "apiVersion": "stickyroute.dev/v1alpha1",
        "kind": "StickyRoute",
        "metadata": {"name": "shop", "namespace": "store"},
        "spec": {"rules": [{"name": "app", "backends": [{"service": "web", "port": 80}]}], **spec},
    }


def problems(wrong):
    with pytest.raises(InvalidObject) as caught:
        parse_route(wrong)
    return [(problem.field, problem.message) for problem in caught.value.problems]


def rule(**more):
    return manifest(rules=[{"name": "app", "backends": [{"service": "web", "port": 80}], **more}])


def backend(**more):
    return rule(backends=[{"service": "web", "port": 80}, {"service": "web", "port": 81, **more}])


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        (backend(weight=-1), "spec.rules[0].backends[1].weight", "must be at least 0 (is -1)"),
        (
            backend(weight="1"),
            "spec.rules[0].backends[1].weight",
            "must be a whole number, without quotes (is '1')",
        ),
        (
            backend(weight=1.5),
            "spec.rules[0].backends[1].weight",
            "must be a whole number, without quotes (is 1.5)",
        ),
        (
            backend(weight=2_000_000),
            "spec.rules[0].backends[1].weight",
            "must be at most 1000000 (is 2000000)",
        ),
        (
            backend(port=True),
            "spec.rules[0].backends[1].port",
            "must be a port's number, 1 to 65535 without quotes, or its name in the Service (is true)",
        ),
        (
            backend(name="web"),
            "spec.rules[0].backends[1].name",
            (
                "is no field here: it belongs to spec.rules or spec.loadBalancing.hashOn;"
                " here are port, service, tls, weight"
            ),
        ),
        (backend(wieght=1), "spec.rules[0].backends[1].wieght", 'is no field here, did you mean "weight"?'),
        (manifest(host=["a"]), "spec.host", 'is no field here, did you mean "hosts"?'),
        (manifest(class_name="a"), "spec.class_name", 'is no field here, did you mean "className"?'),
        (
            manifest(idleTimeout="5m"),
            "spec.idleTimeout",
            "is no field here: it belongs to spec.persistence or spec.rules.persistence",
        ),
        (
            rule(retries={True: ["connect-failure"]}),
            "spec.rules[0].retries.true",
            "is no field here: YAML reads a bare on, yes, off or no as true; use attempts or retryOn",
        ),
        (
            manifest(tls={"secretName": "a", "zzz": 1}),
            "spec.tls.zzz",
            "is no field here: remove it, or use one of redirect, secretName",
        ),
        (
            manifest(persistence={"idleTimeout": "5 minutes"}),
            "spec.persistence.idleTimeout",
            "must be a duration such as 90s, 1h30m or 250ms (is '5 minutes')",
        ),
        (
            manifest(persistence={"idleTimeout": 300}),
            "spec.persistence.idleTimeout",
            "must be a duration such as 90s, 1h30m or 250ms (is 300)",
        ),
        (
            manifest(persistence={"type": "cookie"}),
            "spec.persistence.type",
            (
                "must be one of Cookie, AppCookie, Header, QueryParam, SourceIP, None"
                " (is 'cookie', did you mean Cookie?)"
            ),
        ),
        (
            manifest(persistence={"bindTo": "Node"}),
            "spec.persistence.bindTo",
            "must be one of Pod, StatefulPod, Cohort (is 'Node')",
        ),
        (
            manifest(persistence={"cookie": {"httpOnly": "yes"}}),
            "spec.persistence.cookie.httpOnly",
            "must be true or false, without quotes (is 'yes')",
        ),
        (manifest(hosts="a.b"), "spec.hosts", "must be a list (is 'a.b')"),
        (manifest(hosts=["a"] * 17), "spec.hosts", "must have at most 16 entries (has 17): remove some"),
        (
            manifest(hosts=["a", "b", "a"]),
            "spec.hosts[2]",
            "must be unique, but [0] is 'a' too: remove or rename one",
        ),
        (manifest(persistence=[]), "spec.persistence", "must be a mapping of fields (is [])"),
        (manifest(className=""), "spec.className", "must not be empty: give a value, or leave the field out"),
        (manifest(className="x" * 64), "spec.className", "must have at most 63 characters: shorten it"),
        (manifest(rules=[]), "spec.rules", "must have at least 1 entry: add one"),
        (manifest(rules=None), "spec.rules", "is required: add it"),
        (
            manifest(overrides=[{"pod": "a", "action": "Release", "since": "yesterday"}]),
            "spec.overrides[0].since",
            "must be a time with its zone, such as 2030-01-31T12:00:00Z (is 'yesterday')",
        ),
        (
            manifest(persistence={"epoch": 10**30}),
            "spec.persistence.epoch",
            "must be at most 2147483647 (is 1000000000000000000000000000000)",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_remedy(wrong, field, message):
    assert problems(wrong) == [(field, message)]


def test_all_that_is_wrong_is_told_at_once():
    wrong = backend(weight=-1)
    wrong["spec"]["hosts"] = ["UPPER"]
    assert [field for field, _ in problems(wrong)] == ["spec.hosts[0]", "spec.rules[0].backends[1].weight"]


def test_a_problem_names_the_object():
    with pytest.raises(InvalidObject, match=r"^StickyRoute store/shop: spec\.hosts\[0\]: must be"):
        parse_route(manifest(hosts=["UPPER"]))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"apiVersion": "stickyroute.dev/v1"}, "apiVersion"),
        ({"kind": "Ingress"}, "kind"),
        ({"metadata": None}, "metadata"),
        ({"metadata": {}}, "metadata.name"),
        ({"spec": None}, "spec"),
        ({"spec": 3}, "spec"),
        ({"specs": {}}, "specs"),
        ({"hosts": ["a"]}, "hosts"),
        ({"spec": {"rules": [{"name": float("nan")}]}}, ""),
        ({"spec": {"rules": [{"name": object()}]}}, ""),
    ],
)
def test_the_object_itself(change, field):
    assert [name for name, _ in problems({**manifest(), **change})] == [field]


def test_a_message_is_one_line_and_without_library_words():
    wrong = manifest(persistence={"idleTimeout": "x\ny" * 100}, hosts=[{}], rules=[{}], overrides=3)
    for field, message in problems(wrong):
        assert "\n" not in field + message
        assert "pydantic" not in message
        assert "Input" not in message
        assert len(message) < 260


def test_nulls_count_as_absent():
    route = parse_route(manifest(hosts=None, persistence={"sessionName": None, "type": "None"}))
    assert route.spec.hosts == ()
    assert route.spec.persistence.session_name is None


def test_times_as_yaml_reads_them():
    since = datetime(2030, 1, 31, 12, tzinfo=UTC)
    wanted = manifest(overrides=[{"pod": "web-1", "action": "Release", "since": since}])
    wanted["metadata"]["creationTimestamp"] = since
    route = parse_route(wanted)
    assert route.spec.overrides[0].since == since
    assert route.metadata.creation_timestamp == since


def test_the_manifest_is_left_alone():
    given_, before = manifest(hosts=None), manifest(hosts=None)
    parse_route(given_)
    assert given_ == before


@given(SPECS)
def test_a_valid_spec_comes_back_as_it_was(spec):
    parsed = parse_route(manifest(**copy.deepcopy(spec))).spec
    dumped = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    again = parse_route({**manifest(), "spec": dumped}).spec
    assert again == parsed
    assert isinstance(again, StickyRouteSpec)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_served(path):
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    routes = [parse_route(document) for document in documents if document["kind"] == "StickyRoute"]
    assert routes
    assert [str(problem) for route in routes for problem in unsupported(route.spec)] == []


def test_examples_run_the_image_of_this_version():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = (line.split('"')[1] for line in text.splitlines() if line.startswith("version = "))
    assert f"image: stickyroute:{version} " in (ROOT / "examples/shop.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*/Kustomization")), ids=lambda path: path.parent.name
)
def test_an_application_is_applied_with_all_its_files(path):
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    (resource,), (config_map,) = given["resources"], given["configMapGenerator"]
    programs = {one.name for one in path.parent.glob("*.py")} - {"client.py"}
    assert set(config_map["files"]) == {*programs, "requirements.txt"}
    text = (path.parent / resource).read_text(encoding="utf-8")
    objects = {one["kind"]: one for one in yaml.safe_load_all(text)}
    pod = objects["Deployment"]["spec"]["template"]
    assert [volume["configMap"]["name"] for volume in pod["spec"]["volumes"]] == [config_map["name"]]
    assert objects["Service"]["spec"]["selector"] == pod["metadata"]["labels"]


def fields_of(**spec):
    return [problem.field for problem in unsupported(parse_route(manifest(**spec)).spec)]


def learned(how, kind="AppCookie", mode="Repin"):
    source = "ResponseCookie" if kind == "AppCookie" else "ResponseHeader"
    failover = {"mode": mode} | ({"redirectURL": "/login"} if mode == "Redirect" else {})
    learn = {"from": source, "mode": how}
    return {"type": kind, "sessionName": "S", "learn": learn, "failover": failover}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, []),
        ({"persistence": {"drainTimeout": "0ms", "failover": {"hold": "0h"}, "bindTo": "Pod"}}, []),
        ({"loadBalancing": {"algorithm": "LeastRequests", "slowStart": "0s"}}, []),
        ({"tls": {"secretName": "a"}}, []),
        ({"loadBalancing": {"algorithm": "LeastSessions", "choices": 0, "slowStart": "30s"}}, []),
        ({"loadBalancing": {"algorithm": "Hash", "hashOn": {"type": "SourceIP"}, "zone": "Prefer"}}, []),
        ({"healthCheck": {"passive": {}}}, []),
        ({"overrides": [{"pod": "web-1", "action": "Drain"}]}, []),
        ({"persistence": {"bindTo": "StatefulPod", "drainTimeout": "1m"}}, []),
        ({"persistence": {"type": "SourceIP"}}, []),
        ({"persistence": {"type": "Header", "sessionName": "X-S"}}, []),
        ({"persistence": learned("Envelope")}, []),
        ({"persistence": learned("Envelope", mode="Reject")}, ["spec.persistence.failover.mode"]),
        ({"persistence": learned("Envelope", mode="Redirect")}, ["spec.persistence.failover.mode"]),
        ({"persistence": learned("Envelope", kind="Header", mode="Reject")}, []),
        (
            {"persistence": learned("Envelope", kind="Header", mode="Redirect")},
            ["spec.persistence.failover.mode"],
        ),
        ({"persistence": learned("Store", mode="Redirect")}, []),
        (
            {"persistence": learned("Envelope") | {"rebalance": {"sessionsPerMinute": 1}}},
            ["spec.persistence.rebalance.sessionsPerMinute"],
        ),
        ({"persistence": {"podDeletionCost": True}}, []),
        (
            {"persistence": learned("Store") | {"rebalance": {"sessionsPerMinute": 1}}},
            ["spec.persistence.rebalance.sessionsPerMinute"],
        ),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(spec, fields):
    assert fields_of(**spec) == fields


def test_a_rules_own_persistence_is_looked_at_too_and_needs_a_store_for_what_is_kept_there():
    rules = [
        {"name": name, "backends": [{"service": "web", "port": 80}], "persistence": persistence}
        for name, persistence in (("a", {"type": "None"}), ("b", learned("Store")))
    ]
    spec = parse_route(manifest(rules=rules)).spec
    assert unsupported(spec) == []
    (problem,) = unsupported(spec, has_store=False)
    assert problem.field == "spec.rules[1].persistence.learn.mode"
    assert "set store.address in the chart's values" in problem.message
