"""Writes new keys through to the disk beside the loop, which does not wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bus.keys import sync_files


class Syncer:
    """One thread that waits for the disk, made when there is something to wait for."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "sync-keys")

    def sync(self, paths: Sequence[Path]) -> None:
        """Have files written through, after those that were handed over before."""
        if paths:
            self._pool.submit(sync_files, paths)

    def close(self) -> None:
        """Wait for what was handed over."""
        self._pool.shutdown(wait=True)
