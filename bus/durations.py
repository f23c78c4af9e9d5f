"""Durations as people write them: ``1h30m`` is 5400 seconds, and back. Pure functions."""

from __future__ import annotations

import math
import re

from bus.errors import BusError

_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[wdhms])\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SPOKEN = ("d", "h", "m", "s")
"""The units of `text`: a week is said in days, as ``7d`` reads better than ``1w``."""


class DurationError(BusError, ValueError):
    """A duration that cannot be read."""

    status = 400


def seconds(value: object) -> float:
    """Return a duration in seconds.

    Args:
        value: a number of seconds, or text made of numbers with the units ``w d h m s ms``,
            such as ``1h30m``.

    Raises:
        DurationError: it is neither, negative, or not finite.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        found: float | None = float(value) if abs(value) < 1e18 else math.inf
    else:
        found = _parse(value.strip()) if isinstance(value, str) else None
    if found is None or not 0 <= found < math.inf:
        shown = value if isinstance(value, str | int | float) else type(value).__name__
        raise DurationError(
            f"{str(shown)[:40]!r} is no duration: write one such as '90s', '1h30m' or '7d'"
        )
    return found


def _parse(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    total, position = 0.0, 0
    while part := _PART.match(text, position):
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    return total if position and position == len(text) else None


def text(duration: float) -> str:
    """Return ``duration`` (seconds, not negative) as text, to the millisecond.

    >>> text(5400)
    '1h30m'
    """
    whole, milliseconds = divmod(round(duration * 1000), 1000)
    parts = []
    for unit in _SPOKEN:
        count, whole = divmod(whole, int(_UNITS[unit]))
        parts.append(f"{count}{unit}" if count else "")
    parts.append(f"{milliseconds}ms" if milliseconds else "")
    return "".join(parts) or "0s"
