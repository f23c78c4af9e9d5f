"""Presence events, and jobs held for minions that come back."""

from __future__ import annotations

from bus.link.held import GRACE_SECONDS, MAX_HELD, Held
from bus.link.presence import PRESENT_SECONDS, Presence


def test_presence_tells_changes_at_once_and_the_whole_now_and_then():
    """New and lost minions by name; who is there every thirty seconds."""
    presence = Presence()
    first = presence.events(["b", "a"], 0.0)
    assert first == [
        ("salt/presence/change", {"new": ["a", "b"], "lost": []}),
        ("salt/presence/present", {"present": ["a", "b"]}),
    ]
    assert presence.events(["a", "b"], 1.0) == []
    assert presence.events(["b", "c"], 2.0) == [
        ("salt/presence/change", {"new": ["c"], "lost": ["a"]})
    ]
    assert presence.events(["b", "c"], PRESENT_SECONDS) == [
        ("salt/presence/present", {"present": ["b", "c"]})
    ]


def test_jobs_are_held_for_a_while_after_the_start():
    """In order, for whom they are meant, and once."""
    held = Held(100.0)
    assert held.hold("a", b"1", 101.0)
    assert held.hold("b", b"2", 102.0)
    assert held.hold("a", b"3", 103.0)
    assert held.take("a") == [b"1", b"3"]
    assert held.take("a") == []
    assert held.expire(104.0) == {}
    assert held.expire(100.0 + GRACE_SECONDS) == {"b": 1}
    assert held.take("b") == []


def test_later_nobody_is_waited_for():
    """A minion that is away is reported as missing."""
    held = Held(0.0)
    assert not held.hold("a", b"1", GRACE_SECONDS)


def test_what_is_held_is_bounded():
    """A flood of jobs in the first seconds takes no unbounded memory."""
    held = Held(0.0)
    assert all(held.hold("a", b"x", 0.0) for _ in range(MAX_HELD))
    assert not held.hold("a", b"x", 0.0)
    assert len(held.take("a")) == MAX_HELD
    assert held.hold("a", b"x", 0.0)


def test_presence_says_when_something_is_due_though_nobody_came() -> None:
    """The list of those present comes at its interval, so nobody is to be counted before."""
    presence = Presence()
    assert presence.is_due(0.0)
    presence.events([], 0.0)
    assert not presence.is_due(PRESENT_SECONDS - 1)
    assert presence.is_due(PRESENT_SECONDS)
