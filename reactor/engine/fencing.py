"""Has the bus take nothing more from a reactor that is gone.

A fire of its may still be on the way, in the memory of a process that is stopped or in a socket's
buffer. Kept later than the next reactor looks, it would report what that one does once more. The
bus counts the fires of each producer and keeps none that it counts as kept already: a last one, in
the other's name and with the highest number there is, makes all others such.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from bus.errors import BusError, NotRunningError
from bus.publisher import Publisher

LAST_NUMBER = (1 << 63) - 1
"""The highest number that the journal can hold."""


def fence(
    publisher: Publisher,
    producers: Collection[bytes],
    event: bytes,
    is_over: Callable[[], bool],
    timeout: float,
) -> None:
    """Fire ``event`` as the last one of each producer, and wait until that is kept.

    Args:
        publisher: the connection to the bus.
        producers: the names of those that are gone.
        event: packed, see `bus.wire.pack_event`.
        is_over: says that the end is asked for.
        timeout: seconds to wait for the bus.

    Raises:
        BusError: the bus is not there, or did not take it.
    """
    answers: list[BusError | None] = []
    keys = [
        publisher.send(
            [event],
            producer=producer,
            number=LAST_NUMBER,
            on_done=lambda _seq, error: answers.append(error),
        )
        for producer in producers
    ]
    publisher.wait(lambda: len(answers) == len(keys) or is_over(), timeout)
    for key in keys:
        publisher.abandon(*key)
    if len(answers) < len(keys):
        raise NotRunningError("the bus did not answer, so what another reactor fired is not known")
    for error in answers:
        if error is not None:
            raise error
