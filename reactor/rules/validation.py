"""Checks native rule files against the JSON Schema that ships; each error is one clear line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import jsonschema_rs

from bus.yamlfile import Lines
from reactor.errors import RuleError, path_text

Path = tuple[str | int, ...]

_MAX_ERRORS = 20
_UNKNOWN = "unknown key"
_SAID_IN_FULL = ("oneOf", "propertyNames")
_OTHER_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("action", "actions", "then", "reaction", "reactions"), "do"),
    **dict.fromkeys(("event", "events", "tag", "tags", "trigger"), "on"),
    **dict.fromkeys(("if", "condition", "conditions", "only_if", "onlyif"), "when"),
    **dict.fromkeys(("target", "minion", "minions"), "tgt"),
    **dict.fromkeys(("arg", "arguments"), "args"),
    **dict.fromkeys(("kwarg", "keywords"), "kwargs"),
    **dict.fromkeys(("expr_form", "target_type"), "tgt_type"),
}
"""What keys are called elsewhere, in Salt among others."""

_KINDS: Mapping[str, str] = {
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def load_schema() -> Any:
    """Return the JSON Schema of native rule files."""
    return json.loads(resources.files(__package__).joinpath("schema.json").read_text("utf-8"))


class Validator:
    """Checks the value of a rule file; made once, used for every file."""

    def __init__(self) -> None:
        self._schema = load_schema()
        self._validator = jsonschema_rs.validator_for(self._schema)
        self._describers: Mapping[str, Callable[[Any, Any], str]] = {
            "required": lambda error, _schema: f"the key {error.kind.property!r} is missing",
            "type": _wrong_type,
            "enum": _wrong_choice,
            "minItems": lambda _error, _schema: "an empty list: give at least one item",
            "minLength": lambda _error, _schema: "an empty text",
            "minimum": lambda error, _schema: f"a number of at least {error.kind.limit}",
            "maximum": lambda error, _schema: f"a number of at most {error.kind.limit}",
        }

    def check(self, value: Any, file: str, lines: Lines) -> list[RuleError]:
        """Return what is wrong with the value of ``file``, at most 20 errors, by line."""
        misshapen = _misshapen(value)
        if misshapen is not None:
            path, problem = misshapen
            return [RuleError(problem, file, lines.at(path), path_text(path))]
        culprit = None if _is_json(value) else _find_odd(value, ())
        if culprit is not None:
            path, problem = culprit
            return [RuleError(problem, file, lines.at(path), path_text(path))]
        found: dict[tuple[int, str], RuleError] = {}
        undecided: set[str] = set()
        for reported in self._validator.iter_errors(value):
            if reported.kind.name == "oneOf" and not self._mistyped(reported):
                undecided.add(path_text(reported.instance_path))
            for error in self._errors(reported, file, lines):
                found[error.line, error.path if _is_unknown_key(error) else ""] = error
        # One that is misspelt is missing as well: the first says more.
        # Of what could be one of two kinds of action, the keys of neither are unknown.
        for place in [place for place in found if place[1].rpartition(".")[0] in undecided]:
            del found[place]
        misspelt = {line for line, path in found if path}
        kept = sorted(place for place in found if place[1] or place[0] not in misspelt)
        return [found[place] for place in kept][:_MAX_ERRORS]

    def _errors(self, error: Any, file: str, lines: Lines) -> list[RuleError]:
        """Return what one finding of the schema says: each unknown key is an error of its own."""
        if error.kind.name != "additionalProperties":
            return [self._error(error, file, lines)]
        schema = self._schema_at(error.schema_path[:-1])
        found = []
        for key in error.kind.unexpected:
            path = (*error.instance_path, key)
            problem = _unknown_key(key, schema)
            found.append(RuleError(problem, file, lines.at(path), path_text(path)))
        return found

    def _error(self, error: Any, file: str, lines: Lines) -> RuleError:
        path: Path = tuple(error.instance_path)
        if error.kind.name == "propertyNames":
            path = (*path, self._bad_name(error.instance))
        elif error.kind.name == "oneOf" and (mistyped := self._mistyped(error)):
            path = (*path, mistyped[0])
        return RuleError(self._describe(error), file, lines.at(path), path_text(path))

    def _describe(self, error: Any) -> str:
        schema = self._schema_at(error.schema_path[:-1])
        if error.kind.name == "propertyNames":
            schema = self._schema["$defs"]["name"]
        stated = schema.get("x-problem")
        mistyped = self._mistyped(error) if error.kind.name == "oneOf" else None
        if mistyped:
            return f"unknown key {mistyped[0]!r}: did you mean {mistyped[1]!r}?"
        if error.kind.name in _SAID_IN_FULL:
            return str(stated)
        if stated and error.kind.name != "required":
            return f"{stated}, not {_shown(error.instance)}"
        describe = self._describers.get(error.kind.name)
        return describe(error, schema) if describe else str(error.message)

    def _mistyped(self, error: Any) -> tuple[str, str] | None:
        """Return the key of an action that has none of the kinds but is near one, and that kind."""
        schema = self._schema_at(error.schema_path[:-1])
        kinds = [kind for option in schema["oneOf"] for kind in option["required"]]
        if not isinstance(error.instance, dict) or not error.instance.keys().isdisjoint(kinds):
            return None
        for key in error.instance:
            if near := difflib.get_close_matches(key, kinds, 1):
                return key, near[0]
        return None

    def _schema_at(self, path: Sequence[str | int]) -> Any:
        """Return the part of the schema that ``path`` leads to, through references."""
        here = self._schema
        for key in path:
            if key == "$ref":
                name = here["$ref"].rpartition("/")[2]
                here = self._schema["$defs"][name]
            else:
                here = here[key]
        return here

    def _bad_name(self, rules: Mapping[str, Any]) -> str:
        allowed = re.compile(self._schema["$defs"]["name"]["pattern"])
        return next(name for name in rules if not allowed.search(name))


def _misshapen(value: Any) -> tuple[Path, str] | None:
    """Find where a file as a whole is of another form than one of rules."""
    if isinstance(value, list):
        return (), "a file of rules is a mapping, NAME: {on: ..., do: ...}, not a list"
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("reactor"), list):
        return ("reactor",), "a reactor map stands alone in its file: 'reactor' is its only key"
    for key in ("on", "do"):
        if key in value and not isinstance(value[key], dict):
            return (
                key,
            ), "stands outside of a rule: write a name above, NAME:, and indent the rest"
    return None


def _is_unknown_key(error: RuleError) -> bool:
    return error.problem.startswith(_UNKNOWN)


def _unknown_key(unknown: str, schema: Any) -> str:
    known = sorted(schema["properties"])
    meant = _OTHER_WORDS.get(unknown)
    near = [meant] if meant in known else difflib.get_close_matches(unknown, known, 1, 0.65)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return f"{_UNKNOWN} {unknown!r}: {hint}"


def _is_json(value: Any) -> bool:
    """Say whether a value is what JSON can hold, as that of nearly every file is."""
    todo = [value]
    while todo:
        here = todo.pop()
        if isinstance(here, dict):
            if not all(isinstance(key, str) for key in here):
                return False
            todo += here.values()
        elif isinstance(here, list):
            todo += here
        elif here is not None and not isinstance(here, str | int | float):
            return False
    return True


def _find_odd(value: Any, path: Path) -> tuple[Path, str] | None:
    """Find what JSON cannot hold and YAML can: keys that are no text, sets, bytes."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str)), "")
        if odd != "":
            return (*path, odd), f"the key {odd!r} is no text: put it in quotes"
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    elif value is not None and not isinstance(value, str | int | float):
        return path, f"a value of the type {type(value).__name__} cannot stand here"
    return next((found for key, item in pairs if (found := _find_odd(item, (*path, key)))), None)


def _wrong_type(error: Any, _schema: Any) -> str:
    wanted = " or ".join(_KINDS[name] for name in error.kind.types)
    return f"{wanted} is wanted here, not {_shown(error.instance)}"


def _wrong_choice(error: Any, schema: Any) -> str:
    choices = [str(choice) for choice in schema["enum"]]
    near = difflib.get_close_matches(str(error.instance), choices, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(choices)}"
    return f"unknown value {_shown(error.instance)}: {hint}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
