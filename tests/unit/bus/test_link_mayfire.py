"""Which tags minions may fire."""

from __future__ import annotations

import pytest

from bus.errors import TagError
from bus.link import mayfire
from bus.link.mayfire import MayFire


@pytest.mark.parametrize(
    ("globs", "tag", "may"),
    [
        (("*",), "any/thing", True),
        (("myco/*", "*"), "any/thing", True),
        (("myco/*",), "myco/a/b", True),
        (("myco/*",), "myco", False),
        (("myco/*", "app/?"), "app/1", True),
        (("host/{id}/*",), "host/web1/up", True),
        (("host/{id}/*",), "host/web2/up", False),
        (("host/{id}/*",), "host/{id}/up", False),
        ((), "any/thing", False),
    ],
)
def test_what_may_be_fired(globs: tuple[str, ...], tag: str, may: bool) -> None:
    """A glob of the list matches, with the minion's own id; an empty list lets nothing pass."""
    rules = MayFire(globs)
    if may:
        rules.check(tag, "web1")
        rules.check(tag, "web1")
    else:
        with pytest.raises(TagError, match="minion_may_fire"):
            rules.check(tag, "web1")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many minions there are."""
    monkeypatch.setattr(mayfire, "_MAX_KNOWN", 3)
    rules = MayFire(("host/{id}/*",))
    for number in range(10):
        rules.check(f"host/m{number}/up", f"m{number}")
    assert len(rules._known) <= 3
