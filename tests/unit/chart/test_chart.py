"""What of the chart can be held without Helm; deploy/lint.sh renders it where Helm is."""

import importlib.util
import json
import re
import tomllib
from itertools import product
from pathlib import Path

import pytest
import yaml

from stickyroute_api.settings import Settings
from stickyroute_api.settingsfile import InvalidObject, SettingsFile, parse_settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy/helm/stickyroute"


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"deploy/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


readme, schema = script("readme"), script("schema")


def keys(values, schema, path=""):
    """Differences between values and schema, by path, at every level that the schema closes."""
    if "properties" not in schema:
        return
    for key in values.keys() | schema["properties"].keys():
        name = f"{path}.{key}".lstrip(".")
        if key not in schema["properties"]:
            yield f"values.schema.json lacks {name}"
        elif key not in values:
            yield f"values.yaml lacks {name}"
        elif isinstance(values[key], dict) and values[key]:
            yield from keys(values[key], resolve(schema["properties"][key]), name)


def resolve(part):
    if "$ref" in part:
        return json.loads((CHART / "values.schema.json").read_text())["$defs"][part["$ref"].split("/")[-1]]
    return part


def closed(schema):
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from closed(part)


def test_schema_and_values_name_the_same():
    schema = json.loads((CHART / "values.schema.json").read_text())
    optional = {"values.yaml lacks enabled", "values.yaml lacks operator.resources.claims"}
    optional |= {f"values.yaml lacks {part}.resources.claims" for part in ("proxy", "demo")}
    assert set(keys(yaml.safe_load((CHART / "values.yaml").read_text()), schema)) <= optional


def test_schema_refuses_what_it_does_not_know():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert [part for part in closed(schema) if part.get("additionalProperties") is not False] == []
    assert schema["properties"]["global"] == {
        "type": "object",
        "description": "For parent charts; not read here",
    }


def test_every_reference_within_the_schema_leads_somewhere():
    text = (CHART / "values.schema.json").read_text()
    assert set(re.findall(r'"#/\$defs/([^"]+)"', text)) <= json.loads(text)["$defs"].keys()


def test_readme_shows_every_value():
    text = (CHART / "README.md").read_text()
    assert readme.render(text, (CHART / "values.yaml").read_text()) == text, "run: python deploy/readme.py"


def test_a_value_without_a_comment_is_refused():
    with pytest.raises(ValueError, match=r"proxy\.replicas has no"):
        readme.table("proxy:\n  replicas: 2\n")


def test_settings_say_the_defaults_and_are_what_the_operator_takes():
    settings = yaml.safe_load((CHART / "values.yaml").read_text())["proxy"]["settings"]
    assert parse_settings(settings) == Settings()
    known = SettingsFile.model_json_schema()["properties"].keys() - {"trustedProxies", "store"}
    assert settings.keys() == known
    store = yaml.safe_load((CHART / "values.yaml").read_text())["store"]
    del store["existingSecret"], store["passwordKey"], store["tls"]["caKey"]
    assert parse_settings({"store": store}) == Settings()
    parse_settings(yaml.safe_load((CHART / "ci/everything-values.yaml").read_text())["proxy"]["settings"])


def test_chart_carries_the_version_of_the_product():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == chart["version"] == project["version"]


def test_the_schema_of_the_settings_is_that_of_their_models():
    text = (CHART / "values.schema.json").read_text()
    assert schema.render(text) == text, "run: python deploy/schema.py"


def leaves(part, path=()):
    for name, one in part["properties"].items():
        if "properties" in one:
            yield from leaves(one, (*path, name))
        else:
            yield (*path, name), one


def admits(part, value):
    """Whether Helm lets a value pass, as JSON schema's draft 7 has it."""
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list}
    named = part.get("type", [])
    if "enum" in part:
        return any(value is word or (isinstance(word, str) and value == word) for word in part["enum"])
    for kind in [named] if isinstance(named, str) else named:
        if isinstance(value, kinds[kind]) and isinstance(value, bool) is (kind == "boolean"):
            break
    else:
        return False
    if isinstance(value, list):
        return all(admits(part["items"], one) for one in value)
    if isinstance(value, str):
        return bool(re.search(part["pattern"].replace("$", r"\Z"), value)) and len(value) <= part.get(
            "maxLength", len(value)
        )
    return part.get("minimum", value) <= value <= part.get("maximum", value) and value > part.get(
        "exclusiveMinimum", value - 1
    )


def probes(part):
    """Values on both sides of each bound, and some of every kind."""
    bounds = {part[word] for word in ("minimum", "maximum", "exclusiveMinimum") if word in part}
    yield from {bound + step for bound in bounds for step in (-1, 0, 1)} | {-1, 0, 1}
    yield from (0.5, 1e-9, 1.000001, True, False, "", "Off", "Sampled", "All", "On", None)
    yield from (
        "0s",
        "90s",
        "1h30m",
        "250ms",
        "1h1m1s1ms",
        "1h1h1h1h1h",
        "100000s",
        "99999h",
        "-1s",
        "1.5s",
        "s",
    )
    numbers = (0, 1, 2, 8, 255, 256, 257, 999, 1000, 1023, 1024, 1025, 1047, 1048, 1049, 1048575, 1048576)
    for number, unit in product(
        (*numbers, 1048577, 10**12 - 1, 10**12), ("", "k", "M", "G", "Ki", "Mi", "Gi")
    ):
        yield f"{number}{unit}"
    yield from ("01Ki", "1 Ki", "1KB", "1ki", "+1", "1.5Mi")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        (path, part)
        for path, part in leaves(
            json.loads((CHART / "values.schema.json").read_text())["properties"]["proxy"]["properties"][
                "settings"
            ]
        )
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_helm_and_the_operator_take_the_same_settings(path, part):
    differences = []
    for value in probes(part):
        content = value
        for name in reversed(path):
            content = {name: content}
        try:
            parse_settings(content)
            taken = True
        except InvalidObject:
            taken = False
        if taken is not admits(part, value):
            differences.append((value, taken))
    assert differences == []


NETWORKS = (
    "10.0.0.0/8",
    "10.0.0.1",
    "0.0.0.0/0",
    "255.255.255.255/32",
    "::/0",
    "::1",
    "fd00::/8",
    "1::8/128",
)
NETWORKS += ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::3:4:5:6:7:8", "2001:db8::/32")
NO_NETWORKS = (
    "",
    "10.0.0",
    "10.0.0.256",
    "10.0.0.0/33",
    "010.0.0.0/8",
    "fd00::/129",
    "1:2:3:4:5:6:7",
    ":::",
    "g::",
)
NO_NETWORKS += (
    "1::2::3",
    "1:2:3:4:5:6:7:8:9",
    "12345::",
    "10.0.0.0/",
    "/8",
    "localhost",
    "1:2:3:4:5:6:7:8::",
)


@pytest.mark.parametrize("network", NETWORKS + NO_NETWORKS)
def test_helm_and_the_operator_take_the_same_networks(network):
    part = json.loads((CHART / "values.schema.json").read_text())["properties"]["trustedProxies"]
    assert admits(part, [network]) is (network in NETWORKS)
    if network in NETWORKS:
        parse_settings({"trustedProxies": [network]})
    else:
        with pytest.raises(InvalidObject):
            parse_settings({"trustedProxies": [network]})
