"""The names of the chart's objects, as Helm renders them: what the CLI and the docs make of them."""

import re
from pathlib import Path

import pytest
import yaml
from tests.e2e import kube
from tests.e2e.conftest import CHART

from stickyroute_cli.commands.keys import _fullnames

DOCS = Path(__file__).parents[2] / "docs"

INSTALLATIONS = {
    "plain": ("stickyroute",),
    "another": ("edge",),
    "with the word": ("edge-stickyroute-eu",),
    "cut in the word": ("checkout-platform-production-eu",),
    "cut at a hyphen": ("a" * 39,),
    "cut at one of two hyphens": (f"{'a' * 38}--b",),
    "cut before the word": ("a" * 53,),
    "with the word, cut": (f"{'a' * 38}-stickyroute",),
    "nameOverride": ("edge", "--set=nameOverride=sticky"),
    "fullnameOverride": ("edge", "--set=fullnameOverride=own"),
}


@pytest.fixture(params=INSTALLATIONS.values(), ids=INSTALLATIONS)
def installation(request):
    return request.param


def rendered(installation, kind, suffix):
    """The metadata of the one object of that kind whose name ends so."""
    release, *flags = installation
    text = kube.helm("template", release, CHART, "--namespace=probe", *flags)
    objects = [one for one in yaml.safe_load_all(text) if one and one["kind"] == kind]
    (found,) = [one["metadata"] for one in objects if one["metadata"]["name"].endswith(suffix)]
    return found


def test_the_cli_finds_the_secret_by_the_release_or_by_what_comes_before_the_suffix(installation):
    fullname = rendered(installation, "Secret", "-token-keys")["name"].removesuffix("-token-keys")
    assert fullname in _fullnames(fullname)
    if len(installation) == 1:
        assert fullname == _fullnames(installation[0])[0]


@pytest.mark.parametrize(
    ("page", "kind", "suffix"), [("keys", "Secret", "token-keys"), ("draining", "Service", "drain")]
)
def test_the_command_of_the_docs_finds_it_whatever_its_name(installation, page, kind, suffix):
    text = (DOCS / f"{page}.md").read_text()
    asked = rf"kubectl --namespace stickyroute get {kind.lower()}s -l (\S+)=(\S+) -o name \| grep '(\S+)\$'"
    ((label, value, end),) = re.findall(asked, text)
    assert end == suffix
    assert rendered(installation, kind, suffix)["labels"][label] == value
