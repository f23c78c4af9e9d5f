"""All rules that are in force at one moment; a reload makes another one and swaps them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reactor.rules.loadstate import LoadState
from reactor.rules.matching import Index
from reactor.rules.model import Rule, Source
from reactor.rules.switches import Switch

OWN_TAGS = "reactor/"
"""What the engine's own events begin with; see docs/explanation/architecture.md."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a rule file, or in what names it, that is not in force as it is written.

    Attributes:
        source: where.
        message: what is wrong, in one line, without the place.
        kept: whether the last good version of the file is still in force.
    """

    source: Source
    message: str
    kept: bool = False

    def __str__(self) -> str:
        kept = " (the last good version stays in force)" if self.kept else ""
        return f"{self.source}: {self.message}{kept}"


class Snapshot:
    """The rules in force; immutable, so that any number of threads may use it."""

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        problems: Iterable[Problem] = (),
        version: int = 0,
        state: LoadState | None = None,
        warnings: Iterable[Problem] = (),
    ) -> None:
        """Take ``rules`` in the order of their files; they are put in order of evaluation.

        Args:
            rules: all rules; those that are not enabled are kept apart.
            problems: what could not be taken as it is written.
            version: counts the loads that changed something, from 1.
            state: what the next load need not read again.
            warnings: what is in force as it is written, and probably not as it was meant.
        """
        self._rules, self._disabled = _arrange(rules)
        self._problems = tuple(problems)
        self._warnings = tuple(warnings)
        self._version = version
        self._state = state or LoadState()
        self._switched_off: tuple[tuple[Rule, Switch], ...] = ()
        self._gone: frozenset[int] = frozenset()
        self._own = Index((_patterns(rule, own=True), rule) for rule in self._rules)
        self._others = Index((_patterns(rule, own=False), rule) for rule in self._rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force, in order of evaluation."""
        return self._rules

    @property
    def disabled(self) -> tuple[Rule, ...]:
        """The rules that say ``enabled: false``."""
        return self._disabled

    @property
    def switched_off(self) -> tuple[tuple[Rule, Switch], ...]:
        """The rules that would be in force, but that somebody switched off."""
        return self._switched_off

    @property
    def remembered(self) -> tuple[Rule, ...]:
        """The rules whose counters and traces stay, and whose reactions end if they have begun."""
        return (*self._rules, *(rule for rule, _ in self._switched_off))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be taken as it is written."""
        return self._problems

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is in force as it is written, and probably not as it was meant."""
        return self._warnings

    @property
    def version(self) -> int:
        """The number of this set of rules, from 1; 0 for one that was never loaded."""
        return self._version

    @property
    def state(self) -> LoadState:
        """What the next load need not read again."""
        return self._state

    def holds(
        self, rules: Iterable[Rule], problems: Iterable[Problem], warnings: Iterable[Problem] = ()
    ) -> bool:
        """Say whether these rules are in force, with these problems and warnings."""
        found = (*_arrange(rules), tuple(problems), tuple(warnings))
        return (self._rules, self._disabled, self._problems, self._warnings) == found

    def same_as(self, other: Snapshot) -> bool:
        """Say whether the very same rules are in force, with the same problems and warnings."""
        return self.holds((*other.rules, *other.disabled), other.problems, other.warnings)

    def with_state(self, state: LoadState) -> Snapshot:
        """Return this snapshot after a load that found nothing else."""
        changed = copy.copy(self)
        changed._state = state  # noqa: SLF001 - its own copy
        return changed

    def with_problem(self, problem: Problem) -> Snapshot:
        """Return this snapshot with one more problem."""
        changed = copy.copy(self)
        changed._problems = (*self._problems, problem)  # noqa: SLF001 - its own copy
        return changed

    def switched(self, off: Mapping[str, Switch]) -> Snapshot:
        """Return this snapshot without the rules that are switched off, by their names."""
        gone = tuple((rule, off[rule.name]) for rule in self._rules if rule.name in off)
        if not gone:
            return self
        changed = copy.copy(self)
        changed._rules = tuple(rule for rule in self._rules if rule.name not in off)  # noqa: SLF001 - its own copy
        changed._switched_off = (*self._switched_off, *gone)  # noqa: SLF001 - its own copy
        # The indexes stay: to make them anew for ten thousand rules takes a fifth of a second.
        changed._gone = frozenset(id(rule) for rule, _ in changed._switched_off)  # noqa: SLF001 - its own copy
        return changed

    def match(self, tag: str) -> tuple[Rule, ...]:
        """Return the rules one of whose globs matches ``tag``, in order of evaluation.

        Globs match as `fnmatch.fnmatchcase` has it, with one exception: the engine's own events
        (``reactor/...``) are matched only by globs that begin with ``reactor/`` themselves.
        """
        index = self._own if tag.startswith(OWN_TAGS) else self._others
        found = index.match(tag)
        if not self._gone:
            return found
        return tuple(rule for rule in found if id(rule) not in self._gone)


def _arrange(rules: Iterable[Rule]) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """Return the rules in force, in order of evaluation, and those that are not enabled."""
    ordered = sorted(rules, key=lambda rule: -rule.priority)
    return (
        tuple(rule for rule in ordered if rule.enabled),
        tuple(rule for rule in ordered if not rule.enabled),
    )


def _patterns(rule: Rule, *, own: bool) -> list[str]:
    return [glob for glob in rule.patterns if glob.startswith(OWN_TAGS) is own]
