"""How data is shown: Salt's nested form, aligned tables, JSON. Pure, save for what prints."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from bus import jsontext

INDENT = 4
RULE = "-" * 10
"""The line that Salt's nested form puts before the keys of a mapping."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WIDEST = 60


def safe(text: str) -> str:
    r"""Return ``text`` with control characters shown as ``\x1b``.

    Tags and data come from other hosts; what they contain must not steer a terminal.
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def nested(value: Any, indent: int = 0) -> list[str]:
    r"""Return the lines of a value in Salt's nested form.

    >>> print("\n".join(nested({"web1": {"free": 3, "disks": ["a", "b"]}})))
    web1:
        ----------
        free:
            3
        disks:
            - a
            - b
    """
    if isinstance(value, Mapping):
        return [line for key, item in value.items() for line in _entry(key, item, indent)]
    if isinstance(value, list | tuple):
        return [line for item in value for line in _item(item, indent)]
    return [" " * indent + line for line in scalar(value).split("\n")]


def _entry(key: Any, value: Any, indent: int) -> list[str]:
    head = [f"{' ' * indent}{scalar(key)}:"]
    inner = indent + INDENT
    if isinstance(value, Mapping) and value:
        head.append(" " * inner + RULE)
    return head + nested(value, inner)


def _item(value: Any, indent: int) -> list[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        rule = [f"{' ' * indent}- {RULE}"] if isinstance(value, Mapping) else [" " * indent + "-"]
        return rule + nested(value, indent + 2)
    first, *more = scalar(value).split("\n")
    return [f"{' ' * indent}- {first}", *(f"{' ' * indent}  {line}" for line in more)]


def scalar(value: Any) -> str:
    """Return one value as text: ``True``, ``None``, numbers and text as they are."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return safe(value.rstrip("\n") if isinstance(value, str) else str(value))


def compact(value: Any, widest: int = 0) -> str:
    """Return a value as JSON on one line, cut to ``widest`` characters if that is not 0."""
    text = safe(jsontext.shown(value, default=_plain, ensure_ascii=False, cuts=True))
    return text if not widest or len(text) <= widest else text[: widest - 1] + "…"


def as_json(value: Any, *, pretty: bool = False) -> str:
    """Return a value as JSON; what JSON has no form for becomes text."""
    if pretty:
        return jsontext.shown(value, default=_plain, sort_keys=True, indent=4, cuts=True)
    return jsontext.shown(value, default=_plain, cuts=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table with aligned columns; the last one may be of any width."""
    cells = [[safe(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    widths = [
        min(max([len(title), *(len(row[at]) for row in cells)]), _WIDEST)
        for at, title in enumerate(head)
    ]
    lines = [list(head), *cells]
    return [_aligned(line, widths) for line in lines]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def in_colour() -> bool:
    """Say whether standard output is a terminal whose user has not set ``NO_COLOR``."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def show(lines: Iterable[str], *, title: bool = False) -> None:
    """Print lines; with ``title`` the first one is bold on a terminal."""
    for place, line in enumerate(lines):
        click.secho(line, bold=True) if title and place == 0 else click.echo(line)


def failure(data: Mapping[str, Any]) -> str:
    """Return in words that a job failed, by its return's data; nothing if it did not.

    >>> failure({"return": "broken", "retcode": 3, "success": False})
    'failed (retcode 3)'
    """
    retcode = data.get("retcode")
    if not retcode and data.get("success", True):
        return ""
    return f"failed (retcode {safe(str(retcode))})" if retcode else "failed"


def show_return(name: str, value: Any, failed: str = "") -> None:
    """Print what ``name`` returned, in Salt's nested form, its name in colour on a terminal.

    Args:
        name: whose return it is.
        value: what was returned.
        failed: in what words it failed, as `failure` has them; in red on a terminal.
    """
    first, *rest = nested({name: value})
    click.secho(first, fg="cyan")
    show(rest)
    if failed:
        click.secho(" " * INDENT + failed, fg="red")
