"""Who is meant by a target: expressions over minion ids and grains. Pure functions.

The kinds are Salt's: glob, list, pcre, grain, grain_pcre, compound, nodegroup and ipcidr.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bus.errors import TargetError
from bus.regexes import Regex
from bus.tags import is_literal

Grains = Mapping[str, Any]
Matcher = Callable[[str, Grains], bool]
Nodegroups = Mapping[str, str | Sequence[str]]

MAX_TARGET_LENGTH = 1_048_576
"""As long as the largest event: a list of some 20,000 ids fits."""

_OPERATORS = frozenset({"and", "or", "not", "(", ")"})
_MAX_NESTING = 100


@dataclass(frozen=True, slots=True)
class _Groups:
    """The nodegroups, and those whose definition is being read now."""

    known: Nodegroups
    open: tuple[str, ...] = ()


def expand(
    target: str | Sequence[str],
    target_type: str,
    minions: Mapping[str, Grains],
    nodegroups: Nodegroups | None = None,
) -> list[str]:
    """Return the ids that a target means, in the order of ``minions``.

    Args:
        target: the expression; a list of ids where the type is ``list``.
        target_type: one of `TARGET_TYPES`.
        minions: all ids that can be meant, with their grains.
        nodegroups: the groups by name, each a compound expression or a list of its words.

    Raises:
        TargetError: the expression cannot be read.
    """
    if target_type == "glob" and isinstance(target, str) and is_literal(target):
        return [target] if _checked(target) in minions else []
    matches = compile_target(target, target_type, nodegroups)
    return [ident for ident, grains in minions.items() if matches(ident, grains)]


def compile_target(
    target: str | Sequence[str], target_type: str, nodegroups: Nodegroups | None = None
) -> Matcher:
    """Return a function that says whether a minion, by id and grains, is meant.

    Raises:
        TargetError: the expression cannot be read.
    """
    return _compile(_checked(target), target_type, _Groups(nodegroups or {}))


def _checked(target: Any) -> str | list[str]:
    if isinstance(target, list | tuple) and all(isinstance(item, str) for item in target):
        return list(target)
    if not isinstance(target, str):
        raise TargetError(f"a target is text or a list of texts, not {type(target).__name__}")
    if not target.strip():
        raise TargetError("the target is empty: use '*' for all minions")
    if len(target) > MAX_TARGET_LENGTH:
        raise TargetError(f"the target is longer than {MAX_TARGET_LENGTH} characters")
    return target


def _compile(target: str | list[str], target_type: str, groups: _Groups) -> Matcher:
    make = _TYPES.get(target_type)
    if make is None:
        raise TargetError(_unknown("target type", str(target_type), TARGET_TYPES))
    return make(target, groups)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(names) or 'none'}"
    return f"unknown {what} {name[:80]!r}: {hint}"


def _text(target: str | list[str], kind: str) -> str:
    if not isinstance(target, str):
        raise TargetError(f"a target of the type {kind} is text; for ids in a list use 'list'")
    return target


# -- the simple types -------------------------------------------------------------------------


def _glob(target: str | list[str], _: _Groups) -> Matcher:
    match = re.compile(fnmatch.translate(_text(target, "glob"))).match
    return lambda ident, _grains: match(ident) is not None


def _list(target: str | list[str], _: _Groups) -> Matcher:
    wanted = frozenset(list_words(target))
    return lambda ident, _grains: ident in wanted


def list_words(target: str | Sequence[str]) -> list[str]:
    """Return the ids that a target of the type ``list`` names.

    They are divided by commas; without a comma by blanks, as in Salt.
    """
    words: Sequence[str] = target
    if isinstance(target, str):
        words = target.split(",") if "," in target else target.split()
    return [name for word in words if (name := word.strip())]


def _pcre(target: str | list[str], _: _Groups) -> Matcher:
    match = _regex(_text(target, "pcre")).match
    return lambda ident, _grains: match(ident) is not None


class _Regex(Regex):
    """An expression of whoever may run jobs, over what minions say of themselves."""

    error = TargetError


def _regex(pattern: str, flags: int = 0) -> Regex:
    try:
        return _Regex(pattern, flags)
    except TargetError as error:
        raise TargetError(f"the target {error}") from error


def _ipcidr(target: str | list[str], _: _Groups) -> Matcher:
    text = _text(target, "ipcidr")
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise TargetError(f"the target {text[:80]!r} is no IP address or network") from error
    return lambda _ident, grains: any(
        address in network for address in _addresses(grains, f"ipv{network.version}")
    )


def _addresses(
    grains: Grains, name: str
) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    values = grains.get(name)
    for value in values if isinstance(values, list | tuple) else [values]:
        try:
            # A number is an address to the ipaddress module, but not to the one who sent it.
            yield ipaddress.ip_address(value if isinstance(value, str) else "")
        except ValueError:
            continue


# -- grains -----------------------------------------------------------------------------------


def _grain(target: str | list[str], _: _Groups) -> Matcher:
    def make(pattern: str) -> Callable[[str], bool]:
        match = re.compile(fnmatch.translate(pattern), re.IGNORECASE).match
        return lambda value: match(value) is not None

    return _grain_matcher(_text(target, "grain"), make)


def _grain_pcre(target: str | list[str], _: _Groups) -> Matcher:
    def make(pattern: str) -> Callable[[str], bool]:
        match = _regex(pattern, re.IGNORECASE).match
        return lambda value: match(value) is not None

    return _grain_matcher(_text(target, "grain_pcre"), make)


def _grain_matcher(target: str, make: Callable[[str], Callable[[str], bool]]) -> Matcher:
    """Return a matcher for ``path:to:grain:value``.

    A grain's name and its value may themselves contain colons, so every split is tried.
    """
    parts = target.split(":")
    if len(parts) < 2 or not parts[0]:
        raise TargetError(
            f"the grain target {target[:80]!r} has no ':': write it as 'os:Debian' or 'a:b:value'"
        )
    if len(parts) > _MAX_NESTING:
        raise TargetError(f"the grain target {target[:80]!r}... has more than 100 parts")
    tests = [make(":".join(parts[start:])) for start in range(len(parts))]
    return lambda _ident, grains: _search(grains, parts, 0, tests)


def _search(node: Any, parts: list[str], start: int, tests: list[Callable[[str], bool]]) -> bool:
    if isinstance(node, list | tuple):
        return any(
            _search(item, parts, start, tests)
            for item in node
            if not isinstance(item, list | tuple)
        )
    if not isinstance(node, Mapping):
        return start > 0 and start < len(parts) and tests[start](_plain(node))
    if start and start < len(parts) and any(tests[start](_plain(key)) for key in node):
        return True
    return any(
        _search(node[name], parts, end, tests)
        for end in range(start + 1, len(parts))
        if (name := ":".join(parts[start:end])) in node
    )


def _plain(value: Any) -> str:
    return str(value)


# -- compound ---------------------------------------------------------------------------------


def _compound(target: str | list[str], groups: _Groups) -> Matcher:
    words = list(target) if isinstance(target, list) else list(_words(target))
    return _Compound(words, groups).parse()


def _words(text: str) -> Iterator[str]:
    """Split an expression; a parenthesis may touch a word, but those of a regex stay in it."""
    for word in text.split():
        core = word.lstrip("(")
        yield from "(" * (len(word) - len(core))
        closing = 0
        while core.endswith(")") and core.count(")") > core.count("("):
            core, closing = core[:-1], closing + 1
        if core:
            yield core
        yield from ")" * closing


class _Compound:
    """Reads ``and or not ( )``: ``not`` binds tightest, then ``and``, then ``or``."""

    def __init__(self, words: list[str], groups: _Groups) -> None:
        self._words = words
        self._groups = groups
        self._at = 0
        self._depth = 0

    def parse(self) -> Matcher:
        found = self._either()
        if self._at < len(self._words):
            raise self._error(f"unexpected {self._words[self._at]!r}, 'and' or 'or' is missing")
        return found

    def _peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _error(self, what: str) -> TargetError:
        return TargetError(f"the compound target {' '.join(self._words)[:200]!r}: {what}")

    def _either(self) -> Matcher:
        terms = [self._both()]
        while self._peek() == "or":
            self._at += 1
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else _any_of(terms)

    def _both(self) -> Matcher:
        terms = [self._term()]
        # As in Salt, 'and' may be left out before 'not'.
        while self._peek() in ("and", "not"):
            self._at += self._peek() == "and"
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else _all_of(terms)

    def _term(self) -> Matcher:
        word = self._peek()
        self._at += 1
        if word == "not":
            return self._nested(lambda: _negated(self._term()))
        if word == "(":
            return self._nested(self._group)
        if not word or word in _OPERATORS:
            raise self._error(f"a term is missing before {word!r}" if word else "it ends too early")
        return _term(word, self._groups)

    def _nested(self, read: Callable[[], Matcher]) -> Matcher:
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise self._error(f"nested deeper than {_MAX_NESTING}")
        found = read()
        self._depth -= 1
        return found

    def _group(self) -> Matcher:
        found = self._either()
        if self._peek() != ")":
            raise self._error("a ')' is missing")
        self._at += 1
        return found


def _any_of(terms: list[Matcher]) -> Matcher:
    return lambda ident, grains: any(term(ident, grains) for term in terms)


def _all_of(terms: list[Matcher]) -> Matcher:
    return lambda ident, grains: all(term(ident, grains) for term in terms)


def _negated(term: Matcher) -> Matcher:
    return lambda ident, grains: not term(ident, grains)


def _term(word: str, groups: _Groups) -> Matcher:
    if len(word) < 2 or word[1] != "@" or not word[0].isupper():
        return _glob(word, groups)
    kind = _LETTERS.get(word[0])
    if kind is None:
        raise TargetError(
            f"the target term {word[:80]!r}: use one of {', '.join(f'{k}@' for k in _LETTERS)}"
        )
    if len(word) == 2:
        raise TargetError(f"the target term {word!r} has nothing after the '@'")
    return _compile(word[2:], kind, groups)


def _nodegroup(target: str | list[str], groups: _Groups) -> Matcher:
    name = _text(target, "nodegroup").strip()
    if name in groups.open:
        raise TargetError(f"the nodegroups {' -> '.join((*groups.open, name))} go in a circle")
    if name not in groups.known:
        raise TargetError(_unknown("nodegroup", name, groups.known))
    inner = _Groups(groups.known, (*groups.open, name))
    definition = groups.known[name]
    if isinstance(definition, str):
        return _compound(definition, inner)
    words = [str(word) for word in definition]
    if _OPERATORS.isdisjoint(words):  # a plain list of ids or terms means any of them
        return _any_of([_term(word, inner) for word in words])
    return _compound(words, inner)


_TYPES: dict[str, Callable[[str | list[str], _Groups], Matcher]] = {
    "glob": _glob,
    "list": _list,
    "pcre": _pcre,
    "grain": _grain,
    "grain_pcre": _grain_pcre,
    "compound": _compound,
    "nodegroup": _nodegroup,
    "ipcidr": _ipcidr,
}

TARGET_TYPES = tuple(_TYPES)
"""The values of ``tgt_type``."""

_LETTERS = {
    "G": "grain",
    "P": "grain_pcre",
    "E": "pcre",
    "L": "list",
    "S": "ipcidr",
    "N": "nodegroup",
}
