"""What of the chart can be held without Helm; deploy/lint.sh renders it where Helm is."""

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
import yaml

from stickyroute_api.settings import Settings
from stickyroute_api.settingsfile import SettingsFile, parse_settings

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy/helm/stickyroute"

spec = importlib.util.spec_from_file_location("readme", ROOT / "deploy/readme.py")
readme = importlib.util.module_from_spec(spec)
spec.loader.exec_module(readme)


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
