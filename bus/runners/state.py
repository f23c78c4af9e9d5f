"""Shows the events of a bus as they come."""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from bus import jsontext
from bus.config import minion_config
from bus.event import get_event
from bus.modules._errors import InvocationError

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
    as_json: bool = False,
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
        as_json: print ``{"tag": ..., "data": ...}`` instead.

    Raises:
        NotRunningError: no bus answers.
    """
    if not isinstance(count, int):
        raise InvocationError(f"count is a number of events, not {count!r}")
    left, matches = count, _matcher(str(tagmatch))
    try:
        with get_event(node, sock_dir, _options_of(node), raise_errors=True) as bus:
            while left != 0:
                found = bus.get_event(wait=_WAIT, full=True, auto_reconnect=True)
                if found is None or not matches(found["tag"]):
                    continue
                left -= 1
                if not quiet:
                    _show(found, pretty=pretty, as_json=as_json)
    except (KeyboardInterrupt, BrokenPipeError):
        return  # the two ways in which a reader says that it has seen enough


def _options_of(node: str) -> Mapping[str, Any]:
    """Return the options of a bus: those of the minion are beside the master's."""
    if node == "master":
        return __opts__
    if node != "minion":
        raise InvocationError(f"node is 'master' or 'minion', not {node!r}")
    return minion_config(str(__opts__["config_dir"]))


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a tag is meant; a glob need not be a regular expression too."""
    by_glob = re.compile(fnmatch.translate(pattern)).match
    try:
        by_expression = re.compile(pattern).fullmatch
    except re.error:
        return lambda tag: by_glob(tag) is not None
    return lambda tag: by_glob(tag) is not None or by_expression(tag) is not None


def _show(found: Mapping[str, Any], *, pretty: bool, as_json: bool) -> None:
    """Write one event at once: whoever reads through a pipe waits for it."""
    indent = _INDENT if pretty else None
    value = found if as_json else found["data"]
    text = jsontext.shown(value, sort_keys=pretty, indent=indent, default=_as_text, cuts=True)
    sys.stdout.write(f"{text}\n" if as_json else f"{found['tag']}\t{text}\n")
    sys.stdout.flush()


def _as_text(value: Any) -> str:
    """Bytes are what msgpack carries and JSON does not."""
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
