"""Durations as text and back."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import durations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h30m", 5400),
        ("90", 90),
        ("0", 0),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("1w", 604_800),
        (" 1h 30m ", 5400),
        (30, 30),
        (0.5, 0.5),
    ],
)
def test_seconds_reads_units_and_numbers(text, expected):
    """Every unit, sums of them, and plain numbers of seconds are read."""
    assert durations.seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "bad",
    ["", "abc", "5x", "-5s", "1h-", -1, math.nan, math.inf, True, None, [], "9" * 400, 10**400],
)
def test_seconds_refuses_with_an_example(bad):
    """What is no duration is refused in one line that shows a right one."""
    with pytest.raises(durations.DurationError, match="1h30m") as caught:
        durations.seconds(bad)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0s"), (5400, "1h30m"), (604_800, "7d"), (0.25, "250ms"), (61.5, "1m1s500ms")],
)
def test_text_is_as_people_write_it(value, expected):
    """The largest units come first, and days are the largest."""
    assert durations.text(value) == expected


@given(st.integers(0, 10**12))
def test_text_reads_back(milliseconds):
    """`seconds` reads what `text` writes, to the millisecond."""
    duration = milliseconds / 1000
    assert durations.seconds(durations.text(duration)) == pytest.approx(duration, abs=1e-3)


@given(st.text())
def test_seconds_raises_its_own_error_only(text):
    """Any text is either read or refused with the error of this module."""
    with contextlib.suppress(durations.DurationError):
        assert durations.seconds(text) >= 0
