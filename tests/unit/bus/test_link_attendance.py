"""Who is there, for the master."""

from __future__ import annotations

from typing import Any

import pytest

from bus.link.attendance import PROBE_SECONDS, Attendance
from bus.link.departures import SILENT_SECONDS
from bus.link.peers import Peer, Peers
from bus.link.presence import Presence


class Master:
    """Peers, a suspicion, and what is sent and fired."""

    def __init__(self, presence: Presence | None = None) -> None:
        self.now = 1000.0
        self.peers = Peers()
        self.suspects = True
        self.probed: list[bytes] = []
        self.fired: list[tuple[str, dict[str, Any]]] = []
        departures: Any = self
        self.attendance = Attendance(
            self.peers,
            departures,
            send_frame=lambda routing, _frame: self.probed.append(routing),
            presence=presence,
            fire=lambda tag, data: self.fired.append((tag, data)),
            clock=lambda: self.now,
        )

    def suspected(self) -> bool:
        return self.suspects

    def connect(self, number: int, heard: float) -> Peer:
        peer = Peer(bytes([number]) * 16, f"web{number}", b"k", "accepted", {}, heard)
        self.peers.put(peer)
        return peer


def test_those_who_were_not_heard_just_now_are_probed() -> None:
    """Not those who have just spoken, and nobody if nobody can be gone."""
    master = Master()
    master.connect(1, master.now)
    silent = [master.connect(number, 0.0) for number in (3, 2)]
    master.suspects = False
    master.attendance.look_for_all()
    assert master.probed == []
    master.suspects = True
    master.now += PROBE_SECONDS
    master.peers.minion("web1").heard = master.now
    master.attendance.look_for_all()
    assert master.probed == [peer.routing for peer in reversed(silent)]
    master.attendance.look_for_all()  # it was looked for them a moment ago
    assert len(master.probed) == 2


def test_some_are_looked_for() -> None:
    """Such as those that owe something; one that is not connected is not there."""
    master = Master()
    master.connect(1, 0.0)
    wanted = master.connect(2, 0.0)
    master.attendance.look_for(["web2", "web9"])
    assert master.probed == [wanted.routing]


def test_the_silent_are_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """After the time in which they should have pinged."""
    caplog.set_level("INFO")
    master = Master()
    master.connect(1, master.now)
    master.connect(2, master.now + 1.0)
    for _ in range(int(SILENT_SECONDS) + 1):  # a master that was stopped would be patient
        master.now += 1.0
        master.attendance.forget_silent()
    assert master.peers.connected() == ["web2"]
    assert caplog.messages == ["minion web1 has fallen silent"]


def test_presence_is_told_when_it_changes() -> None:
    """And not at all if nobody wants to know."""
    master, quiet = Master(Presence()), Master()
    for each in (master, quiet):
        each.attendance.tell()
        each.connect(1, 0.0)
        each.attendance.tell()
        each.attendance.tell()
    assert quiet.fired == []
    assert master.fired == [
        ("salt/presence/present", {"present": []}),
        ("salt/presence/change", {"new": ["web1"], "lost": []}),
    ]
