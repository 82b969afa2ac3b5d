"""The CustomResourceDefinition of StickyRoute, generated from the models.

`python -m stickyroute_api.crd` writes it below a checkout, as a manifest and as the chart's template;
`--print` prints the manifest.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stickyroute_api.schema import structural
from stickyroute_api.spec import GROUP, KIND, PLURAL, VERSION, StickyRouteSpec
from stickyroute_api.status import StickyRouteStatus
from stickyroute_api.yamltext import dump

_HEADER = "# Generated from the models in api/stickyroute_api by `make crds`: change those, not this file.\n"


def definition() -> dict[str, Any]:
    """The CRD as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["sr"],
                "categories": ["networking"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": "Sends the requests for some hosts to Services and keeps each"
                            " session on the pod that holds its state.",
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": structural(StickyRouteSpec),
                                "status": structural(StickyRouteStatus, "serialization"),
                            },
                        }
                    },
                }
            ],
        },
    }


def _columns() -> list[dict[str, Any]]:
    ready = '.status.conditions[?(@.type=="Ready")]'
    return [
        _column("Hosts", ".status.hosts", "The hosts it serves"),
        _column("Persistence", ".status.persistence", "What a session is known by"),
        _column("Endpoints", ".status.endpointsReady", "Pods that take new sessions, of all"),
        _column("Sessions", ".status.sessions.active", "Active sessions", kind="integer"),
        _column("Ready", f"{ready}.status", "Served by every proxy, and a pod takes new sessions"),
        _column("Age", ".metadata.creationTimestamp", "Since its creation", kind="date"),
        _column("Proxies", ".status.fleet.inSync", "Proxies that serve it as it is now, of all", wide=True),
        _column("Moved", ".status.sessions.moved", "Sessions that lost their pod", kind="integer", wide=True),
        _column("Reason", f"{ready}.reason", "Why it is ready or not", wide=True),
        _column("Message", f"{ready}.message", "What to do", wide=True),
    ]


def _column(
    name: str, path: str, description: str, *, kind: str = "string", wide: bool = False
) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


def manifest() -> str:
    """The CRD as YAML, for `kubectl apply`."""
    return _HEADER + dump(definition())


def template() -> str:
    """The CRD as a Helm template: installed with `crds.enabled`, kept at uninstall with `crds.keep`."""
    text = dump(definition())
    if "{{" in text:
        raise ValueError(
            "the CRD holds '{{', which Helm would take for its own: reword the description or rule"
        )
    name = f"  name: {PLURAL}.{GROUP}\n"
    head, found, tail = text.partition(name)
    if not found:
        raise ValueError("the CRD's metadata.name is not where the template expects it")
    keep = "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
    return f"{_HEADER}{{{{- if .Values.crds.enabled }}}}\n{head}{name}{keep}{tail}{{{{- end }}}}\n"


def generated() -> dict[str, str]:
    """The generated files: path below the checkout → text."""
    return {
        f"crds/{GROUP}_{PLURAL}.yaml": manifest(),
        "deploy/helm/stickyroute/templates/crd.yaml": template(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m stickyroute_api.crd",
        description="Write the generated files of the StickyRoute definition below a checkout.",
    )
    parser.add_argument(
        "--print", action="store_true", help="print the definition instead, for kubectl apply -f -"
    )
    parser.add_argument(
        "checkout", nargs="?", type=Path, default=Path(), help="default: the current directory"
    )
    options = parser.parse_args(arguments)
    if options.print:
        sys.stdout.write(manifest())
        return 0
    for path, text in generated().items():
        target = options.checkout / path
        if not target.parent.is_dir():
            parser.error(f"{target.parent} is no directory: run it in a checkout, or use --print")
        target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
