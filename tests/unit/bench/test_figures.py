import pytest
from bench.figures import Results, Spread
from bench.load.pace import quantile
from bench.targets import TARGETS, Target
from hypothesis import given
from hypothesis import strategies as st

ROUNDS = {
    "stickyroute": [{"cpu": 30.0, "idle": 0.4}, {"cpu": 20.0, "idle": 0.09}, {"cpu": 24.0, "idle": 0.5}],
    "haproxy": [{"cpu": 20.0, "idle": 0.3}, {"cpu": 10.0, "idle": 0.08}, {"cpu": 16.0, "idle": 0.05}],
}
RESULTS = Results(ROUNDS, {"nginx": "not installed"})


def test_a_ratio_is_taken_within_each_round():
    assert RESULTS.ratio("cpu", "stickyroute", "haproxy") == Spread(1.5, 1.5, 2.0)


@pytest.mark.parametrize(("peer", "against"), [("stickyroute", "nginx"), ("nginx", "haproxy")])
def test_there_is_no_ratio_to_what_was_not_measured(peer, against):
    assert RESULTS.ratio("cpu", peer, against) is None
    assert RESULTS.spread("nginx", "cpu") is None


def test_a_figure_that_some_rounds_lack_is_left_out():
    assert Results({"one": [{"log": 1.0}, {}]}, {}).spread("one", "log") == Spread(1.0, 1.0, 1.0)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_the_middle_lies_between_the_extremes(values):
    spread = Spread.of(values)
    assert spread.least <= spread.middle <= spread.most


@pytest.mark.parametrize(
    ("peers", "void"),
    [
        (("stickyroute",), False),  # one round of three had no core left
        (("haproxy",), True),
        (("stickyroute", "haproxy"), True),
        (("nginx",), False),
        ((), False),
    ],
)
def test_a_row_is_void_when_the_load_had_no_core_left(peers, void):
    assert RESULTS.void(*peers) is void


@pytest.mark.parametrize(
    ("value", "more", "verdict"),
    [
        (1.4, False, "aim reached"),
        (2.2, False, "reached"),
        (2.3, False, "missed"),
        (2.3, True, "aim reached"),
        (2.2, True, "aim reached"),
        (1.4, True, "reached"),
        (1.3, True, "missed"),
    ],
)
def test_a_target_says_what_has_been_reached(value, more, verdict):
    reach, aim = (1.4, 2.2) if more else (2.2, 1.4)
    assert Target("", "cpu", "cpu", reach, aim, more=more).verdict(value) == verdict


def test_a_target_is_a_ratio_or_the_figure_itself():
    assert Target("", "cpu", "cpu", 1, 1, "haproxy").value(RESULTS) == Spread(1.5, 1.5, 2.0)
    assert Target("", "cpu", "cpu", 1, 1).value(RESULTS) == Spread(24.0, 20.0, 30.0)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.text)
def test_an_aim_is_no_easier_than_what_must_be_reached(target):
    assert target.verdict(target.aim) == "aim reached"
    assert target.aim >= target.reach if target.more else target.aim <= target.reach


def test_quantiles_of_few_values_are_values():
    assert [quantile([1.0, 2.0, 3.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 2.0, 3.0, 3.0]
