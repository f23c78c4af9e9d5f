"""``runner`` and ``wheel``: run a function on the master, in a worker thread."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from bus.jid import JidMaker
from bus.loader import Functions
from bus.record import CAUSE
from bus.running import run_function
from reactor.engine.actions import Done
from reactor.engine.firing import Reaction
from reactor.engine.outbox import Outbox
from reactor.engine.pool import Mailbox, WorkerPool
from reactor.rules.model import Call

log = logging.getLogger(__name__)

USER = "Reactor"
"""Who runs runner and wheel reactions, as in Salt; events of this user are not reacted to."""


class FunctionAction:
    """Runs functions of one kind in the pool, with ``salt/run/...`` or ``salt/wheel/...``.

    Args:
        kind: ``runner``, ``wheel`` or ``caller``.
        load: loads the functions.
        files: a value that changes with the files that functions are loaded from; they are
            loaded anew when it does.
        pool: where they run.
        mailbox: what comes of them is told there.
        outbox: takes their events.
        jids: makes their ids.
    """

    def __init__(
        self,
        kind: str,
        load: Callable[[], Functions],
        *,
        pool: WorkerPool,
        mailbox: Mailbox,
        outbox: Outbox,
        jids: JidMaker,
        files: Callable[[], object] = lambda: None,
    ) -> None:
        self._kind = kind
        self._load = load
        self._files = files
        self._functions: Functions | None = None
        self._loaded_from: object = None
        self._pool = pool
        self._mailbox = mailbox
        self._outbox = outbox
        self._jids = jids

    def start(self, call: Call, reaction: Reaction, done: Done) -> None:
        """Put the function into the queue of the pool."""
        functions, jid = self._current(), self._jids.next()
        self._pool.submit(lambda: self._run(functions, call, reaction, jid, done))

    def _current(self) -> Functions:
        files = self._files()
        if self._functions is None or files != self._loaded_from:
            self._functions, self._loaded_from = self._load(), files
        return self._functions

    def _run(
        self, functions: Functions, call: Call, reaction: Reaction, jid: str, done: Done
    ) -> None:
        def emit(tag: str, data: Mapping[str, Any]) -> None:
            event = self._outbox.pack(tag, {**data, CAUSE: reaction.cause()})
            self._mailbox.put(lambda: self._outbox.add(event))

        try:
            outcome = run_function(
                self._kind,
                functions,
                call.function,
                call.args,
                call.kwargs,
                jid=jid,
                user=USER,
                emit=emit,
            )
        except BaseException as fault:  # even sys.exit(): the thread and the reaction go on
            log.exception("%s %s ended in an unexpected way", self._kind, call.function)
            self._mailbox.put(functools.partial(done, None, _one_line(fault, "")))
            return
        error = None if outcome.success else _one_line(outcome.error, outcome.value)
        self._mailbox.put(lambda: done({"jid": jid, "return": outcome.value}, error))


def _one_line(error: BaseException | None, value: Any) -> str:
    text = str(error) or type(error).__name__ if error else str(value)
    return " ".join(text.split())[:1000]
