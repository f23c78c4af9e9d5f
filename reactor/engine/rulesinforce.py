"""The rules in force: swapped between events, switched, announced, and told to who asks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from reactor.engine.engine import Engine
from reactor.engine.firing import rule_key
from reactor.engine.pool import Mailbox
from reactor.engine.reload import Reloader
from reactor.engine.sources import ConfiguredRules
from reactor.engine.statistics import describe_rules
from reactor.engine.switchboard import Switchboard
from reactor.errors import ReactorError
from reactor.rules.lastgood import kept
from reactor.rules.snapshot import Problem, Snapshot

log = logging.getLogger(__name__)

_MOST_REMAINING = 20
"""How many problems that were there before the event of a reload repeats."""


class RulesInForce:
    """Watches the rules of the configuration, and puts what changes in force.

    Args:
        rules: those of the configuration.
        switchboard: which of them are switched off.
        engine: acts on them.
        mailbox: takes what comes from the thread that loads to the engine's own.
    """

    def __init__(
        self, rules: ConfiguredRules, switchboard: Switchboard, engine: Engine, mailbox: Mailbox
    ) -> None:
        self._rules = rules
        self._switchboard = switchboard
        self._engine = engine
        self._mailbox = mailbox
        self._reloader = Reloader(rules, switchboard.loaded, self._on_loaded)

    def begin(self) -> None:
        """Say what is in force, and what is wrong with the rest."""
        snapshot = self._engine.snapshot
        self._announce_problems(snapshot, ())
        self._announce_warnings(snapshot, ())
        log.info("the reactor serves %d rules", len(snapshot.rules))

    def watch(self) -> None:
        """Follow changes from now on."""
        self._reloader.start()

    def close(self) -> None:
        """Follow no more."""
        self._reloader.close()

    def status(self) -> dict[str, Any]:
        """Return what ``status`` says of them."""
        snapshot = self._engine.snapshot
        return {
            "rules": len(snapshot.rules),
            "problems": len(snapshot.problems),
            "switched_off": len(snapshot.switched_off),
            "off": [
                f"the rule {rule.name} is {switch.why}"
                for rule, switch in snapshot.switched_off[:_MOST_REMAINING]
            ],
            "paths": list(self._rules.paths),
            "file_roots": self._file_roots(),
        }

    def _on_loaded(self, snapshot: Snapshot, seconds: float) -> None:
        """Have the loop put a new snapshot in force."""
        self._mailbox.put(lambda: self._swap(snapshot, seconds))

    def _swap(self, snapshot: Snapshot, seconds: float) -> None:
        old = self._engine.snapshot
        snapshot = self._switchboard.use(snapshot)
        self._engine.swap(snapshot)
        solved = [problem for problem in old.problems if problem not in snapshot.problems]
        log.info(
            "%d rules in force after a reload of %.3f s%s",
            len(snapshot.rules),
            seconds,
            _standing(len(snapshot.problems), len(solved)),
        )
        remaining = self._announce_problems(snapshot, old.problems)
        self._announce_warnings(snapshot, old.warnings)
        before = {rule_key(rule): rule for rule in old.rules}
        after = {rule_key(rule): rule for rule in snapshot.rules}
        changed = [key for key, rule in after.items() if before.get(key) != rule]
        self._engine.announce(
            "reactor/rules/reloaded",
            {
                "version": snapshot.version,
                "rules": len(snapshot.rules),
                "changed": sorted(after[key].name for key in changed),
                "removed": sorted(before[key].name for key in before.keys() - after.keys()),
                "problems": len(snapshot.problems),
                "remaining": [_shown(problem) for problem in remaining[:_MOST_REMAINING]],
                "solved": len(solved),
                "seconds": round(seconds, 6),
            },
        )

    def _announce_problems(
        self, snapshot: Snapshot, known: tuple[Problem, ...]
    ) -> tuple[Problem, ...]:
        """Log every problem, fire an event for each new one, and return those known before."""
        for problem in snapshot.problems:
            log.error("%s", problem)
            if problem not in known:
                self._engine.announce("reactor/rules/error", _shown(problem))
        return tuple(problem for problem in snapshot.problems if problem in known)

    def _announce_warnings(self, snapshot: Snapshot, known: tuple[Problem, ...]) -> None:
        """Log what is new and probably not meant, once, and fire an event for it."""
        for warning in snapshot.warnings:
            if warning not in known:
                log.warning("%s", warning)
                self._engine.announce("reactor/rules/warning", _shown(warning))

    # -- what can be asked ----------------------------------------------------------------

    def methods(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """Return what can be asked about rules, by method of the reactor's socket."""
        return {
            "rules": lambda _: self._describe(),
            "rules.sources": lambda _: self._sources(),
            "rules.named": self._named,
            "rules.switch": self._switch,
            "reload": lambda _: self._reload(),
            "map.list": lambda _: self._rules.entries,
            "map.add": self._add_entry,
            "map.delete": self._delete_entry,
        }

    def _describe(self) -> dict[str, Any]:
        found = describe_rules(self._engine.snapshot, self._engine.statistics, rule_key)
        return {**found, "switches": [each.describe() for each in self._switchboard.off.values()]}

    def _sources(self) -> dict[str, Any]:
        """Return all that somebody needs to load the very rules that are in force."""
        return {
            "reactor": self._rules.entries,
            "rules": list(self._rules.paths),
            "file_roots": self._file_roots(),
            "kept": kept(self._engine.snapshot.state),
        }

    def _file_roots(self) -> dict[str, list[str]]:
        return {name: list(roots) for name, roots in self._rules.file_roots.items()}

    def _named(self, params: dict[str, Any]) -> list[str]:
        return self._switchboard.named(_texts(params["rules"]), on=bool(params["on"]))

    def _switch(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Switch rules between two events; what has begun ends as it would have."""
        user = str(params.get("user") or "unknown")
        on = bool(params["on"])
        found = self._switchboard.switch(_texts(params["rules"]), user, on=on)
        changed = [each for each in found if each.changed]
        if changed:
            self._engine.swap(self._switchboard.in_force())
        for each in changed:
            log.info("rule %s: switched %s by %s", each.rule, "on" if on else "off", user)
            self._engine.announce(*self._switchboard.event(each, user))
        return [each.describe() for each in found]

    def _add_entry(self, params: dict[str, Any]) -> dict[str, Any]:
        glob, files = str(params["event"]), [str(file) for file in params["reactors"]]
        self._rules.add_entry(glob, files)
        self._reloader.poke()
        return {"status": True, "comment": f"{glob}: added until the reactor is started anew"}

    def _delete_entry(self, params: dict[str, Any]) -> dict[str, Any]:
        glob = str(params["event"])
        known = self._rules.delete_entry(glob)
        self._reloader.poke()
        comment = "deleted until the reactor is started anew" if known else "is not in the map"
        return {"status": known, "comment": f"{glob}: {comment}"}

    def _reload(self) -> bool:
        self._reloader.poke()
        return True


def _texts(values: Any) -> list[str]:
    """Return the names that somebody asks about.

    Raises:
        ReactorError: they are none.
    """
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ReactorError("rules are named by a list of texts")
    return values


def _standing(problems: int, solved: int) -> str:
    """Return the words about problems that end the line on a reload."""
    if problems:
        return f"; problems: {problems}"
    return "; no problems now" if solved else ""


def _shown(problem: Problem) -> dict[str, Any]:
    return {
        "source": str(problem.source),
        "file": problem.source.path,
        "line": problem.source.line,
        "message": problem.message,
        "kept": problem.kept,
    }
