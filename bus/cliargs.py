"""Salt's reading of command-line arguments: ``name=value`` and YAML values, and the wire form."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bus.errors import ArgumentsError

KWARG_MARK = "__kwarg__"
"""Marks the dict of keyword arguments at the end of a list of arguments, as in Salt."""

MAX_DEPTH = 100
"""How deep a value may nest, as in files (`bus.yamlfile.MAX_DEPTH`); a deeper one is text."""

_KEYWORD = re.compile(r"([^\d\W][\w.-]*)=(?!=)(.*)", re.DOTALL)
_ALWAYS_TEXT = ("---", "...", "|", "!")
_GROUPED_DIGITS = re.compile(r"\s*[\d_]*_[\d_]*\s*")
_SMALL_INT = re.compile(r"-?[1-9][0-9]{0,14}|0")
_PLAIN_WORD = re.compile(r"[A-Za-z][\w./-]*", re.ASCII)
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null"})


def parse(args: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the keyword arguments that a command line means.

    Never raises; whatever cannot be read as a value is text.

    >>> parse(["web1", "{n: 1}", "pretty=True"])
    (['web1', {'n': 1}], {'pretty': True})
    """
    positional: list[Any] = []
    keyword: dict[str, Any] = {}
    for arg in args:
        pair = _KEYWORD.fullmatch(arg)
        if pair and pair[1] != KWARG_MARK:
            keyword[pair[1]] = parse_value(pair[2])
        else:
            positional.append(parse_value(arg))
    return positional, keyword


def split(args: Sequence[str], count: int, separator: str = ",") -> list[list[str]]:
    """Return the arguments of each of ``count`` functions, as Salt tells them apart.

    Separators that stand alone divide them, if there is one between each two functions. Otherwise
    each separator does, also within an argument.

    Raises:
        ArgumentsError: there are more groups than functions.

    >>> split(["uptime", ",", "a,b"], 2)
    [['uptime'], ['a,b']]
    >>> split(["uptime,a"], 2)
    [['uptime'], ['a']]
    """
    alone = list(args).count(separator) == count - 1
    groups: list[list[str]] = [[]]
    for arg in args:
        pieces = [arg] if alone and arg != separator else arg.split(separator)
        for place, piece in enumerate(pieces):
            if place:
                groups.append([])
            if piece or len(pieces) == 1:
                groups[-1].append(piece)
    if len(groups) > count:
        raise ArgumentsError(
            f"arguments for {len(groups)} functions, and {count} of them: if an argument holds "
            f"{separator!r}, put {separator!r} alone between the arguments of two functions, or "
            "choose another sign by --args-separator"
        )
    return groups


def parse_value(text: str) -> Any:
    """Return the value that one argument means, by Salt's rules.

    Returns:
        A value that JSON can hold; ``text`` itself if it is no YAML or another type.
    """
    if _is_text(text):
        return text
    if _SMALL_INT.fullmatch(text):
        return int(text)
    if text == "None":
        return None
    return _carried(_read_json(text) if text[0] in "{[" else _read_yaml(text))


def _carried(value: Any) -> Any:
    """Turn numbers of more than 64 bits, such as job ids, to text, as Salt sends them."""
    if isinstance(value, dict):
        return {_carried(key): _carried(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_carried(item) for item in value]
    is_long = isinstance(value, int) and not -(1 << 63) <= value < 1 << 64
    return str(value) if is_long else value


def _is_text(text: str) -> bool:
    """What needs no reader: words that YAML has no meaning for save it being loaded."""
    stripped = text.strip()
    if not stripped or stripped in _ALWAYS_TEXT or any(sign in text for sign in "\t\r\n"):
        return True
    if _GROUPED_DIGITS.fullmatch(text):
        return True
    is_word = _PLAIN_WORD.fullmatch(text) and text != "None"
    return bool(is_word) and text.lower() not in _YAML_WORDS


def _is_deep(value: Any) -> bool:
    """Say whether a value nests deeper than `MAX_DEPTH` levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
    return bool(level)


class _NotPlainJsonError(ValueError):
    """JSON that YAML reads otherwise."""


def _read_json(text: str) -> Any:
    """Read the JSON that YAML reads alike, and leave the rest to YAML: JSON starts faster."""
    try:
        value = json.loads(
            text, parse_float=_float, parse_constant=_refuse, object_pairs_hook=_pairs
        )
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
    except (ValueError, RecursionError):
        return _read_yaml(text)
    return text if _is_deep(value) else value


def _float(text: str) -> float:
    if "e" in text.lower():
        raise _NotPlainJsonError("YAML 1.1 wants a point and a sign: 1.0e+3")
    return float(text)


def _refuse(name: str) -> Any:
    raise _NotPlainJsonError(name)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotPlainJsonError("a key twice")
    return found


def _read_yaml(text: str) -> Any:
    from bus import yamlfile  # loading YAML takes as long as firing an event

    try:
        value, _ = yamlfile.load(text, "argument")
    except yamlfile.YamlError:
        return text
    return value if _is_meant(text, value) else text


def _is_meant(text: str, value: Any) -> bool:
    """Salt's guards against reading more into an argument than its writer meant."""
    if isinstance(value, dict) and not text.startswith("{"):
        return False
    if isinstance(value, list) and not text.startswith("["):
        return False
    if "#" in text and (value is None or isinstance(value, str)):
        return False
    return _fits_json(value)


def _fits_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_fits_json, [*value, *value.values()]))
    if isinstance(value, list):
        return all(map(_fits_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def condense(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the arguments as one list, as Salt sends them: keywords in a marked dict at the end.

    Raises:
        ArgumentsError: a keyword argument has the name of the mark.
    """
    if KWARG_MARK in kwargs:
        raise ArgumentsError(f"{KWARG_MARK} cannot be the name of an argument: choose another")
    return [*args, {KWARG_MARK: True, **kwargs}] if kwargs else list(args)


def expand(condensed: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and keyword arguments of a list that `condense` made."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for item in condensed:
        if isinstance(item, Mapping) and item.get(KWARG_MARK) is True:
            kwargs.update((key, value) for key, value in item.items() if key != KWARG_MARK)
        else:
            args.append(item)
    return args, kwargs
