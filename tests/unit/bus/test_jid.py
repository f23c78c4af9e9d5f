"""Job ids."""

from __future__ import annotations

import threading

import pytest

from bus.jid import JidMaker, format_jid, is_jid

MOMENT = 1_795_339_800_123_456_000  # 2026-11-22 09:30:00.123456 UTC


def test_a_jid_is_the_utc_time_in_twenty_digits() -> None:
    """Year to microsecond, without separators."""
    assert JidMaker(lambda: MOMENT).next() == "20261122093000123456"


def test_jids_increase_when_the_clock_stands_still_or_steps_back() -> None:
    """The next one is at least one microsecond later."""
    times = iter([MOMENT, MOMENT, MOMENT - 10**12, MOMENT + 10**9])
    maker = JidMaker(lambda: next(times))
    made = [maker.next() for _ in range(4)]
    assert made == sorted(set(made))
    assert made[1:3] == ["20261122093000123457", "20261122093000123458"]


def test_a_maker_goes_on_after_an_older_jid() -> None:
    """A restart with a clock that stepped back repeats none."""
    assert JidMaker(lambda: MOMENT, after="20991231235959999999").next() == "21000101000000000000"


@pytest.mark.parametrize("after", ["", "nonsense", "99999999999999999999"])
def test_what_is_no_time_is_not_gone_on_after(after: str) -> None:
    """Then the clock alone counts."""
    assert JidMaker(lambda: MOMENT, after=after).next() == format_jid(MOMENT // 1000)


def test_threads_get_different_jids() -> None:
    """One maker, several threads, no repetition."""
    maker = JidMaker(lambda: MOMENT)
    made: list[str] = []

    def work() -> None:
        made.extend(maker.next() for _ in range(500))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("20261122093000123456", True),
        ("2026112209300012345", False),
        ("20261122093000123456\n", False),
        ("\u0662\u0660261122093000123456", False),
        (20261122093000123456, False),
    ],
)
def test_the_form_of_a_jid(text: object, good: bool) -> None:
    """Twenty ASCII digits and nothing else."""
    assert is_jid(text) is good
