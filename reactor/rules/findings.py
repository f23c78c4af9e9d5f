"""What `reactor check` finds beyond what keeps a rule from being loaded. Pure, over given texts."""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bus.loader import nearest
from bus.yamlfile import Lines, YamlError, load
from reactor.errors import path_text
from reactor.rules.converting import oddities
from reactor.rules.model import Rule
from reactor.rules.templates import Uses

Severity = Literal["error", "warning"]
Signatures = Mapping[str, Callable[..., Any]]

_CALL = re.compile(
    r"^\s*(?:[\w.'\"{}$\[\] -]+:\s*)?(local|cmd|runner|wheel|caller)\.([A-Za-z_][\w.]*)",
    re.MULTILINE,
)
_RETURNER = re.compile(r"^\s*-\s+(ret):", re.MULTILINE)
_OLD = re.compile(r"^\s*(?:-\s*)?(cmd\.[\w.]+|expr_form|arg|kwarg):", re.MULTILINE)
_QUOTED = re.compile(r"'([^']{1,80})'")
_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
FUNCTION_KINDS = ("local", "runner", "wheel", "caller")
"""The kinds of call that run a function."""

_PATTERN_KEYS = ("on", "all_of", "any_of", "none_of")
_BLOCKS = ("do", "else", "on_failure")
_RANGE = re.compile(r"\[!?(?:[^\]-]*)([^\]])-([^\]])")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or probably is.

    Attributes:
        file: the file.
        line: the line, counted from 1, or 0 where only the file is known.
        column: the column, counted from 1, or 0.
        severity: an ``error`` keeps a rule from working; a ``warning`` may be meant.
        message: what it is, and what to do.
        kept: whether the last good version of the file is in force.
    """

    file: str
    line: int
    column: int
    severity: Severity
    message: str
    kept: bool = False

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}" + (f":{self.column}" if self.column else "")
        kept = " (the last good version stays in force)" if self.kept else ""
        return f"{place}: {self.severity}: {self.message}{kept}"


def column_of(text: str, line: int, message: str) -> int:
    """Return the column that a message is about: that of what it quotes, else where text begins."""
    lines = text.splitlines()
    if not 1 <= line <= len(lines):
        return 0
    here = lines[line - 1]
    for quoted in _QUOTED.findall(message):
        at = here.find(quoted)
        if at >= 0:
            return at + 1
    return len(here) - len(here.lstrip(" -")) + 1


# -- functions ----------------------------------------------------------------------------------


class Functions:
    """The functions that calls may name, by the kind of call.

    Args:
        known: for each kind that runs here, functions by name.
        misplaced: for each kind that does not run here, why not, and what to do.
        on_minions: the signatures of functions that only minions have, for ``local``.
    """

    def __init__(
        self,
        known: Mapping[str, Signatures],
        misplaced: Mapping[str, str] | None = None,
        on_minions: Mapping[str, inspect.Signature] | None = None,
    ) -> None:
        self._known = known
        self._misplaced = misplaced or {}
        self._on_minions = on_minions or {}

    def problem(
        self, kind: str, name: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
    ) -> tuple[Severity, str] | None:
        """Return what is wrong with a call, or None.

        Args:
            kind: the kind of call.
            name: the function.
            args: its positional arguments; None if they are not known before there is an event.
            kwargs: the same for those by name.
        """
        if kind in self._misplaced:
            return "error", self._misplaced[kind]
        known = self._known.get(kind)
        if known is None:
            return None
        if kind == "local" and name in self._on_minions:
            return _unfit(name, self._on_minions[name], args, kwargs)
        try:
            function = known[name]
        except Exception as error:  # a module of the user's own may fail in whatever way
            return self._unknown(kind, name, known, str(error))
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return None
        return _unfit(name, signature, args, kwargs)

    def template_problem(self, name: str) -> str:
        """Return why a template cannot call a function as ``salt[name]``, or an empty text."""
        here = self._known.get("local") or self._known.get("caller") or {}
        try:
            here[name]
        except Exception as error:  # a module of the user's own may fail in whatever way
            return str(error)
        return ""

    def is_misplaced(self, kind: str) -> bool:
        """Say whether calls of this kind do not run here."""
        return kind in self._misplaced

    def _unknown(
        self, kind: str, name: str, known: Signatures, problem: str
    ) -> tuple[Severity, str]:
        modules = getattr(known, "modules", lambda: {n.partition(".")[0] for n in known})()
        module = name.partition(".")[0]
        siblings = [each for each in self._on_minions if each.startswith(f"{module}.")]
        if kind == "local" and siblings:
            return "warning", nearest.describe(name, siblings)
        if kind == "local" and module not in modules:
            return "warning", f"{problem} (on the master: the minions may have it)"
        return "error", problem


def _unfit(
    name: str,
    signature: inspect.Signature,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
) -> tuple[Severity, str] | None:
    complete = args is not None and kwargs is not None
    bind = signature.bind if complete else signature.bind_partial
    try:
        bind(*(args or ()), **(kwargs or {}))
    except TypeError as error:
        return "error", f"{name}: {error}: it takes {_shown(signature)}"
    return None


def _shown(signature: inspect.Signature) -> str:
    names = [
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}=..."
        for parameter in signature.parameters.values()
    ]
    return f"({', '.join(names)})"


# -- native files -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Action:
    """An action as it is written."""

    rule: str
    path: tuple[Any, ...]
    value: Mapping[str, Any]


def _actions(value: Any) -> Iterator[_Action]:
    if not isinstance(value, dict):
        return
    for rule, body in value.items():
        if isinstance(body, dict):
            for block in _BLOCKS:
                yield from _below(str(rule), (rule, block), body.get(block))


def _below(rule: str, path: tuple[Any, ...], listed: Any) -> Iterator[_Action]:
    if not isinstance(listed, list):
        return
    for number, action in enumerate(listed):
        if isinstance(action, dict):
            yield _Action(rule, (*path, number), action)
            at, rescue = (*path, number, "on_failure"), action.get("on_failure")
            if isinstance(rescue, dict):
                at, rescue = (*at, "do"), rescue.get("do")
            yield from _below(rule, at, rescue)


def native_findings(
    text: str, file: str, functions: Functions, recipients: Collection[str] | None = None
) -> list[Finding]:
    """Return what is odd about a native file that can be loaded.

    Args:
        text: the file.
        file: its path.
        functions: those that its actions may name.
        recipients: whom ``notify`` may name; None if that is not known.
    """
    try:
        value, lines = load(text, file)
    except YamlError:
        return []  # it has been said why
    found = [
        finding
        for action in _actions(value)
        for finding in _call_findings(action, text, file, lines, functions)
    ]
    if recipients is not None:
        for action in _actions(value):
            found += _notify_findings(action, text, file, lines, recipients)
    return found + list(_pattern_findings(value, text, file, lines))


def _call_findings(
    action: _Action, text: str, file: str, lines: Lines, functions: Functions
) -> Iterator[Finding]:
    for kind in FUNCTION_KINDS:
        name = action.value.get(kind)
        if not isinstance(name, str):
            continue
        args, kwargs = action.value.get("args", []), action.value.get("kwargs", {})
        problem = functions.problem(
            kind,
            name,
            args if isinstance(args, list) else None,
            kwargs if isinstance(kwargs, dict) else None,
        )
        if problem:
            severity, message = problem
            misplaced = functions.is_misplaced(kind)
            line = lines.at((*action.path, kind))
            where = path_text((*action.path, kind))
            column = column_of(text, line, f"'{kind}'" if misplaced else f"'{name}'")
            yield Finding(file, line, column, severity, f"{where}: {message}")


def _notify_findings(
    action: _Action, text: str, file: str, lines: Lines, recipients: Collection[str]
) -> Iterator[Finding]:
    name = action.value.get("notify")
    if isinstance(name, str) and name not in recipients:
        known = ", ".join(sorted(recipients)) or "none"
        path = (*action.path, "notify")
        line = lines.at(path)
        message = f"{path_text(path)}: unknown {name!r}: the option reactor_notify has {known}"
        yield Finding(file, line, column_of(text, line, f"'{name}'"), "error", message)


def _pattern_findings(value: Any, text: str, file: str, lines: Lines) -> Iterator[Finding]:
    if not isinstance(value, dict):
        return
    for rule, body in value.items():
        if not isinstance(body, dict) or body.get("match", "fnmatch") != "fnmatch":
            continue
        for path, pattern in _patterns_of(rule, body):
            why = cannot_match(pattern)
            if why:
                message = f"{path_text(path)}: {pattern!r} matches no tag: {why}"
                line = lines.at(path)
                yield Finding(file, line, column_of(text, line, message), "error", message)


def _patterns_of(rule: Any, body: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield each glob of a rule with its path."""
    todo: list[tuple[tuple[Any, ...], Any]] = [
        ((rule, key), body[key]) for key in _PATTERN_KEYS if key in body
    ]
    while todo:
        path, given = todo.pop(0)
        if isinstance(given, str):
            yield path, given
        elif isinstance(given, list):
            todo += [((*path, number), item) for number, item in enumerate(given)]
        elif isinstance(given, dict) and "on" in given:
            todo.append(((*path, "on"), given["on"]))


def cannot_match(pattern: str) -> str:
    """Return why no tag can match a glob, or an empty text."""
    if not pattern.isprintable():
        return "a tag has no control characters"
    if pattern.strip() != pattern:
        return "it begins or ends with a blank"
    if any(low > high for low, high in _RANGE.findall(pattern)):
        return "a range in it runs backwards"
    return ""


# -- Salt's files -------------------------------------------------------------------------------


def salt_findings(
    text: str, file: str, functions: Functions, uses: Uses | None = None
) -> list[Finding]:
    """Return what is odd about a reactor file, as far as it can be seen without an event.

    Args:
        text: the file.
        file: its path.
        functions: those that its reactions may name.
        uses: what its template expects to be there.
    """
    found = []
    for match in _CALL.finditer(text):
        kind = "local" if match[1] == "cmd" else match[1]
        problem = functions.problem(kind, match[2].rstrip("."), None, None)
        if problem:
            found.append(_at(text, file, match.start(1), problem[0], problem[1]))
    why = "'ret' starts nothing: there are no returners; a rule on 'salt/job/*/ret/*' sees returns"
    found += [_at(text, file, ret.start(1), "warning", why) for ret in _RETURNER.finditer(text)]
    for odd in oddities(text, file):
        found.append(_on_line(text, file, odd.line, "warning", odd.problem))
    for message, line in _missing(uses, functions) if uses else ():
        found.append(_on_line(text, file, line, "error", message))
    old = _OLD.search(text)
    if old:
        message = (
            f"{old[1]} is of Salt's old form, and works: 'reactor convert' writes the native one"
        )
        found.append(_at(text, file, old.start(1), "warning", message))
    return found


def _missing(uses: Uses, functions: Functions) -> Iterator[tuple[str, int]]:
    """Yield what a template expects and does not find, with its line."""
    for name, line in uses.unknown:
        yield f"nothing gives {name!r} a value: a file sees data, payload, salt and tag", line
    for name, line in uses.functions:
        problem = functions.template_problem(name)
        if problem:
            yield problem, line


def _on_line(text: str, file: str, line: int, severity: Severity, message: str) -> Finding:
    return Finding(file, line, column_of(text, line, message), severity, message)


def _at(text: str, file: str, place: int, severity: Severity, message: str) -> Finding:
    line = text.count("\n", 0, place) + 1
    return Finding(file, line, place - text.rfind("\n", 0, place), severity, message)


# -- loops --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fires:
    """That a rule fires an event.

    Attributes:
        rule: the rule.
        tag: the tag, with ``*`` where a value stands in it.
        line: where.
    """

    rule: Rule
    tag: str
    line: int


def fires_of(text: str, file: str, rules: Iterable[Rule]) -> list[Fires]:
    """Return which events the native rules of a file fire."""
    try:
        value, lines = load(text, file)
    except YamlError:
        return []
    by_name = {rule.name: rule for rule in rules if rule.source.path == file}
    return [
        Fires(
            by_name[action.rule],
            _TEMPLATE.sub("*", action.value["event"]),
            lines.at((*action.path, "event")),
        )
        for action in _actions(value)
        if action.rule in by_name and isinstance(action.value.get("event"), str)
    ]


def loop_findings(fires: Sequence[Fires]) -> list[Finding]:
    """Return the rings in which rules feed each other, each once."""
    edges: dict[int, list[tuple[Fires, Rule]]] = {}
    rules = {id(one.rule): one.rule for one in fires}
    for one in fires:
        for rule in rules.values():
            if _feeds(one.tag, rule):
                edges.setdefault(id(one.rule), []).append((one, rule))
    found: dict[frozenset[int], Finding] = {}
    for start in rules.values():
        ring = _ring(start, edges)
        if ring and frozenset(id(one.rule) for one in ring) not in found:
            found[frozenset(id(one.rule) for one in ring)] = _loop(ring)
    return list(found.values())


def _feeds(tag: str, rule: Rule) -> bool:
    if tag.strip("*/") == "":
        return False  # a tag that is all values can be anything
    return any(fnmatch.fnmatchcase(tag, pattern) for pattern in rule.patterns)


def _ring(start: Rule, edges: Mapping[int, list[tuple[Fires, Rule]]]) -> list[Fires] | None:
    """Return the shortest way from a rule back to itself, or None."""
    ways: list[list[Fires]] = [[one] for one, _ in edges.get(id(start), [])]
    ends = [rule for _, rule in edges.get(id(start), [])]
    seen: set[int] = set()
    for way, end in zip(ways, ends, strict=False):
        if end is start:
            return way
        if id(end) in seen:
            continue
        seen.add(id(end))
        for one, rule in edges.get(id(end), []):
            ways.append([*way, one])
            ends.append(rule)
    return None


def _loop(ring: Sequence[Fires]) -> Finding:
    first = ring[0]
    names = " → ".join([*(one.rule.name for one in ring), first.rule.name])
    guarded = any(getattr(one.rule, "conditions", ()) for one in ring) or any(
        getattr(one.rule, "policies", ()) for one in ring
    )
    ends = "; its conditions may end it" if guarded else ": it never ends by itself"
    message = f"a loop: {names}: {first.rule.name} fires {first.tag!r}{ends}"
    severity: Severity = "warning" if guarded else "error"
    return Finding(first.rule.source.path, first.line, 0, severity, message)
