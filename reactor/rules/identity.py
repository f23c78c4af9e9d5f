"""The names under which rules and their reactions are remembered."""

from __future__ import annotations

import functools
import hashlib

from reactor.rules.model import Rule

REPEAT = "\x1f"
"""Marks the key of a rule that reacts to the same event once more: it stands in the map twice."""


def rule_key(rule: Rule) -> str:
    """Return the name under which a rule's reactions are remembered.

    A native rule is known by its file and its name. A Salt file may stand in the map under
    several globs, and reacts once for each.
    """
    glob = f"::{rule.patterns[0]}" if rule.style == "salt" else ""
    return f"{rule.source.path}{glob}::{rule.name}"


def name_in_key(key: str) -> str:
    """Return the rule's name that a key ends with."""
    return key.rpartition("::")[2].partition(REPEAT)[0]


def numbered(keys: list[str]) -> list[str]:
    """Return ``keys`` so that they differ, also for a rule that stands in the map twice."""
    if len(set(keys)) == len(keys):
        return keys
    times = [keys[:place].count(key) for place, key in enumerate(keys)]
    return [f"{key}{REPEAT}{n}" if n else key for key, n in zip(keys, times, strict=True)]


def reaction_id(event_id: str, key: str) -> str:
    """Return the id of a rule's reaction to an event: the same whenever it is made."""
    return f"{event_id}-{_short(key)}"


@functools.lru_cache(maxsize=10_000)
def _short(key: str) -> str:
    # Names are unique in one file only, so the key's digest tells rules of one name apart.
    digest = hashlib.blake2s(key.encode(errors="replace"), digest_size=4).hexdigest()
    return f"{name_in_key(key)}-{digest}"
