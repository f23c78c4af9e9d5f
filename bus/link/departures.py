"""Who may be gone: connections of the master's port that have ended, minions that are silent."""

from __future__ import annotations

from collections.abc import Callable

import zmq

from bus.sockets import Socket, has_input

SUSPECT_SECONDS = 3.0
"""ZeroMQ tells of the end before the port refuses to send there, and says not whose it was."""

ANYWAY_SECONDS = 15.0
"""How often to look though nothing was told of."""

SILENT_SECONDS = 30.0
"""After which a minion is gone that should ping every five (`bus.link.vigil.PING_SECONDS`)."""

STALL_SECONDS = 5.0
"""A master that has not looked for so long was stopped itself, and may not judge its minions."""

_DONTWAIT = int(zmq.DONTWAIT)


class Departures:
    """Watches a socket for connections that end, for a loop that polls `socket`.

    To look for those who are gone costs a message to each minion, some 15 µs: with ten thousand
    minions a sixth of a processor, if it is done every second for nothing.

    Args:
        watched: the master's port.
        clock: seconds, monotonic.
    """

    def __init__(self, watched: Socket, clock: Callable[[], float]) -> None:
        self._watched = watched
        self._clock = clock
        self._suspect_until = self._anyway_at = clock()
        self.socket: Socket = watched.get_monitor_socket(zmq.Event.DISCONNECTED)

    def handle(self) -> None:
        """Read what waits; which connection it was does not matter."""
        while has_input(self.socket):
            self.socket.recv_multipart(_DONTWAIT)
            self._suspect_until = self._clock() + SUSPECT_SECONDS

    def suspected(self) -> bool:
        """Say whether somebody may be gone of whom it is not known."""
        self.handle()
        now = self._clock()
        if now >= self._anyway_at:
            self._anyway_at = now + ANYWAY_SECONDS
            return True
        return now < self._suspect_until

    def close(self) -> None:
        """End the watching."""
        self._watched.disable_monitor()
        self.socket.close(linger=0)


class Silence:
    """Says since when a minion must have been heard. Pure.

    Args:
        now: seconds, monotonic.
    """

    def __init__(self, now: float) -> None:
        self._looked = now
        self._patient_until = now

    def limit(self, now: float) -> float:
        """Return the moment since which whoever is there has said something.

        What minions said while this process was stopped waits in its queues: after a stop it
        gives them all the time that they have anyway.
        """
        if now - self._looked > STALL_SECONDS:
            self._patient_until = now + SILENT_SECONDS
        self._looked = now
        return now - SILENT_SECONDS if now >= self._patient_until else float("-inf")
