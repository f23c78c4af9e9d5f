"""What the spool dropped is reported once."""

from __future__ import annotations

from typing import Any

from bus.link.dropreport import DropReport
from bus.link.outbox import Done


class Dropped:
    """The part of an outbox that counts."""

    def __init__(self, unreported: int) -> None:
        self.unreported = unreported

    def reported(self, count: int) -> None:
        self.unreported -= count


def _report(outbox: Any) -> tuple[DropReport, list[tuple[str, dict[str, Any], Done]]]:
    return DropReport(outbox, "web1"), []


def test_nothing_to_report() -> None:
    """Nothing is sent."""
    report, sent = _report(Dropped(0))
    report.send(lambda *event: sent.append(event))
    assert sent == []


def test_a_report_that_arrives() -> None:
    """What was dropped meanwhile is the next one's."""
    outbox = Dropped(3)
    report, sent = _report(outbox)
    report.send(lambda *event: sent.append(event))
    outbox.unreported += 2
    report.send(lambda *event: sent.append(event))  # one is on its way
    ((tag, data, done),) = sent
    assert tag == "salt/minion/web1/spool/dropped"
    assert data == {"dropped": 3, "spool_policy": "drop_oldest"}
    done(True, "")
    assert outbox.unreported == 2
    report.send(lambda *event: sent.append(event))
    assert sent[1][1]["dropped"] == 2


def test_a_report_that_is_lost() -> None:
    """The next one has it all."""
    outbox = Dropped(3)
    report, sent = _report(outbox)
    report.send(lambda *event: sent.append(event))
    sent[0][2](False, "the spool is full")
    outbox.unreported += 1
    report.send(lambda *event: sent.append(event))
    assert sent[1][1]["dropped"] == 4
