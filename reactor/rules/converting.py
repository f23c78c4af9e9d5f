"""Writes the native form of a Salt-style reactor file, where that means the same. Pure.

The file is read as text with Jinja blocks in it: what stands in a block of ``{% if %}`` becomes a
rule with a ``when``; ``{{ }}`` in values stay as they are, since both forms have the same filters.
Whatever cannot be said faithfully is named with its line, and nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError

from bus.yamlfile import Lines, YamlError, load
from reactor.errors import RuleError
from reactor.rules.expressions import Compiler, ExpressionError
from reactor.rules.model import Call
from reactor.rules.reactions import Warn, read_calls
from reactor.rules.templates import Templates

_BLOCK = re.compile(r"\{%-?\s*(.*?)\s*-?%\}|\{#.*?#\}|\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_HOLDER = "XjinjaX{}X"
_HELD = re.compile(r"XjinjaX(\d+)X")
_BLOCK_SCALAR = re.compile(r"[|>][-+\d]*[ \t]*\n[ \t]*\Z")

_ENDS = {
    **{word: f"end{word}" for word in ("for", "macro", "call", "filter", "raw", "set")},
    **dict.fromkeys(("load_yaml", "load_json", "load_text"), "endload"),
}
"""Statements with a text of their own, and what ends it."""

_WRITERS = {
    "json": "",
    "tojson": "",
    "yaml": "",
    "yaml_encode": "",
    "yaml_dquote": " | string",
    "yaml_squote": " | string",
}
"""Filters that write a value as YAML, and what stands for them where nothing is written."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What cannot be converted.

    Attributes:
        line: where, counted from 1.
        problem: what, and what to do about it.
    """

    line: int
    problem: str


@dataclass(slots=True)
class _Branch:
    """Text under the same conditions, each line with its number."""

    conditions: tuple[str, ...]
    lines: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Frame:
    """An ``{% if %}`` that is open: its present condition and those of its branches before."""

    line: int
    now: str
    before: list[str] = field(default_factory=list)

    @property
    def condition(self) -> str:
        earlier = [_negated(text) for text in self.before]
        return " and ".join([*earlier, _grouped(self.now)] if self.now else earlier)


def convert(text: str, file: str, globs: Sequence[str], name: str) -> tuple[str, list[Trouble]]:
    """Return the native file and what could not be converted.

    Args:
        text: the reactor file.
        file: its path, for messages.
        globs: the tags that it reacts to, from the reactor map.
        name: what its rules are called.
    """
    try:
        Templates().references(text, file)
    except RuleError as error:
        return "", [Trouble(error.line, error.problem)]
    except RecursionError:
        return "", [Trouble(1, "the template nests too deeply")]
    one = _Conversion(text, file)
    rules: dict[str, Any] = {}
    branches = [branch for branch in one.branches() if any(t.strip() for _, t in branch.lines)]
    for number, branch in enumerate(branches, 1):
        actions = one.actions(branch)
        if not actions:
            continue
        rule: dict[str, Any] = {"on": globs[0] if len(globs) == 1 else list(globs)}
        if branch.conditions:
            conditions = list(branch.conditions)
            rule["when"] = conditions[0] if len(conditions) == 1 else conditions
        rule["do"] = actions
        base = _NAME.sub("_", name).strip("_.-") or "rule"
        rules[base if len(branches) == 1 else f"{base}_{number}"] = rule
    dumped = yaml.safe_dump(rules, sort_keys=False, allow_unicode=True, width=96) if rules else ""
    dumped = re.sub(r"^  'on':", "  on:", dumped, flags=re.MULTILINE)
    return dumped, sorted(one.troubles, key=lambda trouble: trouble.line)


def oddities(text: str, file: str) -> list[Trouble]:
    """Return what of a reactor file will be read in another way than somebody may expect.

    Each part is looked at by itself, so what is not whole in it is nothing odd.
    """
    found: list[RuleError] = []
    one = _Conversion(text, file)
    for branch in one.branches():
        one.calls(branch, found.append)
    return [Trouble(odd.line, one.shown(f"{odd.path}: {odd.problem}")) for odd in found]


class _Conversion:
    """One file on its way."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._held: list[str] = []
        self._bare: dict[int, str] = {}
        self._aliases: dict[str, str] = {}
        self._strict = Compiler()
        self._lenient = Compiler(lenient=True)
        self.troubles: list[Trouble] = []

    def _trouble(self, line: int, problem: str) -> None:
        self.troubles.append(Trouble(line, " ".join(problem.split())))

    # -- Jinja ----------------------------------------------------------------------------

    def branches(self) -> list[_Branch]:
        """Split the file by its conditions, in order."""
        frames: list[_Frame] = []
        found: list[_Branch] = []
        skipping = ""
        for line, kind, content in self._parts():
            if skipping:
                skipping = "" if kind == "%" and content.split()[:1] == [skipping] else skipping
                continue
            if kind == "%":
                skipping = self._statement(content, line, frames)
                continue
            conditions = tuple(frame.condition for frame in frames if frame.condition)
            if not found or found[-1].conditions != conditions:
                found.append(_Branch(conditions))
            text = content if kind == "t" else self._hold(content, line, is_bare=kind == "{")
            self._append(found[-1], line, text)
        return found

    def _parts(self) -> Iterator[tuple[int, str, str]]:
        """Yield (line, kind, content) of texts (``t``), statements (``%``) and values.

        A value is of the kind ``{`` if YAML reads what it gives, and of the kind ``'`` if that
        stands in quotes or in a block of text.
        """
        end = 0
        for block in _BLOCK.finditer(self._text):
            yield from self._texts(end, block.start())
            line = self._text.count("\n", 0, block.start()) + 1
            if block[1] is not None:
                yield line, "%", block[1]
            elif block[2] is not None:
                before = self._text[: block.start()]
                is_text = before.endswith(("'", '"')) or _BLOCK_SCALAR.search(before)
                yield line, "'" if is_text else "{", block[2]
            end = block.end()
        yield from self._texts(end, len(self._text))

    def _texts(self, start: int, end: int) -> Iterator[tuple[int, str, str]]:
        first = self._text.count("\n", 0, start) + 1
        for number, line in enumerate(self._text[start:end].splitlines(keepends=True)):
            yield first + number, "t", line

    @staticmethod
    def _append(branch: _Branch, line: int, text: str) -> None:
        if branch.lines and branch.lines[-1][0] == line:
            branch.lines[-1] = (line, branch.lines[-1][1] + text)
        else:
            branch.lines.append((line, text))

    def _statement(self, content: str, line: int, frames: list[_Frame]) -> str:
        """Follow a statement; return what ends the block that has to be left out, if it is one."""
        word, _, rest = content.partition(" ")
        if word == "if":
            frames.append(_Frame(line, self._condition(rest, line)))
        elif word == "elif" and frames:
            frames[-1].before.append(frames[-1].now)
            frames[-1].now = self._condition(rest, line)
        elif word == "else" and frames:
            frames[-1].before.append(frames[-1].now)
            frames[-1].now = ""
        elif word == "endif" and frames:
            frames.pop()
        elif word == "set" and "=" in rest:
            self._alias(rest, line)
        else:
            hint = {
                "for": "write one action for each, or 'for_each' where that fits",
                "include": "write what the included file does",
                "import": "write what the macro gives",
                "from": "write what the macro gives",
                "macro": "write what the macro gives",
            }.get(word, "a native rule has no statements")
            self._trouble(line, f"{{% {word} %}} cannot be converted: {hint}")
            return _ENDS.get(word, "")
        return ""

    def _alias(self, rest: str, line: int) -> None:
        name, _, value = rest.partition("=")
        expression = self._resolved(value.strip(), line)
        if expression is not None and name.strip().isidentifier():
            self._aliases[name.strip()] = expression

    def _condition(self, text: str, line: int) -> str:
        expression = self._resolved(text, line)
        if expression is None:
            return "false"
        try:
            self._lenient.expression(expression)
        except ExpressionError as error:
            self._trouble(line, f"the condition {text!r}: {error}")
            return "false"
        return expression

    def _resolved(self, text: str, line: int) -> str | None:
        """Return an expression without the names that ``{% set %}`` gave, or None."""
        try:
            tree = Environment(autoescape=True).parse("{{ " + text + " }}")
            names = {node.name for node in tree.find_all(nodes.Name)}
        except TemplateSyntaxError as error:
            self._trouble(line, f"{text!r}: {error.message}")
            return None
        except RecursionError:
            self._trouble(line, f"{text[:80]!r}... nests too deeply")
            return None
        if "salt" in names:
            self._trouble(line, f"{text!r} calls a function of the master; a native rule cannot")
            return None
        for name in names & self._aliases.keys():
            text = re.sub(rf"(?<![\w.'\"]){name}(?![\w'\"])", _inner(self._aliases[name]), text)
        return text

    def _hold(self, content: str, line: int, *, is_bare: bool) -> str:
        """Put a place holder that YAML leaves alone where a value stood."""
        expression = self._resolved(content, line)
        if expression is not None:
            try:
                self._strict.template("{{ " + expression + " }}")
            except ExpressionError as error:
                self._trouble(line, f"the value {content!r}: {error}")
        self._held.append(expression if expression is not None else content)
        if is_bare and expression is not None:
            self._bare[len(self._held) - 1] = _as_data(expression)
        return _HOLDER.format(len(self._held) - 1)

    # -- YAML -----------------------------------------------------------------------------

    def actions(self, branch: _Branch) -> list[dict[str, Any]]:
        """Return the actions of what stands under the same conditions."""
        calls, lines = self.calls(branch, lambda _warning: None)
        found = []
        for call in calls:
            place = lines.at((call.ident,)) if not _HELD.search(call.ident) else lines.at(())
            action = self._action(call, place)
            if action is not None:
                found.append(action)
        return found

    def calls(self, branch: _Branch, warn: Warn) -> tuple[Sequence[Call], Lines]:
        """Read what stands under the same conditions.

        Args:
            branch: the part of the file.
            warn: is told what is read in another way than somebody may expect.
        """
        text = _at_lines(branch.lines)
        lines = Lines()
        try:
            value, lines = load(text, self._file)
            if value is not None:
                return read_calls(value, lines, self._file, {}, warn), lines
        except YamlError as error:
            self._trouble(error.line, f"{error.problem}: a reaction must stand in one branch")
        except RuleError as error:
            self._trouble(error.line, error.problem)
        return (), lines

    def _action(self, call: Call, line: int) -> dict[str, Any] | None:
        ident = self.shown(call.ident)
        if call.kind == "caller":
            self._trouble(line, f"{ident}: caller reactions run on minions: keep this file")
            return None
        if _HELD.search(call.function):
            self._trouble(line, f"{ident}: a function's name cannot be a template")
            return None
        action: dict[str, Any] = {call.kind: call.function}
        if call.kind == "local":
            action["tgt"] = self._value(call.target)
            if call.target_type != "glob":
                action["tgt_type"] = call.target_type
        if call.args:
            action["args"] = self._value(list(call.args))
        if call.kwargs:
            action["kwargs"] = self._value(dict(call.kwargs))
        for name, value in call.options.items():
            if name == "timeout" and isinstance(value, int | float):
                action["timeout"] = value
            else:
                self._trouble(line, f"{ident}: the option {name!r} has no native form")
        return action

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text_value(value)
        if isinstance(value, dict):
            return {self._text_value(str(key)): self._value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item) for item in value]
        return value

    def shown(self, text: str) -> str:
        """Return a text with the values in it as they stand in the file."""

        def value(found: re.Match[str]) -> str:
            number = int(found[1])  # or it is the file's own, and stands for nothing
            held = self._held[number : number + 1]
            return f"{{{{ {held[0]} }}}}" if held else found[0]

        return _HELD.sub(value, text)

    def _text_value(self, text: str) -> str:
        whole = _HELD.fullmatch(text)
        if whole and int(whole[1]) in self._bare:
            return "{{ " + self._bare[int(whole[1])] + " }}"
        return self.shown(text)


def _at_lines(lines: Sequence[tuple[int, str]]) -> str:
    """Return the text with each line at its own number, so that errors name it."""
    text, at = "", 1
    for number, line in lines:
        text += "\n" * max(0, number - at)
        text += line
        at = number + line.count("\n") if number >= at else at + line.count("\n")
    return text


def _as_data(expression: str) -> str:
    """Return an expression without the filter at its end that writes its value as YAML.

    What YAML reads of it is that value, and a native rule has values.
    """
    output = Environment(autoescape=True).parse("{{ " + expression + " }}").body[0]
    last = output.nodes[0] if isinstance(output, nodes.Output) else None
    cut = expression
    if isinstance(last, nodes.Filter) and last.name == "indent":  # of YAML in many lines
        last, cut = last.node, _without_filter(cut, "indent")
    if not isinstance(last, nodes.Filter) or last.name not in _WRITERS:
        return expression
    data = _without_filter(cut, last.name)
    return data + _WRITERS[last.name] if data != cut else expression


def _without_filter(expression: str, name: str) -> str:
    return re.sub(rf"\s*\|\s*{name}\s*(\([^()]*\))?\s*\Z", "", expression)


def _grouped(text: str) -> str:
    return f"({text})" if re.search(r"\b(or|and|if|not)\b", text) else text


def _inner(text: str) -> str:
    """Return an expression that is put in place of a name."""
    return text if re.fullmatch(r"[\w.\[\]'\"]+", text) else f"({text})"


def _negated(text: str) -> str:
    return f"not ({text})"
