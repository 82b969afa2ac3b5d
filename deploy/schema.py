"""Writes what the chart's schema says of the fleet's settings, from the models that read them.

python deploy/schema.py
"""  # noqa: INP001 - a script, run from the repository's root

import json
from pathlib import Path
from typing import Any

from stickyroute_api.settingsfile import SettingsFile

SCHEMA = Path(__file__).parent / "helm/stickyroute/values.schema.json"
LEFT_OUT = {"title", "default", "$defs"}


def render(text: str) -> str:
    """The schema with fresh settings."""
    schema = json.loads(text)
    model = SettingsFile.model_json_schema()
    settings = plain(model, model["$defs"])
    schema["properties"]["trustedProxies"] = settings["properties"].pop("trustedProxies")
    del settings["properties"]["store"]  # a value of its own, beside what names its Secret
    schema["properties"]["proxy"]["properties"]["settings"] = settings
    return json.dumps(schema, indent=2) + "\n"


def plain(part: Any, definitions: dict[str, Any]) -> Any:
    """A part of a model's schema as Helm reads it: references inlined, without what is Kubernetes' own."""
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        part = definitions[part["$ref"].rpartition("/")[2]]
    kept = {key: value for key, value in part.items() if key not in LEFT_OUT and not key.startswith("x-")}
    if part.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
    properties = kept.pop("properties", {})
    result = {
        key: plain(kept[key], definitions) for key in sorted(kept, key=lambda key: (key != "type", key))
    }
    if properties:
        result["properties"] = {name: plain(one, definitions) for name, one in properties.items()}
    return result


def main() -> None:
    SCHEMA.write_text(render(SCHEMA.read_text()))


if __name__ == "__main__":
    main()
