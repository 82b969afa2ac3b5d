"""Writes the chart's table of values into its README, from the `# --` comments of values.yaml.

python deploy/readme.py
"""  # noqa: INP001 - a script, run from the repository's root

import json
import re
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "helm/stickyroute"
BEGIN, END = "<!-- values: written by deploy/readme.py -->\n", "<!-- end of values -->\n"
KEY = re.compile(r"( *)([A-Za-z]+):")


def table(text: str) -> str:
    """One row for each value with a `# --` comment; raises ValueError for a leaf without one."""
    values = yaml.safe_load(text)
    rows, path, about = [], list[str](), ""
    for line in text.splitlines():
        if line.strip().startswith("# -- "):
            about = line.strip().removeprefix("# -- ")
        elif found := KEY.match(line):
            depth = len(found[1]) // 2
            path[depth:] = [found[2]]
            value = values
            for key in path:
                value = value[key]
            if about:
                default = json.dumps(value).replace("|", "\\|")
                rows.append(f"| `{'.'.join(path)}` | `{default}` | {about} |\n")
                about = ""
            elif not documented(path, rows) and (not isinstance(value, dict) or not value):
                raise ValueError(f"values.yaml: {'.'.join(path)} has no `# --` comment")
    return "| value | default | meaning |\n|---|---|---|\n" + "".join(rows)


def documented(path: list[str], rows: list[str]) -> bool:
    """Whether an object above this key has a row of its own."""
    above = (".".join(path[:length]) for length in range(1, len(path)))
    return any(row.startswith(f"| `{name}` |") for name in above for row in rows)


def render(readme: str, values: str) -> str:
    """The README with a fresh table."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + table(values) + END + rest.split(END)[1]


def main() -> None:
    readme = CHART / "README.md"
    readme.write_text(render(readme.read_text(), (CHART / "values.yaml").read_text()))


if __name__ == "__main__":
    main()
