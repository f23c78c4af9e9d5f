"""What goes wrong is counted, and said but not shouted."""

import logging

from bus.complaints import Complaints


def test_a_flood_is_counted_and_said_now_and_then(caplog) -> None:
    """The line says how many went unsaid."""
    now = [0.0]
    complaints = Complaints(lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            complaints.add("kind", "what happened")
        complaints.add("other", "else")
        now[0] = 11.0
        complaints.add("kind", "what happened", 2)
    assert complaints.counters["kind"] == 102
    assert [record.message for record in caplog.records] == [
        "what happened",
        "else",
        "what happened (and 99 more since the last such line)",
    ]


def test_a_failure_is_shown_with_its_trace(caplog) -> None:
    """As loud as it was asked for, and with where it came from."""
    complaints = Complaints()
    try:
        raise KeyError("name")
    except KeyError as error:
        complaints.add("failed", repr(error), level=logging.ERROR, trace=True)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info[0] is KeyError
