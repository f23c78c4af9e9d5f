"""Modes: what happens when a rule is to act while it still acts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from reactor.rules.policies import no_key
from reactor.rules.policies.mode import Lanes, Mode


def _admit(lanes, mode, *firings, key=""):
    return [lanes.admit(firing, "r", mode, key).how for firing in firings]


def test_single_refuses_what_comes_meanwhile():
    """And says why; another key is another matter."""
    lanes, mode = Lanes(), Mode("single", 0, no_key)
    assert _admit(lanes, mode, 1, 2) == ["start", "refuse"]
    assert lanes.admit(3, "r", mode, "b").how == "start"
    assert lanes.admit(4, "r", mode, "b").why == "mode: single, and one is running for key b"
    assert lanes.ended(1) == []
    assert _admit(lanes, mode, 5) == ["start"]


def test_restart_replaces_what_runs():
    """The old one's end says nothing any more."""
    lanes, mode = Lanes(), Mode("restart", 0, no_key)
    lanes.admit(1, "r", mode, "")
    assert lanes.admit(2, "r", mode, "").replaced == (1,)
    assert lanes.ended(1) == []
    assert lanes.admit(3, "r", mode, "").replaced == (2,)


def test_queued_runs_one_after_the_other_up_to_its_limit():
    """What is beyond the limit is refused, and said."""
    lanes, mode = Lanes(), Mode("queued", 3, no_key)
    assert _admit(lanes, mode, 1, 2, 3, 4) == ["start", "wait", "wait", "refuse"]
    assert lanes.admit(5, "r", mode, "").why == "mode: queued, 2 wait and max is 3"
    assert lanes.ended(1) == [2]
    assert lanes.ended(2) == [3]
    assert lanes.ended(3) == []


def test_parallel_with_a_limit_makes_the_others_wait():
    """None is refused."""
    lanes, mode = Lanes(), Mode("parallel", 2, no_key)
    assert _admit(lanes, mode, 1, 2, 3, 4) == ["start", "start", "wait", "wait"]
    assert lanes.ended(2) == [3]
    assert lanes.ended(1) == [4]
    assert _admit(Lanes(), Mode("parallel", 0, no_key), *range(50)) == ["start"] * 50


def test_one_that_waits_may_leave():
    """Such as one that could not be written down."""
    lanes, mode = Lanes(), Mode("queued", 0, no_key)
    _admit(lanes, mode, 1, 2, 3)
    assert lanes.ended(2) == []
    assert lanes.ended(1) == [3]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=60), st.integers(0, 3))
def test_queued_keeps_the_order_and_never_runs_two_of_a_key(steps, limit):
    """Whatever comes and ends in whatever order."""
    lanes, mode = Lanes(), Mode("queued", limit, no_key)
    running, accepted, begun = {}, {0: [], 1: [], 2: []}, {0: [], 1: [], 2: []}
    for number, (comes, key) in enumerate(steps):
        if comes:
            how = lanes.admit(number, "r", mode, str(key)).how
            if how != "refuse":
                accepted[key].append(number)
            if how == "start":
                assert key not in running
                running[key] = number
                begun[key].append(number)
        elif key in running:
            for following in lanes.ended(running.pop(key)):
                running[key] = following
                begun[key].append(following)
    assert all(begun[key] == accepted[key][: len(begun[key])] for key in begun)
    assert max(Counter(running).values(), default=0) >= 0
