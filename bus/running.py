"""Running a runner or wheel function with the events that announce it."""

from __future__ import annotations

import contextvars
import getpass
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bus import cliargs
from bus.errors import BusError, DataError
from bus.loader import Functions, call, function_name
from bus.tags import tagify

log = logging.getLogger(__name__)

_ASKER: contextvars.ContextVar[str] = contextvars.ContextVar("asker")

Emit = Callable[[str, dict[str, Any]], None]
"""Fires an event of the function's: ``emit(tag, data)``."""

_PREFIX = {"runner": "run", "wheel": "wheel", "caller": ""}
"""What stands in the tag: ``salt/run/<jid>/new``, ``salt/wheel/<jid>/ret``. A minion that calls
its own functions says nothing, as in Salt."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a function returned.

    Attributes:
        value: its return value, or the text of its error.
        success: whether it ended without an error.
        error: the error, if it is to be raised by whoever asked.
    """

    value: Any
    success: bool
    error: Exception | None = None


def current_user() -> str:
    """Return the name of the user that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def asker() -> str:
    """Return for whom the function runs that calls this, or whom this process runs as."""
    return _ASKER.get("") or current_user()


def run_function(
    kind: str,
    functions: Functions,
    fun: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    jid: str,
    user: str,
    emit: Emit,
) -> Outcome:
    """Run a function and fire ``salt/<run|wheel>/<jid>/new`` before and ``/ret`` after it.

    Args:
        kind: ``"runner"``, ``"wheel"``, or ``"caller"``, which fires no events.
        functions: where the function is found.
        fun: its name, such as ``event.send``.
        args: positional arguments.
        kwargs: keyword arguments.
        jid: the id that both events carry.
        user: who asked; ``Reactor`` if a reaction did.
        emit: fires the events.
    """
    kwargs = dict(kwargs or {})
    common = {
        "jid": jid,
        "fun": f"{kind}.{function_name(fun)}",
        "fun_args": cliargs.condense(list(args), kwargs),
        "user": user,
    }
    if not _PREFIX[kind]:
        return _run_for(user, functions, fun, args, kwargs)
    _emit(emit, tagify([jid, "new"], _PREFIX[kind]), common)
    outcome = _run_for(user, functions, fun, args, kwargs)
    result = {"return": outcome.value, "success": outcome.success}
    _emit(emit, tagify([jid, "ret"], _PREFIX[kind]), {**common, **result})
    return outcome


def _run_for(
    user: str, functions: Functions, fun: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Outcome:
    token = _ASKER.set(user)
    try:
        return _run(functions, fun, args, kwargs)
    finally:
        _ASKER.reset(token)


def _run(functions: Functions, fun: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outcome:
    try:
        return Outcome(call(functions, fun, args, kwargs), success=True)
    except BusError as error:
        return Outcome(str(error), success=False, error=error)
    except Exception as error:  # the boundary of a user's function: its error is its return
        text = "".join(traceback.format_exception(error))
        return Outcome(f"Exception occurred in {fun}: {text}", success=False, error=error)


def _emit(emit: Emit, tag: str, data: dict[str, Any]) -> None:
    """Fire, but let the function's work stand even if its event cannot be carried."""
    try:
        emit(tag, data)
    except DataError as error:
        log.warning("the event %s carries not all of its data: %s", tag, error)
        _emit_bare(emit, tag, data, f"not carried: {error}")
    except BusError as error:
        log.warning("the event %s was not fired: %s", tag, error)


def _emit_bare(emit: Emit, tag: str, data: dict[str, Any], reason: str) -> None:
    """Fire without the return value; where the arguments are what cannot be carried, without both.

    Where there is no return value yet, as in ``new``, it must be the arguments.
    """
    bare = {**data, "return": reason} if "return" in data else data
    for attempt in (bare, {**bare, "fun_args": [reason]}):
        try:
            emit(tag, attempt)
        except BusError:
            continue
        return
    log.warning("the event %s was not fired", tag)
