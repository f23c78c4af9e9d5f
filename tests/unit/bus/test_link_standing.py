"""What follows from the state that a master tells."""

from __future__ import annotations

import pytest

from bus.errors import WireError
from bus.link import protocol
from bus.link.protocol import State
from bus.link.standing import CONNECTING, STANDINGS


def test_each_state_that_can_be_told_is_there() -> None:
    """One that is not is no message."""
    for state in STANDINGS:
        assert protocol.decode_down(protocol.encode(State(state))) == State(state)
    with pytest.raises(WireError):
        State("asleep")


@pytest.mark.parametrize("state", ["pending", "rejected", "denied"])
def test_a_key_that_is_not_accepted(state: str) -> None:
    """The link says so, and waits for somebody to decide."""
    standing = STANDINGS[state]
    assert (standing.enters, standing.waits) == (state, True)
    assert standing.words


@pytest.mark.parametrize("state", ["unknown", "accepted"])
def test_a_connection_that_the_master_does_not_know(state: str) -> None:
    """It is no news, and hello is said again."""
    assert STANDINGS[state] == (CONNECTING, False, "")


def test_a_key_that_was_deleted() -> None:
    """It is not rejected: the minion asks anew, but not at once."""
    standing = STANDINGS[protocol.DELETED]
    assert (standing.enters, standing.waits) == (CONNECTING, True)
    assert "deleted" in standing.words
