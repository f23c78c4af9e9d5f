"""What a running engine can be asked about events of before, and to do about them once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bus.journal import JournalReader
from bus.record import Event
from reactor.engine.deadletters import DeadLetters, Letter
from reactor.engine.engine import Engine
from reactor.engine.firing import REPEAT, rule_key
from reactor.engine.state import Unfinished
from reactor.engine.traces import Traces
from reactor.engine.tracestore import TraceStore
from reactor.errors import ReactorError
from reactor.rules.deciding import Outcome
from reactor.rules.model import Rule
from reactor.rules.replaying import Replaying

Methods = dict[str, Callable[[dict[str, Any]], Any]]

MAX_TRACES = 1_000
"""Traces in one answer."""

MAX_REPLAYED = 500
"""Events of the journal that one call replays."""

MAX_REPLAYS = 10
"""Replays under way: one that nobody ended gives way to a newer one."""

_WRITE_EVERY = 2.0
_RULES_AT_ONCE = 100


class Service:
    """The methods, over one engine. In the loop's thread.

    Args:
        engine: the engine.
        dead: its dead letters.
        journal: the folder of the journal.
    """

    def __init__(self, engine: Engine, dead: DeadLetters, journal: Path) -> None:
        self._engine = engine
        self._dead = dead
        self._journal = journal
        self._replays: dict[str, Replaying] = {}

    def methods(self) -> Methods:
        """Return what can be called."""
        return {
            "traces": self._traces,
            "dead.list": self._list_dead,
            "dead.retry": self._retry,
            "dead.drop": self._drop,
            "replay": self._replay,
        }

    def _traces(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        seq = params.get("seq")
        return self._engine.traces.find(
            rule=str(params.get("rule", "")),
            reaction=str(params.get("reaction", "")),
            seq=seq if isinstance(seq, int) else None,
            failed=bool(params.get("failed")),
            fired=bool(params.get("fired")),
            limit=min(int(params.get("limit", 100)), MAX_TRACES),
        )

    # -- dead letters ---------------------------------------------------------------------

    def _list_dead(self, params: dict[str, Any]) -> dict[str, Any]:
        found = self._dead.find(*_wanted(params), limit=int(params.get("limit", 100)))
        return {
            "letters": [letter.describe() for letter in found],
            "kept": len(self._dead),
            "dropped": self._dead.dropped,
        }

    def _retry(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Begin letters again, as many as the engine takes now; the caller asks for the rest."""
        rules = {rule_key(rule): rule for rule in self._engine.snapshot.rules}
        return [
            {"id": letter.id, "rule": letter.rule, "problem": self._retry_one(letter, rules)}
            for letter in self._dead.find(*_wanted(params), limit=MAX_REPLAYED)
        ]

    def _retry_one(self, letter: Letter, rules: Mapping[str, Rule]) -> str:
        rule = rules.get(letter.key.partition(REPEAT)[0])
        if letter.event is None:
            return f"its event {letter.seq} was gone from the journal: drop it"
        if rule is None:
            for off, switch in self._engine.snapshot.switched_off:
                if rule_key(off) == letter.key.partition(REPEAT)[0]:
                    return f"its rule was {switch.why}: reactor rules enable {letter.rule}"
            return f"its rule is not in force ({letter.source}): 'reactor rules' shows which are"
        if not self._engine.can_read:
            return "too many reactions are under way: try again later"
        event = Event.from_wire(letter.event, letter.seq, letter.bus_id)
        try:
            left = Unfinished(
                letter.seq, letter.key, letter.done, dict(letter.replies), dict(letter.window)
            )
            begun = self._engine.again(rule, event, left)
        except ReactorError as error:
            return str(error)
        return "" if begun else "its rule does nothing about the event now: see 'reactor why'"

    def _drop(self, params: dict[str, Any]) -> int:
        ids, rule = _wanted(params)
        if not (ids or rule or params.get("all")):
            raise ReactorError("name the dead letters to drop, or their rule, or say all")
        return self._dead.drop(ids, rule)

    # -- replay ---------------------------------------------------------------------------

    def _replay(self, params: dict[str, Any]) -> dict[str, Any]:
        """Have the present rules react to events of the journal, under ids of their own.

        The engine takes events only while it has room; ``taken`` says how many it took.

        With ``policies`` the events of one ``run`` belong together, and come in the order of their
        numbers: ``policies`` is ``begin`` in the first call and ``go on`` later. ``until``, in
        seconds since 1970, ends it.
        """
        wanted, rule, run = params["seqs"], str(params.get("rule", "")), str(params["run"])
        replaying = self._replaying_of(run, rule, params.get("policies"))
        taken, begun, matched = 0, 0, 0
        with JournalReader(self._journal) as journal:
            for seq in wanted[:MAX_REPLAYED]:
                if not self._engine.can_read:
                    break
                taken += 1
                rows = journal.read(seq - 1, 1, seq)
                if rows:
                    event = Event.from_wire(rows[0][1], seq, journal.bus_id)
                    if replaying is None:
                        one, fired = self._replay_one(event, rule, run)
                    else:
                        one, fired = self._begin(replaying.event(event), run)
                    matched, begun = matched + one, begun + fired
        if replaying is not None and "until" in params:
            _, fired = self._begin(replaying.end(float(params["until"])), run)
            del self._replays[run]
            begun += fired
        return {"taken": taken, "matched": matched, "begun": begun}

    def _replaying_of(self, run: str, rule: str, how: Any) -> Replaying | None:
        if not how:
            return None
        if how == "begin":
            while len(self._replays) >= MAX_REPLAYS:
                del self._replays[next(iter(self._replays))]
            self._replays[run] = self._engine.replaying(lambda each: not rule or each.name == rule)
        if run not in self._replays:
            raise ReactorError(
                "the reactor was started anew during the replay, and what the rules had counted is "
                "gone: what has begun goes on; replay the rest with --since"
            )
        return self._replays[run]

    def _begin(self, outcomes: Iterable[Outcome], run: str) -> tuple[int, int]:
        """Begin what acts; return how many rules looked, and how many act."""
        matched = begun = 0
        for outcome in outcomes:
            matched += 1
            if outcome.acts or outcome.error:
                outcome.key = _key_of_replay(outcome.key, run)
                window = outcome.window
                left = Unfinished(outcome.event.seq, outcome.key, frozenset(), window)
                begun += self._engine.begin(outcome, left)
        return matched, begun

    def _replay_one(self, event: Event, name: str, run: str) -> tuple[int, int]:
        matched = begun = 0
        for rule in self._engine.snapshot.match(event.tag):
            if name and rule.name != name:
                continue
            matched += 1
            key = _key_of_replay(rule_key(rule), run)
            begun += self._engine.again(rule, event, Unfinished(event.seq, key, frozenset()))
        return matched, begun


def _key_of_replay(key: str, run: str) -> str:
    """Return a key of its own: nothing finished is in its way, and a restart resumes it."""
    return f"{key}{REPEAT}replay-{run}"


def _wanted(params: Mapping[str, Any]) -> tuple[list[str], str]:
    return [str(ident) for ident in params.get("ids", ())], str(params.get("rule", ""))


class Keeper:
    """Writes traces down when there is nothing else to do.

    Args:
        traces: what is kept in memory.
        store: the file.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, traces: Traces, store: TraceStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._traces = traces
        self._store = store
        self._clock = clock
        self._next = clock() + _WRITE_EVERY

    def idle(self) -> None:
        """Write some, if it is time."""
        if self._clock() < self._next:
            return
        if not self._traces.has_changes:
            self._traces.look_again()
            self._next = self._clock() + _WRITE_EVERY
        if self._traces.has_changes:
            self._store.save(self._traces.take_changes(_RULES_AT_ONCE))

    def close(self) -> None:
        """Write the rest."""
        self._traces.look_again()
        while self._traces.has_changes:
            self._store.save(self._traces.take_changes(_RULES_AT_ONCE))
