import gc
from random import Random

import pytest
from bench import decide, forged
from bench.fleets import COOKIE, ENVELOPE, HEADER, NOW, fleet, minted, only_rule, shown
from bench.rounds import Work, interleaved

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.choose import choose
from stickyroute_proxy.table import build


def test_rounds_are_interleaved_and_the_first_does_not_count():
    seen = []
    works = {
        name: Work(
            lambda name=name: seen.append((name, gc.isenabled())), 2, lambda name=name: seen.append(name)
        )
        for name in ("one", "other")
    }
    taken = interleaved(works, 2)
    assert seen == ["one", ("one", False), "other", ("other", False)] * 3
    assert {name: len(found) for name, found in taken.items()} == {"one": 2, "other": 2}
    assert gc.isenabled()


@pytest.mark.parametrize("policy", [COOKIE, HEADER, ENVELOPE], ids=lambda policy: policy.type)
def test_keys_are_what_their_names_say(policy):
    random = Random(1)
    rule = only_rule(build(fleet(1, 3, policy), None, NOW, random))
    key = minted(rule, random)

    def reason(shown_key):
        return choose(rule, shown(policy, shown_key), NOW, random).reason

    assert reason(key) is BindingReason.BOUND
    assert reason(None) is BindingReason.NEW
    assert reason(decide.tampered(key)) is BindingReason.INVALID_TOKEN
    made_up = forged.forged(key, random).encode() + key[forged.LENGTH :]
    assert made_up != key
    assert reason(made_up) is BindingReason.INVALID_TOKEN


@pytest.mark.parametrize("case", forged.CASES, ids=lambda case: case.title)
def test_each_request_is_another_with_as_many_keys_as_are_named(case, monkeypatch):
    monkeypatch.setattr(forged, "CALLS", 3)
    made = forged.messages(case.forged, b"A" * forged.LENGTH, Random(1))
    assert len({*made}) == len(made) == 3
    wanted = 1 if "8 forged" not in case.title else 8
    assert case.forged.count(forged.KEY) == wanted
    assert len(made[0]) - len(case.forged) > forged.LENGTH - len(forged.KEY)


def test_forged_keys_that_are_not_judged_are_told_all_the_same():
    assert [case.title for case in forged.CASES if not case.judged] == ["8 forged envelopes"]
