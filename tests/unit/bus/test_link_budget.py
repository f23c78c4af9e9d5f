"""What others can have the server do is bounded in time."""

from bus.link.budget import Budget


def test_a_budget_is_spent_and_grows_again():
    """A second's worth at once, and no more however long nobody asked."""
    now = [0.0]
    budget = Budget(2, lambda: now[0])
    assert [budget.take() for _ in range(3)] == [True, True, False]
    now[0] = 0.5
    assert [budget.take() for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_a_budget_with_more_at_once():
    """What is too much is not taken in part."""
    now = [0.0]
    budget = Budget(1, lambda: now[0], most=10)
    assert not budget.take(11)
    assert budget.take(10)
    now[0] = 5.0
    assert not budget.take(6)
    assert budget.take(5)
