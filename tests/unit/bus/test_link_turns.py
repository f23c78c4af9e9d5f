"""Which master is tried, and by which key."""

from __future__ import annotations

import pytest

from bus.link.trust import Address
from bus.link.turns import (
    ASK_SUCCESSOR,
    HANDOVER_DELAY,
    LONGEST_REFUSED_DELAY,
    NEXT_KEY,
    REFUSED,
    Turns,
)

A, B = Address("a", 1), Address("b", 1)


def make(*masters: Address) -> Turns:
    return Turns(masters, 0.0, lambda seconds: seconds)


def test_masters_come_in_turn() -> None:
    """After the last one the first, and back to it at once when that is wanted."""
    turns = make(A, B)
    seen = []
    for _ in range(3):
        seen.append((turns.master, turns.is_elsewhere))
        turns.next_master()
    assert seen == [(A, False), (B, True), (A, False)]
    assert turns.master == B
    turns.go_back()
    assert turns.master == turns.first == A
    assert turns.has_others
    assert not make(A).has_others


def test_every_known_key_is_tried_before_a_successor_is_asked_for() -> None:
    """The ones that are known first, in their order."""
    turns = make(A)
    known = [b"new", b"older", b"old"]
    tried, steps = [], []
    for _ in range(3):
        tried.append(turns.key(known))
        steps.append(turns.refused(len(known), 0.0))
    assert tried == known
    assert steps == [NEXT_KEY, NEXT_KEY, ASK_SUCCESSOR]


def test_a_successor_is_asked_for_now_and_then() -> None:
    """Since it costs the master something; and never of one of whom no key is known."""
    turns = make(A)
    assert [turns.refused(1, now) for now in (0.0, 1.0, HANDOVER_DELAY, HANDOVER_DELAY + 1)] == [
        ASK_SUCCESSOR,
        REFUSED,
        ASK_SUCCESSOR,
        REFUSED,
    ]
    assert make(A).refused(0, 0.0) == REFUSED


def test_a_key_that_was_proved_is_tried_first_again() -> None:
    """And what came before counts for nothing."""
    turns = make(A)
    known = [b"new", b"old"]
    turns.refused(2, 0.0)
    assert turns.key(known) == b"old"
    turns.proved()
    assert turns.key(known) == b"new"
    assert turns.refused(2, 0.0) == NEXT_KEY


def test_the_pauses_of_a_master_that_refuses_grow() -> None:
    """Or a minion with a wrong fingerprint would keep its master busy with handshakes."""
    turns = make(A)
    pauses = []
    for _ in range(12):
        turns.refused(1, 0.0)
        pauses.append(turns.refused_by_all())
    assert pauses[0] is None  # ZeroMQ itself tries again
    assert pauses[1:5] == [1.0, 1.5, 2.0, 2.5]
    assert pauses[-1] == LONGEST_REFUSED_DELAY


@pytest.mark.parametrize("refusals", [1, 2])
def test_one_of_several_that_refuses_is_passed_over(refusals: int) -> None:
    """At the first time already."""
    turns = make(A, B)
    for _ in range(refusals):
        turns.refused(1, 0.0)
    assert turns.refused_by_all() == 0.5 * refusals
    assert turns.master == B
