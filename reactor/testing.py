"""Tests of rules, without a bus and without doing anything: for pytest, and for `reactor test`.

A test of a user's own::

    from reactor.testing import RuleTest

    def test_a_failed_service_is_restarted():
        rules = RuleTest("rules/restart.yaml")
        calls = rules.fire("salt/job/1/ret/web1", {"id": "web1", "return": False})
        assert calls == [{"local": "service.restart", "tgt": "web1", "args": ["nginx"]}]
        assert rules.fire("salt/job/1/ret/web1", {"id": "web1", "return": True}) == []
        assert "data.return is true" in rules.reasons["restart_failed"]
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bus import durations, wire
from bus.record import Event
from reactor.errors import ReactorError
from reactor.rules.loading import RuleSet
from reactor.rules.model import Call, Functions
from reactor.rules.rehearsing import Durations, Outcome
from reactor.rules.simulating import Simulation
from reactor.rules.snapshot import Snapshot

START = datetime(2026, 1, 1, tzinfo=UTC)
"""When a simulated clock begins, unless something else is said."""


class RuleTest:
    """Rules on a simulated clock.

    Args:
        paths: rule files or folders; ``*.sls`` are Salt's reactor files.
        on: the tag globs that reactor files react to.
        functions: what templates may call, such as ``{"test.ping": lambda: True}``.
        start: when the clock begins.
        file_roots: where ``salt://`` and includes are looked up.
        results: what actions give, by their ``id`` or their path (``do[0]``), such as
            ``{"check": {"status": 0}}``; with ``error`` in it, the action fails.
        takes: how long actions last, which is what a ``mode`` depends on: one time for all, or a
            mapping as ``results`` is. By default a second; an event, a line of the log and a job
            that nobody waits for take no time.

    Attributes:
        calls: all calls so far, without those that ``mode: restart`` kept from being begun.
        reasons: for each rule that the last event matched without an action, why.
        errors: the same for rules that could not be worked out.
        outcomes: all that `reactor test --json` says of the last event.

    Raises:
        ReactorError: a rule file has a problem.
    """

    def __init__(
        self,
        *paths: str | Path,
        on: str | Iterable[str] = "*",
        functions: Functions | None = None,
        start: datetime = START,
        file_roots: Mapping[str, list[str]] | None = None,
        results: Mapping[str, Any] | None = None,
        takes: str | float | Mapping[str, Any] | None = None,
    ) -> None:
        globs = [on] if isinstance(on, str) else list(on)
        snapshot = load_rules([str(path) for path in paths], globs, file_roots or {})
        if snapshot.problems:
            raise ReactorError("; ".join(str(problem) for problem in snapshot.problems))
        self._start = start
        self._simulation = Simulation(
            snapshot, functions, start.timestamp(), results, Durations.read(takes)
        )
        self._seq = 0
        self.now = start
        self.calls: list[dict[str, Any]] = []
        self.reasons: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.outcomes: list[dict[str, Any]] = []

    def fire(
        self,
        tag: str,
        data: Mapping[str, Any] | None = None,
        *,
        at: str | float | datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Have the rules look at an event; return the calls that they would make.

        Args:
            tag: its tag.
            data: its data.
            at: when: a moment, or how long after the start, such as ``"5m"``; by default now.
        """
        if at is not None:
            self.now = moment(at, self._start)
        self._seq += 1
        values = {wire.STAMP: wire.stamp(self.now), **(data or {})}
        event = Event(tag, values, self._seq, "test")
        return self._note(self._simulation.event(event, self.now.timestamp()))

    def wait(self, time: str | float) -> list[dict[str, Any]]:
        """Let time pass; return the calls that rules would make because of it."""
        self.now += timedelta(seconds=durations.seconds(time))
        return self._note(self._simulation.advance(self.now.timestamp()))

    def finish(self) -> list[dict[str, Any]]:
        """Let all actions end; return the calls that had to wait for that by their ``mode``."""
        return self._note(self._simulation.finish())

    def _note(self, outcomes: list[Outcome]) -> list[dict[str, Any]]:
        self.outcomes = [outcome.describe() for outcome in outcomes]
        self.reasons = {
            one.rule.name: one.reason for one in outcomes if one.reason and one.unbegun is None
        }
        self.errors = {one.rule.name: one.error for one in outcomes if one.error}
        made: list[dict[str, Any]] = []
        for outcome in outcomes:
            for call in outcome.unbegun or ():
                _drop_last(as_written(call), made, self.calls)
            made += [as_written(call) for call in outcome.calls]
        self.calls += made
        return made


def _drop_last(call: dict[str, Any], *lists: list[dict[str, Any]]) -> None:
    """Take the last such call out of the first of the lists that has one."""
    for calls in lists:
        for place in range(len(calls) - 1, -1, -1):
            if calls[place] == call:
                del calls[place]
                return


def load_rules(
    paths: Iterable[str], globs: Iterable[str], file_roots: Mapping[str, list[str]]
) -> Snapshot:
    """Load rule files, and reactor files as if the map named them for these globs."""
    absolute = [str(Path(path).absolute()) for path in paths]
    salt = [path for path in absolute if path.endswith(".sls")]
    rules = RuleSet(
        reactor_map=[{glob: salt} for glob in globs] if salt else [],
        rules=[path for path in absolute if path not in salt],
        file_roots=file_roots,
        conf_dir=str(Path.cwd()),
    )
    return rules.load()


def as_written(call: Call) -> dict[str, Any]:
    """Return a call as a native rule writes it: ``{local: test.ping, tgt: web1}``."""
    made: dict[str, Any] = {call.kind: call.function}
    if call.kind == "local":
        made["tgt"] = call.target
        if call.target_type != "glob":
            made["tgt_type"] = call.target_type
    parts = {"args": list(call.args), "kwargs": dict(call.kwargs), "data": dict(call.data)}
    made |= {name: value for name, value in parts.items() if value}
    return {**made, **call.options}


def moment(at: str | float | datetime, start: datetime) -> datetime:
    """Return a point in time: itself, an ISO 8601 text, or a time after ``start``.

    Raises:
        DurationError: it is none of these.
    """
    if isinstance(at, datetime):
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    if isinstance(at, str) and at[:4].isdecimal() and "-" in at:
        found = datetime.fromisoformat(at)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return start + timedelta(seconds=durations.seconds(at))


def differences(wanted: Mapping[str, Any], call: Mapping[str, Any]) -> list[str]:
    """Return in what a call differs from what is expected; keys that are not named may be any."""
    return list(_differences(wanted, call))


def _differences(wanted: Mapping[str, Any], call: Mapping[str, Any]) -> Iterator[str]:
    for key, value in wanted.items():
        if key not in call:
            yield f"{key} is missing, not {value!r}"
        elif call[key] != value:
            yield f"{key} is {call[key]!r}, not {value!r}"


def quiet() -> None:
    """Keep the warnings of rule files out of the output: problems are printed by whoever asks."""
    logging.getLogger("reactor").setLevel(logging.CRITICAL)
