import ast
from pathlib import Path

import pytest
from bench import bare

PROXY = Path(__file__).parents[3] / "proxy"


def stripped(text):
    tree = ast.parse(text)
    removed = bare.strip(tree)
    return ast.unparse(tree), removed


@pytest.mark.parametrize(
    "statement",
    [
        "self._plane.counters.exchanges += 1",
        "counters.retries += 1",
        "counter.answers[status][bucket(seconds)] += 1",
        "counters.unrouted.add(400, 0.0)",
        "scope.bound += 1",
        "scope.count(reason)",
        "rule.scope.count(reason)",
    ],
)
def test_what_only_counts_goes(statement):
    assert stripped(f"def f():\n    {statement}\n    return 1")[1] == [statement]


@pytest.mark.parametrize(
    "statement",
    [
        "self._counters = counters",
        "endpoint.in_flight += 1",
        "known.add(session)",
        "policy = scope.policy\n    use(policy)",
        "open_now = counters.open_connections\n    use(open_now)",
    ],
)
def test_what_is_needed_stays(statement):
    assert stripped(f"def f():\n    {statement}\n    return 1")[1] == []


def test_names_that_only_counting_needed_go_too():
    counting = "counters, rule = (self.counters, self.rule)", "counter = counters.of(rule)", "counter.add(1)"
    source, removed = stripped("\n    ".join(("def f(self):", *counting)))
    assert source == "def f(self):\n    pass\n    pass\n    pass"
    assert set(removed) == set(counting)


@pytest.mark.parametrize("name", ["exchange", "affinity.choose"])
def test_the_path_of_a_request_counts_where_it_is_looked_for(name):
    assert f"stickyroute_proxy.{name}" in bare.MODULES
    source = (PROXY / "stickyroute_proxy" / (name.replace(".", "/") + ".py")).read_text()
    assert stripped(source)[1]


def test_every_module_that_is_stripped_exists():
    for name in bare.MODULES:
        assert (PROXY / (name.replace(".", "/") + ".py")).is_file()
