"""When the engine says that it is behind."""

from __future__ import annotations

from reactor.engine.backlog import BEHIND, CAUGHT_UP, Backlog


def test_it_says_so_once_and_again_when_it_caught_up():
    """A number that wavers around a limit is no news."""
    backlog = Backlog()
    unread = [0, BEHIND - 1, BEHIND, BEHIND - 1, BEHIND + 5, CAUGHT_UP + 1, CAUGHT_UP, 0, BEHIND]
    assert [backlog.changed(number) for number in unread] == [
        None,
        None,
        True,
        None,
        None,
        None,
        False,
        None,
        True,
    ]
