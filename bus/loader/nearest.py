"""What a person may have meant by a name that is not there. Pure functions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_SHOWN = 3
_LISTING = "sys.list_functions"


def describe(name: str, known: Iterable[str]) -> str:
    """Return the one line that says that there is no function ``name``, and the nearest ones."""
    if "." not in name:
        return f"{name[:80]!r} is no function name: write module.function, such as test.ping"
    known = set(known)
    close = difflib.get_close_matches(name[:80], known, n=_MAX_SHOWN, cutoff=0.5)
    if close:
        return f"no function {name[:80]!r}: did you mean {' or '.join(close)}?"
    if _LISTING in known:
        hint = f"{_LISTING} shows them all"
    else:
        hint = "there are " + ", ".join(sorted({each.partition(".")[0] + ".*" for each in known}))
    return f"no function {name[:80]!r}: {hint}"
