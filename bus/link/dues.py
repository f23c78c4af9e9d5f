"""When each of the things that a loop does now and then is due. Pure."""

from __future__ import annotations

from collections.abc import Callable


class Dues:
    """The times of things by their names.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: dict[str, float] = {}

    def take(self, name: str, seconds: float) -> bool:
        """Say whether a thing is due; if so, it is due again after so many seconds."""
        now = self._clock()
        if now < self._times.get(name, 0.0):
            return False
        self._times[name] = now + seconds
        return True

    def put_off(self, name: str, seconds: float) -> None:
        """Let a thing be due after so many seconds, whatever it was before."""
        self._times[name] = self._clock() + seconds
