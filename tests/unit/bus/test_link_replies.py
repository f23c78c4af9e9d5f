"""Each who asks the master hears once."""

from __future__ import annotations

from typing import Any

from bus.link import protocol
from bus.link.protocol import Reply, Request
from bus.link.replies import NOT_CONNECTED, WENT_DOWN, Replies


class Line:
    """What was sent, and what was heard."""

    def __init__(self) -> None:
        self.works = True
        self.sent: list[Request] = []
        self.heard: list[tuple[str, Any, str]] = []
        self.replies = Replies(self._send)

    def _send(self, frame: bytes) -> bool:
        message = protocol.decode_up(frame)
        assert isinstance(message, Request)
        if self.works:
            self.sent.append(message)
        return self.works

    def ask(self, name: str) -> None:
        self.replies.ask(
            {"file": name}, lambda value, error: self.heard.append((name, value, error))
        )


def test_replies_find_who_asked() -> None:
    """In any order, and once."""
    line = Line()
    line.ask("a")
    line.ask("b")
    first, second = line.sent
    assert (first.params, second.params) == ({"file": "a"}, {"file": "b"})
    line.replies.take(Reply(second.number, b"B", ""))
    line.replies.take(Reply(first.number, b"ignored", "no such file"))
    line.replies.take(Reply(second.number, b"again", ""))
    assert line.heard == [("b", b"B", ""), ("a", None, "no such file")]


def test_a_question_that_cannot_be_sent() -> None:
    """It is answered at once, and not again when the link goes down."""
    line = Line()
    line.works = False
    line.ask("a")
    line.replies.fail()
    assert line.heard == [("a", None, NOT_CONNECTED)]


def test_a_link_that_goes_down() -> None:
    """All who wait hear so; an answer that comes after all is for nobody."""
    line = Line()
    line.ask("a")
    line.ask("b")
    line.replies.fail()
    line.replies.take(Reply(line.sent[0].number, b"late", ""))
    assert line.heard == [("a", None, WENT_DOWN), ("b", None, WENT_DOWN)]
