"""A run of random events holds every invariant; and of each deliberate break the checker tells."""

import os

import pytest
from tests.invariants.__main__ import SHORT
from tests.invariants.mutations import MUTATIONS, perform
from tests.invariants.run import Plan
from tests.invariants.run import perform as run
from tests.invariants.verdict import CHECKS, judge


async def test_every_invariant_holds_through_random_events(tmp_path):
    seed = os.environ.get("INVARIANTS_SEED") or os.urandom(4).hex()
    print(f"INVARIANTS_SEED={seed}")
    events = await run(Plan(seed=seed, **SHORT), tmp_path)
    verdict = judge(tmp_path)
    print(f"{'; '.join(events)}\n{verdict}")
    assert not verdict.violations, f"seed {seed}\n{verdict}"
    assert verdict.moves.total() > 10, "nothing happened"


def test_each_check_is_proved():
    assert {mutation.check for mutation in MUTATIONS.values()} == set(CHECKS)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_deliberate_break_is_detected(name, tmp_path):
    mutation = MUTATIONS[name]
    verdict = judge(perform(mutation, tmp_path))
    print(verdict)
    assert mutation.check in verdict.violations, f"{name} was not seen as {mutation.check}"
