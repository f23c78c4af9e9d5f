"""When a minion says hello, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from bus.link import protocol
from bus.link.hellos import ABSENT_DELAY, FIRST_DELAY, LAST_DELAY, REPEAT_DELAY, Grains, Hellos
from bus.link.protocol import Hello

RUN = b"r" * protocol.LINEAGE_BYTES


def make(grains: Grains) -> Hellos:
    return Hellos("web1", grains, RUN, now=0.0, spread=lambda seconds: seconds)


def _pauses(hellos: Hellos, times: int, *, sent: bool) -> list[float]:
    found = []
    for _ in range(times):
        now = hellos.due
        hellos.said(now, sent=sent)
        found.append(round(hellos.due - now, 3))
    return found


def test_while_nobody_is_connected() -> None:
    """The tries stay on this host, so the pauses stay short."""
    pauses = _pauses(make({}), 5, sent=False)
    assert pauses == [FIRST_DELAY, 0.2, 0.4, ABSENT_DELAY, ABSENT_DELAY]


def test_without_an_answer() -> None:
    """A busy master is not asked more and more often."""
    hellos = make({})
    assert _pauses(hellos, 7, sent=True) == [REPEAT_DELAY, 2, 4, 8, 16, LAST_DELAY, LAST_DELAY]
    hellos.restart(500.0)
    assert hellos.due == 500.0
    assert _pauses(hellos, 1, sent=True) == [REPEAT_DELAY]


def test_a_master_that_does_not_know_the_connection() -> None:
    """Hello is said after the short pause, and not later than it would be anyway."""
    hellos = make({})
    hellos.wait(0.0, 10.0)
    assert hellos.due == 10.0
    hellos.hurry(1.0)
    assert hellos.due == 1.0 + FIRST_DELAY
    hellos.hurry(1.05)
    assert hellos.due == 1.0 + FIRST_DELAY


def _said(hellos: Hellos) -> tuple[Hello, list[str]]:
    told: list[str] = []
    message = protocol.decode_up(hellos.frame(told.append))
    assert isinstance(message, Hello)
    return message, told


def test_the_grains_of_now_are_told() -> None:
    """A function is asked each time."""
    count = iter(range(9))
    hellos = make(lambda: {"n": next(count)})
    assert [_said(hellos)[0].grains for _ in range(2)] == [{"n": 0}, {"n": 1}]
    assert _said(hellos)[0] == Hello("web1", protocol.VERSION, {"n": 2}, RUN)


@pytest.mark.parametrize("grains", [{"x": object()}, {"x": "y" * protocol.MAX_HELLO_BYTES}])
def test_grains_that_cannot_be_sent(grains: dict[str, Any]) -> None:
    """The minion says hello without them, and why."""
    message, (text,) = _said(make(grains))
    assert message.grains == {}
    assert text.startswith("the grains cannot be sent: ")
