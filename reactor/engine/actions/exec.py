"""``exec``: run a program on the master."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus.modules import _process
from reactor.engine.actions import Cancel, Done
from reactor.engine.actions.background import Background
from reactor.engine.firing import Reaction
from reactor.engine.guard import Guard, gated
from reactor.errors import ReactorError
from reactor.rules.model import Call

DEFAULT_SECONDS = 60.0
"""How long a program may run whose action has no ``timeout``."""

_MAX_OUTPUT = 65_536
_SHELL = "/bin/sh"
_SIMPLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
"""Names of variables that every shell hands on."""


class _Program:
    """A program that may be killed, with all that it started, while it runs."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._lock = threading.Lock()
        self._pid = 0
        self._killed = False

    def began(self, pid: int) -> None:
        self._guard.began(pid)
        with self._lock:
            self._pid = pid
            if self._killed:
                self._kill()

    def ended(self) -> None:
        with self._lock:
            pid, self._pid = self._pid, 0
        self._guard.ended(pid)

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
    """Runs programs, each in a process group of its own that ends as a whole.

    And with the reactor at the latest, even if that is killed.
    """

    def __init__(self, background: Background) -> None:
        self._background = background
        self._guard = Guard()
        self._running: set[_Program] = set()

    def start(self, call: Call, reaction: Reaction, done: Done) -> Cancel:
        """Have a thread run the program."""
        program = _Program(self._guard)
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
        self._guard.close()


def _run(call: Call, reaction: Reaction, program: _Program) -> tuple[Any, str | None]:
    if program.was_killed:
        return None, "ended before it began"
    limit = call.timeout or DEFAULT_SECONDS
    shell = call.options.get("shell", False)
    argv = [_SHELL, "-c", call.function] if shell else [call.function, *map(str, call.args)]
    folder, environ = call.options.get("cwd"), _environment(call, reaction)
    _check(argv[0], folder, environ)
    odd = [f"{name}={value}" for name, value in environ.items() if not _SIMPLE.fullmatch(name)]
    if odd:
        argv = ["env", *odd, *argv]  # names that the shell of the gate does not hand on
    argv, stdin = gated(argv, _stdin(call.options.get("stdin")))
    try:
        outcome = _process.run(
            _process.Command(
                argv,
                stdin=stdin,
                timeout=limit,
                max_output=_MAX_OUTPUT,
                options={"cwd": folder, "env": environ},
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


def _check(name: str, folder: str | None, environ: Mapping[str, str]) -> None:
    """Say in plain words what the gate's shell could not say as well.

    Raises:
        ReactorError: there is no such program, or nobody may run it.
    """
    if "/" in name:
        found: Path | None = Path(folder or "", name)
    else:
        path = shutil.which(name, path=environ.get("PATH", os.defpath))
        found = Path(path) if path else None
    if found is None or not found.exists():
        raise ReactorError(f"cannot run {name!r}: {os.strerror(errno.ENOENT)}: {name}")
    if not os.access(found, os.X_OK) or found.is_dir():
        raise ReactorError(f"cannot run {name!r}: {os.strerror(errno.EACCES)}: {name}")


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
