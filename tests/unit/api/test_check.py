"""Every rule has a bad sample; the samples are refused in Python as the API server refuses them."""

import re
from pathlib import Path

import pytest
import yaml

from stickyroute_api import crd, fields, filters, traffic, validate
from stickyroute_api.check import Check, Model

BAD = sorted((Path(__file__).parents[2] / "e2e/bad").glob("*.yaml"))


def every_check():
    found = [fields.POSITIVE, filters.FREE, traffic.BACKENDS_DIFFER]
    pending = [Model]
    while pending:
        model = pending.pop()
        found.extend(model.checks)
        pending.extend(model.__subclasses__())
    return found


def expectation(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# field: "), path.name
    assert lines[1].startswith("# says: "), path.name
    return lines[0].removeprefix("# field: "), lines[1].removeprefix("# says: ").split(" | ")


def test_names_are_unique():
    names = [check.name for check in every_check()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("check", every_check(), ids=lambda check: check.name)
def test_every_rule_has_a_bad_sample(check: Check):
    assert check.name in {path.stem for path in BAD}


@pytest.mark.parametrize("check", every_check(), ids=lambda check: check.name)
def test_every_rule_is_in_the_definition_and_names_its_field(check: Check):
    assert check.as_schema()["rule"] in {rule["rule"] for rule in rules(crd.definition())}
    last = check.field.rpartition(".")[2]
    if last and last != "rules":
        assert last in check.message or "must" in check.message or "regular expression" in check.message
    assert "\n" not in check.message


def rules(value):
    if isinstance(value, dict):
        yield from value.get("x-kubernetes-validations", ())
        for item in value.values():
            yield from rules(item)
    elif isinstance(value, list):
        for item in value:
            yield from rules(item)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_sample_is_refused_with_its_field_and_remedy(path):
    field, says = expectation(path)
    with pytest.raises(validate.InvalidObject) as caught:
        validate.parse_route(yaml.safe_load(path.read_text(encoding="utf-8")))
    by_field = {problem.field: problem.message for problem in caught.value.problems}
    assert len(by_field) == 1, f"one fault each: {by_field}"
    assert field in (*by_field, *(re.sub(r"\.(name|pod|type)$", "", known) for known in by_field))
    (message,) = by_field.values()
    assert any(word in f"{field} {message}" for word in says)


def test_at_least_twenty_bad_samples():
    assert len(BAD) >= 20
