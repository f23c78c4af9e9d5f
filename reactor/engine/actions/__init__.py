"""What a reaction can do. Each kind of call is one class here, and the registry names them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bus.errors import BusError
from reactor.engine.firing import Reaction
from reactor.rules.model import Call

log = logging.getLogger(__name__)

Done = Callable[[Any, str | None], None]
"""Told a call's result, or its error as one line; in the loop's thread."""


Cancel = Callable[[], None]
"""Ends a call that is under way; what it says afterwards is not heard any more."""


class Action(Protocol):
    """One kind of call."""

    def start(self, call: Call, reaction: Reaction, done: Done) -> Cancel | None:
        """Begin; ``done`` is called when it has ended, perhaps at once. Never waits.

        Returns:
            What ends it early, or None if nothing can.
        """
        ...


class Actions:
    """The registry of actions by kind.

    Args:
        actions: what does each kind of call.
        may_act: asked before each call; one that may not be begun stays under way, for whoever
            took over.
    """

    def __init__(
        self, actions: Mapping[str, Action], may_act: Callable[[], bool] = lambda: True
    ) -> None:
        self._actions = dict(actions)
        self._may_act = may_act

    def start(self, call: Call, reaction: Reaction, done: Done) -> Cancel | None:
        """Begin a call of any kind that is known."""
        action = self._actions.get(call.kind)
        if action is None:
            done(None, f"'{call.kind}' reactions do not run here: {self._where(call)}")
            return None
        if not self._may_act():
            return None
        try:
            return action.start(call, reaction, done)
        except BusError as error:
            done(None, str(error))
        except Exception as error:  # the boundary of an action: one call must not end the engine
            log.exception("%s %s could not be begun", call.kind, call.function)
            done(None, f"{type(error).__name__}: {error}")
        return None

    def _where(self, call: Call) -> str:
        known = ", ".join(sorted(self._actions))
        return f"{call.source or call.function} may use {known}"
