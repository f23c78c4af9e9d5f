"""Where a minion's custom modules and grains are, besides the directories that options name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

KINDS = ("modules", "grains")


def synced_dir(opts: Mapping[str, Any], kind: str) -> Path:
    """Return the directory of files that came from the master.

    Args:
        opts: the minion's options.
        kind: ``modules`` or ``grains``.
    """
    return Path(opts["cachedir"]) / "extmods" / kind


def custom_dirs(opts: Mapping[str, Any], kind: str) -> list[Path]:
    """Return the directories of custom files; of two files of one name the last counts.

    A minion without a master has nobody to fetch from, so the ``file_roots`` of its own count,
    the first of them most, as on a master.

    Args:
        opts: the minion's options.
        kind: ``modules`` or ``grains``.
    """
    found = [synced_dir(opts, kind)]
    if is_masterless(opts):
        found += offered_dirs(opts, kind)
    return found


def is_masterless(opts: Mapping[str, Any]) -> bool:
    """Say whether a minion's functions do without a master, in either of Salt's ways to say it."""
    return opts.get("master_type") == "disable" or opts.get("file_client") == "local"


def offered_dirs(opts: Mapping[str, Any], kind: str) -> list[Path]:
    """Return the directories under ``file_roots`` that minions get custom files from.

    Args:
        opts: options of a master, or of a minion that has none.
        kind: ``modules`` or ``grains``.

    Returns:
        Of two files of one name the last counts, which is the one in the first root.
    """
    roots = (opts.get("file_roots") or {}).get("base") or ()
    return [Path(root) / f"_{kind}" for root in reversed(roots)]


def signature(directories: Iterable[Path]) -> frozenset[tuple[str, int, int]]:
    """Return a value that changes with the files in these directories."""
    found = set()
    for directory in directories:
        for path in directory.rglob("*.py"):
            try:
                about = path.stat()
            except OSError:  # it went meanwhile
                continue
            found.add((str(path), about.st_mtime_ns, about.st_size))
    return frozenset(found)
