"""That the tests which docs/promises.md names are there, and that none of its lines goes without one."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows(title):
    """The cells of the table below a heading."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@cache
def functions(file):
    path = ROOT / "tests" / file
    if not path.is_file():
        return frozenset()
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds))


def test_each_named_test_is_there():
    named = NAMED.findall(PAGE)
    assert len(named) == PAGE.count("::") - PAGE.count("`file::function`") > 50
    assert not [f"{file}::{name}" for file, name in named if name not in functions(file)]


def test_each_line_has_a_test_or_says_that_it_is_out_of_reach():
    for title in ("GEP-1619", "What users of other controllers complain about", "What else is promised"):
        found = rows(title)
        assert found
        width = len(found[0])
        for row in found:
            assert len(row) == width
            assert NAMED.search(row[-1]) or "out of reach" in row[-2], row


def test_no_complaint_is_left_out():
    numbers = [int(row[0]) for row in rows("What users of other controllers complain about")]
    assert numbers == list(range(1, 20))
