"""How long a caller is willing to wait, as he says it. Pure."""

from __future__ import annotations

from bus.errors import DataError

FOR_EVER = 1_000_000.0
"""Seconds from which on a wait is one for ever: the system counts milliseconds in 31 bits."""


def seconds(value: object, name: str) -> float | None:
    """Return a time-out in seconds, None for one without end.

    Args:
        value: a number of seconds, or None.
        name: of the parameter.

    Raises:
        DataError: it is neither.
    """
    return _checked(value, name, "seconds", 1)


def bounded(value: object, name: str) -> float:
    """`seconds` for what has to have an end: `FOR_EVER` instead of None."""
    given = seconds(value, name)
    return FOR_EVER if given is None else given


def milliseconds(value: object, name: str) -> float | None:
    """`seconds` for who counts in milliseconds, as Salt does; the result is in seconds."""
    return _checked(value, name, "milliseconds", 1000)


def _checked(value: object, name: str, unit: str, per_second: int) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - not a number
        raise DataError(f"{name}={value!r}: give a number of {unit}, or None to wait for ever")
    return value / per_second if value < FOR_EVER * per_second else None
