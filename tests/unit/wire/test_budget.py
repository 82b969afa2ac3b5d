"""How many further attempts are allowed."""

from stickyroute_api.settings import RetryBudget
from stickyroute_proxy.wire.budget import WINDOW, Budget


def spend(budget, requests):
    """How many attempts are allowed in a row."""
    return next(count for count in range(10_000) if not budget.allows(requests))


def test_a_share_of_the_requests_beside_a_minimum():
    assert spend(Budget(RetryBudget(percent=0, per_second=0)), 1000) == 0
    assert spend(Budget(RetryBudget(percent=0, per_second=3)), 0) == 3 * WINDOW
    assert spend(Budget(RetryBudget(percent=20, per_second=0)), 1000) == 200
    assert spend(Budget(RetryBudget(percent=20, per_second=3)), 1000) == 200 + 3 * WINDOW


def test_only_the_last_seconds_count():
    budget = Budget(RetryBudget(percent=10, per_second=0))
    assert spend(budget, 1000) == 100
    for _ in range(WINDOW - 1):
        budget.mark(1000)
        assert not budget.allows(1000)
    budget.mark(1000)
    assert not budget.allows(1000)  # what was spent is forgotten, and so is what was asked
    assert spend(budget, 1050) == 5
    budget.mark(1050)
    assert spend(budget, 2050) == 100


def test_other_settings_forget_nothing():
    budget = Budget(RetryBudget(percent=0, per_second=1))
    assert spend(budget, 0) == WINDOW
    budget.take(RetryBudget(percent=0, per_second=2))
    assert spend(budget, 0) == WINDOW
    budget.take(RetryBudget(percent=0, per_second=1))
    assert not budget.allows(0)
    assert budget.attempts == 2 * WINDOW
