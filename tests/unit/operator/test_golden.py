"""Manifests in, snapshot and verdicts out. `STICKYROUTE_GOLDEN=write` regenerates the expectations."""

import os
from pathlib import Path

import pytest
import yaml
from tests.unit.operator.builders import KEYS

from stickyroute_api.settingsfile import parse_settings
from stickyroute_operator.objects import Reference, referent
from stickyroute_operator.store import TYPES
from stickyroute_operator.translate import State, translate

CASES = sorted(Path(__file__).parent.glob("golden/*.in.yaml"))


def _state(text):
    kinds = {kind: {} for kind in TYPES}
    referents = {}
    options = {"fleet": "stickyroute"}
    for manifest in yaml.safe_load_all(text):
        match manifest["kind"]:
            case "Options":
                options |= manifest["options"]
            case kind if kind in TYPES:
                item = TYPES[kind].from_manifest(manifest)
                kinds[kind][item.key] = item
            case kind:
                meta = manifest["metadata"]
                referents[Reference(kind, meta["namespace"], meta["name"])] = referent(kind, manifest)
    if "settings" in options:
        options["settings"] = parse_settings(options["settings"])
    if "acknowledged" in options:
        options["acknowledged"] = {key: frozenset(ids) for key, ids in options["acknowledged"].items()}
    return State(
        keys=KEYS,
        routes=kinds["StickyRoute"],
        services=kinds["Service"],
        slices=kinds["EndpointSlice"],
        pods=kinds["Pod"],
        referents=referents,
        **options,
    )


def _shown(translation):
    snapshot = translation.snapshot(1, 1).model_dump(
        mode="json", exclude_defaults=True, exclude={"keys", "epoch", "revision", "format"}
    )
    verdicts = {
        "/".join(key): {
            "accepted": [verdict.accepted.status, str(verdict.accepted.reason), verdict.accepted.message],
            "resolved": [verdict.resolved.status, str(verdict.resolved.reason), verdict.resolved.message],
            "scopes": list(verdict.scopes),
            "endpoints": [f"{name} {one.pod} {one.state}" for name, one in verdict.endpoints],
            **({"deletionCosts": list(verdict.deletion_costs)} if verdict.deletion_costs else {}),
        }
        for key, verdict in translation.verdicts.items()
    }
    return {"snapshot": snapshot, "verdicts": verdicts}


def test_there_are_cases():
    assert len(CASES) >= 10


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_golden(case):
    shown = _shown(translate(_state(case.read_text())))
    expected = case.with_name(case.name.replace(".in.yaml", ".out.yaml"))
    if os.environ.get("STICKYROUTE_GOLDEN") == "write":
        expected.write_text(yaml.safe_dump(shown, sort_keys=True, width=110))
    assert shown == yaml.safe_load(expected.read_text())
