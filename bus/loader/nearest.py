"""What a person may have meant by a name that is not there. Pure functions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

_MAX_SHOWN = 3
_MAX_LISTED = 12
_LISTING = "sys.list_functions"

_SAME_MODULE, _OTHER_MODULE = 0.5, 0.75
"""How alike a name must be to be proposed; one of another module is mostly no slip of the hand."""

_BEHIND_BEST = 0.15
"""By how much a further proposal may be less alike than the best."""

_NO_STATES = (
    "there are no states here: call what sets the host up with cmd.run, or write a module for it"
)
_NO_ORCHESTRATION = (
    "there is no orchestration here: let the return of one step start the next by a rule"
)
_NO_PILLAR = "there is no pillar here: give values as arguments, or keep them in files or grains"
_NO_MINE = "there is no mine here: ask the minions by a job, or keep values with the runner cache"
_NOTIFY = "the action 'notify' of a native rule sends mail and messages, without a minion"
_NO_CALL = "the master's functions cannot be called from here: make it an action of the rule"

_SALTS_MODULES: Mapping[str, str] = {
    "state": _NO_STATES,
    "pillar": _NO_PILLAR,
    "mine": _NO_MINE,
    **dict.fromkeys(("slack", "slack_notify", "smtp"), _NOTIFY),
}
_SALTS_FUNCTIONS: Mapping[str, str] = {
    "state.orch": _NO_ORCHESTRATION,
    "state.orchestrate": _NO_ORCHESTRATION,
    "state.orchestrate_single": _NO_ORCHESTRATION,
    "saltutil.refresh_pillar": _NO_PILLAR,
    "saltutil.sync_states": _NO_STATES,
    "saltutil.runner": _NO_CALL,
    "saltutil.wheel": _NO_CALL,
}
"""What Salt's users type and what is left out here on purpose: why, and what to do instead."""


def describe(name: str, known: Iterable[str]) -> str:
    """Return the one line that says that there is no function ``name``, and the nearest ones."""
    if "." not in name:
        return f"{name[:80]!r} is no function name: write module.function, such as test.ping"
    name, known = name[:80], set(known)
    return f"no function {name!r}: {_left_out(name, known) or _advice(name, known)}"


def _left_out(name: str, known: set[str]) -> str:
    """Return why a function of Salt's is not there, or an empty text if it is none of those."""
    module = name.partition(".")[0]
    if name not in _SALTS_FUNCTIONS and any(each.startswith(f"{module}.") for each in known):
        return ""  # a module of the user's own has this name
    return _SALTS_FUNCTIONS.get(name, "") or _SALTS_MODULES.get(module, "")


def _advice(name: str, known: set[str]) -> str:
    close = _close(name, known)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if _LISTING in known:
        return f"{_LISTING} shows them all"
    modules = sorted({each.partition(".")[0] for each in known})
    if len(modules) == 1:
        more = ", ..." if len(known) > _MAX_LISTED else ""
        return f"there are {', '.join(sorted(known)[:_MAX_LISTED])}{more}"
    return f"there are {', '.join(f'{module}.*' for module in modules)}"


def _close(name: str, known: set[str]) -> list[str]:
    """Return the names that may have been meant, the nearest first."""
    scores = {each: _likeness(name, each) for each in known}
    best = max(scores.values(), default=0.0)
    near = [each for each, score in scores.items() if score and score >= best - _BEHIND_BEST]
    return sorted(near, key=lambda each: (-scores[each], each))[:_MAX_SHOWN]


def _likeness(name: str, other: str) -> float:
    """Return from 0 to 1 how alike two names are, or 0 if the other one was hardly meant."""
    module, _, function = name.partition(".")
    other_module, _, other_function = other.partition(".")
    if module == other_module:
        score = difflib.SequenceMatcher(None, other_function, function).ratio()
        return score if score >= _SAME_MODULE else 0.0
    score = difflib.SequenceMatcher(None, other, name).ratio()
    return score if score >= _OTHER_MODULE else 0.0
