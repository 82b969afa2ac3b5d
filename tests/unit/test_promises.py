"""That the tests which docs/promises.md names are run, and that none of its lines goes without one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py::\w+(?:\[[^`\]]+\])?)`")
RUN = ("unit", "component", "applications", "e2e")
"""The folders whose tests CI runs, as they are configured."""

COLLECT = """
import json, sys
from unittest.mock import MagicMock
import pytest

for module in ("mcp", "playwright", "playwright.async_api", "playwright.sync_api", "socketio"):
    sys.modules[module] = MagicMock()  # only `make applications` installs them

class Collected:
    def pytest_collection_finish(self, session):
        found = {}
        for item in session.items:
            skipped = any(
                mark.name == "skip" or mark.name == "skipif" and any(mark.args) or mark.name == "xfail"
                for mark in item.iter_markers()
            )
            found[item.nodeid] = "skipped" if skipped else "run"
        print("\\n" + json.dumps(found))

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], [Collected()]))
"""


def rows(title):
    """The cells of the table below a heading."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def collected(root, *folders):
    """{name: {fates}} of what pytest finds below the folders: of functions, and of each of their cases."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STICKYROUTE_")}
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *(f"tests/{folder}" for folder in folders)],
        cwd=root,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (items,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = {}
    for item, fate in json.loads(items).items():
        name = item.removeprefix("tests/")
        for key in {name, name.partition("[")[0]}:
            found.setdefault(key, set()).add(fate)
    return found


def not_run(names, found):
    """Those that are not there, are left out by configuration, or are skipped: {name: why}."""
    fates = {name: found.get(name, {"not collected"}) for name in names}
    return {name: fate for name, fate in fates.items() if fate != {"run"}}


def test_each_named_test_is_run():
    named = NAMED.findall(PAGE)
    assert len(named) == PAGE.count("::") - PAGE.count("`file::function`") > 50
    assert not not_run(named, collected(ROOT, *RUN))
    # What a test decides for itself when it runs is not seen by collecting it.
    files = {name.partition("::")[0] for name in named}
    ways_out = re.compile(r"pytest\.(skip|xfail|importorskip)\(")
    assert not [
        file for file in files if ways_out.search((ROOT / "tests" / file).read_text(encoding="utf-8"))
    ]


def test_what_is_skipped_ignored_or_gone_is_told(tmp_path):
    folder = tmp_path / "tests/unit"
    folder.mkdir(parents=True)
    (folder / "conftest.py").write_text('collect_ignore = ["test_ignored.py"]\n')
    (folder / "test_ignored.py").write_text("def test_one(): pass\n")
    (folder / "test_some.py").write_text(
        "import pytest\n"
        "def test_run(): pass\n"
        "@pytest.mark.parametrize('n', [1, pytest.param(2, marks=pytest.mark.skip)])\n"
        "def test_partly(n): pass\n"
        "@pytest.mark.skipif(True, reason='x')\n"
        "def test_not_here(): pass\n"
        "@pytest.mark.skipif(False, reason='x')\n"
        "def test_here(): pass\n"
    )
    some = "unit/test_some.py::"
    names = [
        f"{some}test_{name}"
        for name in ("run", "here", "partly[1]", "partly[2]", "partly", "not_here", "gone")
    ]
    found = collected(tmp_path, "unit")
    assert not_run([*names, "unit/test_ignored.py::test_one"], found) == {
        f"{some}test_partly[2]": {"skipped"},
        f"{some}test_partly": {"run", "skipped"},
        f"{some}test_not_here": {"skipped"},
        f"{some}test_gone": {"not collected"},
        "unit/test_ignored.py::test_one": {"not collected"},
    }


@pytest.mark.parametrize(
    "title", ["GEP-1619", "What users of other controllers complain about", "What else is promised"]
)
def test_each_line_has_a_test_or_says_that_it_is_out_of_reach(title):
    found = rows(title)
    assert found
    width = len(found[0])
    for row in found:
        assert len(row) == width
        assert NAMED.search(row[-1]) or "out of reach" in row[-2], row


def test_no_complaint_is_left_out():
    numbers = [int(row[0]) for row in rows("What users of other controllers complain about")]
    assert numbers == list(range(1, 20))
