"""What a trace may show of values: no secrets, and no more than a person reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
MAX_TEXT = 500
MAX_ITEMS = 50
MAX_DEPTH = 6

_WORDS = (
    r"pass(?:wd|word|phrase)?|secret|token|credentials?|authorization|cookie|pin|"
    r"api[_-]?key|private[_-]?key|priv|access[_-]?key|signing[_-]?key|session[_-]?id"
)
_SECRET = re.compile(
    rf"(?:^|[^a-z])(?:{_WORDS})s?(?:[^a-z]|$)|password|passwd|secret", re.IGNORECASE
)
_IN_TEXT = re.compile(
    rf"((?:{_WORDS})[\"']?\s*(?:=(?!=)|:)\s*)(?!data\.|payload\.|event\.|vars\.)"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;&}\]]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[\w.+/=~-]{6,}", re.IGNORECASE)
_USERINFO = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_WEBHOOK = re.compile(
    r"(https?://(?:hooks\.slack\.com/|(?:\w+\.)?discord(?:app)?\.com/api/webhooks/"
    r"|chat\.googleapis\.com/|[\w-]+\.webhook\.office\.com/|api\.telegram\.org/bot))[^\s\"'<>]+"
)
"""Addresses that let in whoever knows them."""

_TOKEN = re.compile(r"\b(xox[a-z]-|gh[a-z]_|github_pat_|glpat-)[\w-]{8,}")
"""Tokens that their makers gave a beginning to be known by: Slack's, GitHub's, GitLab's."""

_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def is_secret(name: str) -> bool:
    """Say whether what goes by this name is nobody's business.

    >>> is_secret("db_password"), is_secret("monkey")
    (True, False)
    """
    return bool(_SECRET.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)))


def redact(value: Any, depth: int = 0) -> Any:
    """Return a copy of ``value`` for a trace: bounded, and secrets hidden by their names."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return redact_text(value.decode(errors="backslashreplace"))
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        items = [redact(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
        left = len(value) - MAX_ITEMS
        return [*items, f"… and {left} more"] if left > 0 else items
    return redact_text(str(value))


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for number, (key, item) in enumerate(value.items()):
        if number == MAX_ITEMS:
            shown["…"] = f"and {len(value) - MAX_ITEMS} more"
            break
        name = str(key)[:MAX_TEXT]
        shown[name] = HIDDEN if is_secret(name) and item else redact(item, depth + 1)
    return shown


def redact_text(text: str) -> str:
    """Return a text for a trace: what looks like a password in it hidden, and cut to a bound.

    >>> redact_text("login --password=hunter2 now")
    'login --password=*** now'
    """
    cut = text[: MAX_TEXT * 4]
    for pattern, instead in (
        (_PEM, HIDDEN),
        (_BEARER, rf"\1 {HIDDEN}"),
        (_USERINFO, rf"\1{HIDDEN}@"),
        (_WEBHOOK, rf"\1{HIDDEN}"),
        (_TOKEN, rf"\1{HIDDEN}"),
        (_IN_TEXT, rf"\1{HIDDEN}"),
    ):
        cut = pattern.sub(instead, cut)
    return cut if len(cut) <= MAX_TEXT else cut[: MAX_TEXT - 1] + "…"


def hide_literals(expression: str) -> str:
    """Return an expression's text without the texts that a secret is compared with."""
    return _QUOTED.sub(f"'{HIDDEN}'", expression)
