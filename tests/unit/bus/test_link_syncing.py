"""New keys are written through beside the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus.link import syncing
from bus.link.syncing import Syncer


def test_what_was_handed_over_is_synced_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, before the end."""
    seen: list[list[Path]] = []
    monkeypatch.setattr(syncing, "sync_files", seen.append)
    syncer = Syncer()
    syncer.sync([Path("a"), Path("b")])
    syncer.sync([])
    syncer.sync([Path("c")])
    syncer.close()
    assert seen == [[Path("a"), Path("b")], [Path("c")]]
