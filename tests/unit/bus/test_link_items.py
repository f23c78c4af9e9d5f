"""What a minion brings up, as items."""

from __future__ import annotations

from typing import Any

import pytest

from bus import wire
from bus.errors import DataError, TagError, TooLargeError
from bus.link.items import RETURN_ROOM, event_item, return_item
from bus.link.protocol import EVENT, RETURN

LIMIT = 10_000


def test_an_event() -> None:
    """The tag as it is, the data packed."""
    item = event_item("myco/done", {"a": 1}, LIMIT)
    assert (item.kind, item.name, wire.unpack(item.data)) == (EVENT, "myco/done", {"a": 1})


@pytest.mark.parametrize(
    ("tag", "data", "error", "text"),
    [
        ("a\nb", {}, TagError, "tag"),
        ("a", {"x": object()}, DataError, "object"),
        ("a", {"x": "y" * LIMIT}, TooLargeError, "'a' has .* option max_event_size allows 10000"),
    ],
)
def test_an_event_that_cannot_be_sent(
    tag: str, data: dict[str, Any], error: type[Exception], text: str
) -> None:
    """Its sender hears what is wrong with it."""
    with pytest.raises(error, match=text):
        event_item(tag, data, LIMIT)


def test_a_return() -> None:
    """Under the job's id."""
    item = return_item({"jid": "7", "return": [1]}, LIMIT)
    assert (item.kind, item.name) == (RETURN, "7")
    assert wire.unpack(item.data) == {"jid": "7", "return": [1]}


@pytest.mark.parametrize("value", [object(), "y" * (LIMIT - RETURN_ROOM)])
def test_a_return_that_cannot_be_sent(value: Any) -> None:
    """Somebody waits for it, so words go in its place."""
    item = return_item({"jid": "7", "fun": "test.echo", "return": value, "retcode": 0}, LIMIT)
    ret = wire.unpack(item.data)
    assert "cannot be sent" in ret.pop("return")
    assert ret == {"jid": "7", "fun": "test.echo", "retcode": 1, "success": False}
