"""``exec``: run a program on the master."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from typing import Any

from bus.modules import _process
from reactor.engine.actions import Cancel, Done
from reactor.engine.actions.background import Background
from reactor.engine.firing import Reaction
from reactor.rules.model import Call

DEFAULT_SECONDS = 60.0
"""How long a program may run whose action has no ``timeout``."""

_MAX_OUTPUT = 65_536
_SHELL = "/bin/sh"


class _Program:
    """A program that may be killed, with all that it started, while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._killed = False

    def began(self, pid: int) -> None:
        with self._lock:
            self._pid = pid
            if self._killed:
                self._kill()

    def ended(self) -> None:
        with self._lock:
            self._pid = 0

    @property
    def was_killed(self) -> bool:
        return self._killed

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            self._kill()

    def _kill(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)


class ExecAction:
    """Runs programs, each in a process group of its own that ends as a whole."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._running: set[_Program] = set()

    def start(self, call: Call, reaction: Reaction, done: Done) -> Cancel:
        """Have a thread run the program."""
        program = _Program()
        self._running.add(program)

        def ended(result: Any, error: str | None) -> None:
            self._running.discard(program)
            done(result, error)

        self._background.run(lambda: _run(call, reaction, program), ended)
        return program.kill

    def close(self) -> None:
        """Kill what runs: it is run again, with the same reaction id, by the next engine."""
        for program in self._running:
            program.kill()


def _run(call: Call, reaction: Reaction, program: _Program) -> tuple[Any, str | None]:
    if program.was_killed:
        return None, "ended before it began"
    limit = call.timeout or DEFAULT_SECONDS
    shell = call.options.get("shell", False)
    argv = [_SHELL, "-c", call.function] if shell else [call.function, *map(str, call.args)]
    try:
        outcome = _process.run(
            _process.Command(
                argv,
                stdin=_stdin(call.options.get("stdin")),
                timeout=limit,
                max_output=_MAX_OUTPUT,
                options={"cwd": call.options.get("cwd"), "env": _environment(call, reaction)},
                on_start=program.began,
            )
        )
    finally:
        program.ended()
    result = {"status": outcome.returncode, "stdout": outcome.stdout, "stderr": outcome.stderr}
    if outcome.timed_out:
        return result, f"{call.function}: killed after {limit:g} s"
    if outcome.returncode:
        return result, _failure(call.function, outcome)
    return result, None


def _failure(name: str, outcome: _process.Outcome) -> str:
    code = outcome.returncode
    how = f"ended by signal {-code}" if code < 0 else f"exit status {code}"
    said = outcome.stderr.strip().splitlines()
    return f"{name[:200]}: {how}{f': {said[-1][:300]}' if said else ''}"


def _stdin(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode()


def _environment(call: Call, reaction: Reaction) -> dict[str, str]:
    given = {name: _text(value) for name, value in call.options.get("env", {}).items()}
    return {
        **os.environ,
        "REACTOR_REACTION": reaction.id,
        "REACTOR_RULE": reaction.rule,
        "REACTOR_TAG": reaction.tag,
        **given,
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
