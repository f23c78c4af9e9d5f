"""How large what a template makes may be. Pure functions; `reactor.rules.sandbox` asks them.

Jinja's sandbox guards attributes but lets ``'a' * 10**9`` through, so what can make a large value
out of a small one is checked before it is done. A list within a list within a list may hold
billions of items in a few bytes, so a value is weighed, as if written out, before it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

from jinja2.exceptions import SecurityError

MAX_SIZE = 1_048_576
"""Letters or items that one value may have, and letters that a file may render to: an event
itself holds no more (``max_event_size``)."""

MAX_BITS = 65_536
"""How large a whole number may grow."""

MAX_WEIGHT = 4 * MAX_SIZE
"""Letters and items of a value with all that is in it, written out."""

MAX_MADE = 16 * MAX_SIZE
"""Letters and items that one rendering, or one expression, may make and go through in all."""

_MAX_DIGITS = 300
_MAX_PRETTY = 10_000
_LONGEST_SEPARATOR = 100
_WIDE_FORMAT = re.compile(r"\d{6}|\*|:[^{}]*\{")
CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_ENCODINGS = frozenset({"utf-8", "utf8", "ascii", "latin-1"})
_COMPARING = frozenset({"count", "index", "remove", "sort"})
"""Methods of a list that look into all that is in it."""


def check_size(size: int) -> None:
    """Raise `SecurityError` if a value of ``size`` letters or items is too large."""
    if size > MAX_SIZE:
        raise SecurityError(f"a value of {size} letters or items: at most {MAX_SIZE} are allowed")


def weigh(value: Any) -> int:
    """Return the letters and items of a value with all that is in it, as if written out.

    Raises:
        SecurityError: there are too many.
    """
    kind = type(value)
    if kind is str:
        return len(value)
    return _weigh(value, {}) if kind in CONTAINERS else size_of(value)


def _weigh(value: Any, known: dict[int, int]) -> int:
    kind = type(value)
    if kind is str:
        return len(value) + 1
    if kind not in CONTAINERS:
        return 1
    found = known.get(id(value))
    if found is not None:
        return found
    known[id(value)] = weight = 1  # what holds itself is not gone through for ever
    for item in value:
        weight += _weigh(item, known)
        if kind is dict:
            weight += _weigh(value[item], known)
        if weight > MAX_WEIGHT:
            raise SecurityError(
                f"a value with more than {MAX_WEIGHT} letters and items in all that is in it"
            )
    known[id(value)] = weight
    return weight


def size_of(value: Any) -> int:
    """Return the letters or items of a value itself; of a number, its bytes."""
    kind = type(value)
    if kind is str or kind in CONTAINERS:
        return len(value)
    if kind is int:
        return int(value.bit_length() >> 3)
    return len(value) if isinstance(value, str | bytes) else 0


def _length(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise SecurityError(f"a number of about {bits} bits: at most {MAX_BITS} are allowed")


def _check_numbers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int):
            check_size(value)


def _check_product(text: Any, others: Iterable[Any]) -> None:
    """Refuse what may put one of the others in the place of each letter of a text."""
    longest = max(
        (other if isinstance(other, int) else _length(other) for other in others), default=0
    )
    if _length(text) * max(1, longest) > MAX_MADE:
        raise SecurityError(
            f"{_length(text)} letters, each of which may become {longest}: too many in all"
        )


def check_format(text: Any, values: Any, mark: str = "%") -> None:
    """Raise `SecurityError` if ``text``, with a ``mark`` for each, makes much of ``values``."""
    if not isinstance(text, str):
        return
    if _WIDE_FORMAT.search(text):
        raise SecurityError("a text format with a width of six digits or one that is worked out")
    check_size(len(text) + text.count(mark) * weigh(values))


# -- operators ----------------------------------------------------------------------------------


def _sequence(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _check_add(left: Any, right: Any) -> None:
    check_size(_sequence(left) + _sequence(right))


def _check_multiply(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(right, int):
        check_size(_sequence(left) * right)
    elif isinstance(left, int):
        check_size(_sequence(right) * left)


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * right)


OPERATORS: Mapping[str, Callable[[Any, Any], None]] = {
    "+": _check_add,
    "*": _check_multiply,
    "**": _check_power,
    "%": check_format,
}
"""What looks at both sides of an operator."""


# -- methods and filters --------------------------------------------------------------------------


def _check_replace(text: Any, old: Any, new: Any) -> None:
    if all(isinstance(item, str) for item in (text, old, new)):
        check_size(len(text) + text.count(old) * len(new))


def _check_join(separator: Any, items: Any) -> None:
    if isinstance(items, list | tuple | dict):
        weigh(items)
        check_size(_length(separator) * len(items) + sum(_sequence(item) for item in items))
    elif not isinstance(items, str) and _length(separator) > _LONGEST_SEPARATOR:
        raise SecurityError("a long separator between what is not counted: add '| list'")


def check_method(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise `SecurityError` if a method, or a function, could make something large."""
    given = (*args, *kwargs.values())
    for value in given:
        weigh(value)
    owner = getattr(method, "__self__", None)
    name = getattr(method, "__name__", "")
    if isinstance(owner, list | dict | set):
        check_size(len(owner) + max(map(_length, given), default=0))
        if name in _COMPARING:
            weigh(owner)
    if not isinstance(owner, str | bytes | int):
        return
    _check_numbers(given)
    if name == "replace" and len(args) > 1:
        _check_replace(owner, args[0], args[1])
    elif name == "join" and args:
        _check_join(owner, args[0])
    elif name == "expandtabs":
        _check_product(owner, given)
    elif name == "translate":
        raise SecurityError("translate() is not to be had here: use replace()")
    elif name in ("encode", "decode") and given and str(given[0]).lower() not in _ENCODINGS:
        raise SecurityError(f"{name}() knows {', '.join(sorted(_ENCODINGS))} here")


def check_filter(name: str, value: Any, rest: tuple[Any, ...]) -> int:
    """Raise `SecurityError` if a filter or a test could make something large of a value.

    Returns:
        How much there is to go through.
    """
    weight = weigh(value)
    for other in rest:
        weight += weigh(other)
    if name == "format":
        check_format(value, rest)
    elif name == "replace" and len(rest) > 1:
        _check_replace(value, rest[0], rest[1])
    elif name == "join" and rest:
        _check_join(rest[0], value)
    elif name in ("indent", "urlize", "wordwrap", "xmlattr"):
        _check_product(value, rest)
    elif name == "round" and any(
        isinstance(digits, int) and digits > _MAX_DIGITS for digits in rest
    ):
        raise SecurityError(f"round takes at most {_MAX_DIGITS} digits")
    elif name == "pprint":
        if weight > _MAX_PRETTY:
            raise SecurityError(f"pprint takes at most {_MAX_PRETTY} letters and items")
    elif name in _NUMBERED:
        _check_numbers(rest)
    return weight * _SLOW if name in _SORTING else weight


_SORTING = frozenset({"groupby", "sort", "unique"})
_SLOW = 8
"""How much longer it takes to sort than to go through."""

_NUMBERED = frozenset({"batch", "center", "indent", "slice", "truncate", "wordwrap"})
_MAKING = frozenset(
    {"format", "indent", "join", "replace", "round", "urlize", "wordwrap", "xmlattr"}
)

SPECIAL = frozenset({"pprint", *_SORTING, *_NUMBERED, *_MAKING})
"""Filters of which more has to be known than how much they are given."""
