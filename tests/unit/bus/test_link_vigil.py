"""When a master is pinged, and when it is given up."""

from __future__ import annotations

import pytest

from bus.link.vigil import (
    ADMISSION_SECONDS,
    FAILOVER_SECONDS,
    PING_SECONDS,
    SILENCE_SECONDS,
    Vigil,
)

ACCEPTANCE = 10.0
PATIENCE = ADMISSION_SECONDS + ACCEPTANCE


@pytest.fixture
def vigil() -> Vigil:
    return Vigil(100.0, ACCEPTANCE, lambda seconds: seconds)


@pytest.mark.parametrize(("early", "patience"), [(False, PATIENCE), (True, FAILOVER_SECONDS)])
def test_a_master_that_was_never_heard(vigil: Vigil, early: bool, patience: float) -> None:
    """It is given up soon if there is something else to try."""
    assert not vigil.gives_up(100.0 + patience, early=early)
    assert vigil.gives_up(100.1 + patience, early=early)


def test_a_master_that_was_heard(vigil: Vigil) -> None:
    """One that has answered once, such as that the key waits, has all the time there is."""
    vigil.heard = 101.0
    assert not vigil.gives_up(101.0 + PATIENCE, early=True)
    assert vigil.gives_up(101.1 + PATIENCE, early=True)


def test_a_connection_that_ends_gives_new_time_to_a_master_that_was_heard(vigil: Vigil) -> None:
    """Not to one that never was: it would be tried for ever."""
    vigil.lost(104.0)
    assert vigil.gives_up(105.1, early=True)
    vigil.heard = 106.0
    vigil.lost(200.0)
    assert not vigil.gives_up(200.0 + FAILOVER_SECONDS, early=True)
    assert vigil.gives_up(200.1 + FAILOVER_SECONDS, early=True)


def test_another_master_begins_anew(vigil: Vigil) -> None:
    """What the last one said counts for nothing."""
    vigil.heard = 101.0
    vigil.begin(110.0)
    assert not vigil.gives_up(110.0 + FAILOVER_SECONDS, early=True)
    assert vigil.gives_up(110.1 + FAILOVER_SECONDS, early=True)


def test_a_master_that_falls_silent(vigil: Vigil) -> None:
    """Counted from what it said last."""
    vigil.heard = 150.0
    assert not vigil.is_silent(150.0 + SILENCE_SECONDS)
    assert vigil.is_silent(150.1 + SILENCE_SECONDS)


def test_pings(vigil: Vigil) -> None:
    """One each time, and none soon after a hello was answered."""
    vigil.pinged(100.0)
    due = 100.0 + PING_SECONDS
    assert [vigil.takes_ping(now) for now in (due - 0.1, due, due, due + 1)] == [
        False,
        True,
        False,
        False,
    ]
    assert vigil.next_ping == due + PING_SECONDS
