"""That what the repository's pages link to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^()\s]+)\)")
HIDDEN = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
"""Where a page shows text as it stands, links are none."""


def pages():
    """The pages of the repository, without those of what is installed or built in it."""
    folders = ("docs", "examples", "deploy", "tests", "bench", "api", "operator", "proxy", "cli")
    found = [*ROOT.glob("*.md"), *(page for folder in folders for page in (ROOT / folder).rglob("*.md"))]
    return sorted(str(page.relative_to(ROOT)) for page in found if "node_modules" not in page.parts)


def missing(page):
    """The relative links of a page to files that are not there."""
    targets = [target.partition("#")[0] for target in LINK.findall(HIDDEN.sub("", page.read_text("utf-8")))]
    return [one for one in targets if one and ":" not in one and not (page.parent / one).exists()]


@pytest.mark.parametrize("page", pages())
def test_each_link_leads_to_a_file(page):
    assert not missing(ROOT / page)


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](page.md#x) [b](gone.md#x) [c](https://a.test/) [d](#here) `[e](shown.md)`\n")
    assert missing(page) == ["gone.md"]
