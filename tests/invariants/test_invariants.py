"""A run of random events holds every invariant; and of each deliberate break the checker tells."""

import os
from concurrent.futures import ThreadPoolExecutor

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


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """The logs of the breaks that are asked for: two at a time, for they sleep most of theirs."""
    names = [item.callspec.params["name"] for item in request.session.items if "runs" in item.fixturenames]
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(perform, MUTATIONS[name], tmp_path_factory.mktemp(f"break-{number}"))
            for number, name in enumerate(names)
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_deliberate_break_is_detected(name, runs):
    mutation = MUTATIONS[name]
    verdict = judge(runs[name].result())
    print(verdict)
    assert mutation.check in verdict.violations, f"{name} was not seen as {mutation.check}"
