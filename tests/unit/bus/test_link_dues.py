"""What a loop does now and then."""

from __future__ import annotations

from bus.link.dues import Dues


def test_a_thing_is_due_once_in_its_time() -> None:
    """Counted from when it was done, and each thing for itself."""
    now = [100.0]
    dues = Dues(lambda: now[0])
    assert [dues.take("a", 2.0), dues.take("a", 2.0), dues.take("b", 1.0)] == [True, False, True]
    now[0] = 101.0
    assert [dues.take("a", 2.0), dues.take("b", 1.0)] == [False, True]
    now[0] = 105.0
    assert [dues.take("a", 2.0), dues.take("a", 2.0)] == [True, False]


def test_a_thing_that_is_not_finished_comes_again_sooner() -> None:
    """Whatever its usual time."""
    now = [100.0]
    dues = Dues(lambda: now[0])
    dues.take("a", 60.0)
    dues.put_off("a", 0.5)
    assert not dues.take("a", 60.0)
    now[0] = 100.5
    assert dues.take("a", 60.0)
