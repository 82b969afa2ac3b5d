"""The generated definition: fresh, structural, bounded, readable."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from stickyroute_api import crd, yamltext
from stickyroute_api.schema import structural

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", crd.generated())
def test_the_generated_file_is_fresh(path):
    assert (ROOT / path).read_text(encoding="utf-8") == crd.generated()[path], f"{path} is stale: make crds"


def test_the_manifest_is_the_definition():
    assert yaml.safe_load(crd.manifest()) == crd.definition()


def test_the_template_differs_by_the_two_switches_only():
    plain = [line for line in crd.template().splitlines() if "{{" not in line]
    plain = [line for line in plain if line not in ("  annotations:", "    helm.sh/resource-policy: keep")]
    assert plain == crd.manifest().splitlines()
    assert crd.template().count("{{- if") == crd.template().count("{{- end }}") == 2


def schemas(schema, path=""):
    yield path, schema
    for name, member in schema.get("properties", {}).items():
        yield from schemas(member, f"{path}.{name}")
    if "items" in schema:
        yield from schemas(schema["items"], f"{path}[]")


def root():
    (version,) = crd.definition()["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def test_every_value_is_bounded_and_typed():
    for path, schema in schemas(root()):
        if path in (".apiVersion", ".kind"):
            continue
        assert "type" in schema or schema["x-kubernetes-int-or-string"], path
        assert (
            not {"$ref", "anyOf", "oneOf", "allOf", "const", "title", "additionalProperties"} & schema.keys()
        )
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
        if schema.get("type") == "string":
            assert {"maxLength", "enum", "format"} & schema.keys(), path
        if path.startswith(".spec") and schema.get("type") == "integer" and "enum" not in schema:
            assert {"minimum", "maximum"} <= schema.keys(), path


def test_every_value_of_the_spec_explains_itself():
    for path, schema in schemas(root()):
        if path.startswith((".spec", ".status")) and not path.endswith("[]"):
            assert 4 <= len(schema["description"]) <= 160 or path == ".spec.rules[].name", path


def test_defaults_are_written_for_single_values_only():
    defaults = {path: schema["default"] for path, schema in schemas(root()) if "default" in schema}
    assert defaults[".spec.persistence.cookie.sameSite"] == "Lax"
    assert defaults[".spec.rules[].retries.retryOn"] == ["connect-failure"]
    assert ".spec.persistence" not in defaults
    assert ".spec.rules[].matches" not in defaults


def test_the_columns():
    (version,) = crd.definition()["spec"]["versions"]
    names = [(column["name"], column.get("priority", 0)) for column in version["additionalPrinterColumns"]]
    assert names == [
        ("Hosts", 0),
        ("Persistence", 0),
        ("Endpoints", 0),
        ("Sessions", 0),
        ("Ready", 0),
        ("Age", 0),
        ("Proxies", 1),
        ("Moved", 1),
        ("Reason", 1),
        ("Message", 1),
    ]


class Constant(BaseModel):
    one: Literal["x"]


def test_a_constant_becomes_an_enum():
    assert structural(Constant)["properties"]["one"] == {"enum": ["x"], "type": "string"}


class Choice(BaseModel):
    one: int | Annotated[str, Field(max_length=1)]


class Unbounded(BaseModel):
    one: str


class Endless(BaseModel):
    one: list[int]


class Map(BaseModel):
    one: dict[str, int]


class Exclusive(BaseModel):
    one: Annotated[int, Field(gt=0)]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Choice, r"Choice\.one: .*choose between types"),
        (Unbounded, r"Unbounded\.one: .*maxLength"),
        (Endless, r"Endless\.one: .*maxItems"),
        (Map, r"Map\.one: .*'additionalProperties'"),
        (Exclusive, r"Exclusive\.one: .*'exclusiveMinimum'"),
    ],
)
def test_what_has_no_structural_schema_is_refused_by_name(model, says):
    with pytest.raises(ValueError, match=says):
        structural(model)


def test_written_below_a_checkout(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        crd.main([str(tmp_path)])
    assert caught.value.code == 2
    assert "run it in a checkout" in capsys.readouterr().err
    for path in crd.generated():
        (tmp_path / path).parent.mkdir(parents=True)
    assert crd.main([str(tmp_path)]) == 0
    assert {path: (tmp_path / path).read_text() for path in crd.generated()} == crd.generated()


def test_printed(capsys):
    assert crd.main(["--print"]) == 0
    assert capsys.readouterr().out == crd.manifest()


PLAIN = st.recursive(
    st.text(
        st.characters(
            exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff\ufffe\uffff"
        )
    )
    | st.integers()
    | st.booleans()
    | st.sampled_from(["on", "null", "1.5", "a: b", "# x", "- x", "~", "0x1f", "2030-01-31", "=", "<<", "y"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abyn:#- ", max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abyn", max_size=5), PLAIN, min_size=1, max_size=4))
def test_yaml_reads_back_as_written(value):
    assert yaml.safe_load(yamltext.dump(value)) == value


@pytest.mark.parametrize(
    "word", ["y", "N", "yes", "No", "on", "OFF", "true", "False", "null", "~", "", "1e3"]
)
def test_words_that_yaml_reads_otherwise_are_quoted(word):
    assert yamltext.dump({"a": word, word: ["a"]}) == f'a: "{word}"\n"{word}":\n  - a\n'
