"""Shows the events of a bus as they come."""

from __future__ import annotations

import fnmatch
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from bus.event import get_event

__opts__: Mapping[str, Any]

_INDENT = 4
_WAIT = 1.0  # seconds between two looks at whether to go on


def event(
    tagmatch: str = "*",
    count: int = -1,
    quiet: bool = False,
    sock_dir: str | None = None,
    pretty: bool = False,
    node: str = "master",
) -> None:
    """Print the events of a bus, a line each: tag, tab, data in JSON. Ctrl-C ends it.

    CLI example: ``reactor run state.event 'salt/job/*' count=3 pretty=True``

    Args:
        tagmatch: which tags: a glob, or a regular expression for the whole tag.
        count: how many events to wait for; -1 for no end.
        quiet: print nothing; with ``count``, wait until something has happened.
        sock_dir: the directory of the sockets, if not that of the options.
        pretty: sort the keys, one on a line.
        node: ``master`` or ``minion``: whose bus.
    """
    left = int(count)
    matches = _matcher(str(tagmatch))
    try:
        with get_event(node, sock_dir=sock_dir, opts=__opts__, listen=True) as bus:
            while left != 0:
                found = bus.get_event(wait=_WAIT, full=True, auto_reconnect=True)
                if found is None or not matches(found["tag"]):
                    continue
                left -= 1
                if not quiet:
                    _show(found, pretty=pretty)
    except (KeyboardInterrupt, BrokenPipeError):
        return  # the two ways in which a reader says that it has seen enough


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a tag is meant; a glob need not be a regular expression too."""
    by_glob = re.compile(fnmatch.translate(pattern)).match
    try:
        by_expression = re.compile(pattern).fullmatch
    except re.error:
        return lambda tag: by_glob(tag) is not None
    return lambda tag: by_glob(tag) is not None or by_expression(tag) is not None


def _show(found: Mapping[str, Any], *, pretty: bool) -> None:
    """Write one event at once: whoever reads through a pipe waits for it."""
    indent = _INDENT if pretty else None
    text = json.dumps(found["data"], sort_keys=pretty, indent=indent, default=_as_text)
    sys.stdout.write(f"{found['tag']}\t{text}\n")
    sys.stdout.flush()


def _as_text(value: Any) -> str:
    """Bytes are what msgpack carries and JSON does not."""
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
