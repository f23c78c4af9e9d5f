"""Reads what a reactor file renders to by its shape: once for all events that differ in words only.

To parse YAML costs ten times as much as to render it. What an expression gives is mostly a
plain word (a minion's id, a number, an address), and such a word changes nothing about how the
text around it is read. So the text is read once with a placeholder for each word, and for each
further event the words are put into the calls that came of it.

Whatever could be read in another way (a word that means a number or true, a word in an anchor, two
keys that become one) is left to the parser: `Shapes.calls` returns None then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bus.errors import BusError
from bus.yamlfile import Lines, is_text
from reactor.rules.model import Call, Source

MAX_SHAPES = 64
MAX_LETTERS = 4_096
"""Of a text: hostile data can make long ones, and what is remembered must stay small."""

_MAX_WORDS = 512
_MAX_LINE = 400
"""Letters of all words, and of a line: YAML allows 1,024 for a key without a mark of its own."""

_WORD = re.compile(r"(['\"]?)([A-Za-z0-9_][A-Za-z0-9_./-]{0,199})\1")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_TOKEN = re.compile(r"zQ([0-9]+)zQ")
_SIGN = "zQ"
_MARK = "\0"
_SPECIAL = re.compile(r"[&*%@`|>\\]")
"""What may not stand before a word without a blank between: an anchor, an escape and the like."""

Words = Sequence[str]
Make = Callable[[Words], Any]
Read = Callable[[str], tuple[tuple[Call, ...], Lines]]
"""Parses a text; raises `BusError` if it cannot, or has something to say that names a word."""

_Key = tuple[str, ...]


class _ParseError(Exception):
    """These words have to be read by the parser."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a text is read as, whatever its words.

    Attributes:
        makers: make the calls.
        keys: how many IDs, and functions below them, there are: fewer, and two have become one.
    """

    makers: tuple[Callable[[Words], Call], ...]
    keys: tuple[int, int]

    def calls(self, words: Words) -> tuple[Call, ...]:
        calls = tuple([make(words) for make in self.makers])
        if len(calls) > 1 and _keys(calls) != self.keys:
            raise _ParseError
        return calls


class Shapes:
    """The shapes of the texts of one reactor file.

    Args:
        read: parses a text.
        ids: the line in the file of each ID that stands there as it is.
    """

    def __init__(self, read: Read, ids: Mapping[str, int]) -> None:
        self._read = read
        self._ids = ids
        self._known: dict[_Key, _Shape | None] = {}

    def calls(self, pieces: Sequence[str]) -> tuple[Call, ...] | None:
        """Return what a text says, or None if the parser has to be asked.

        Args:
            pieces: the text as the template gives it out: what an expression gave is a piece of
                its own. Nothing goes wrong where it is not.
        """
        key: list[str] = []
        words: list[str] = []
        for piece in pieces:
            word = _WORD.fullmatch(piece)
            if word is not None:
                key.append(_MARK + word[1])
                words.append(word[2])
            elif piece.startswith(_MARK):
                return None  # YAML allows no such character, so there is no call in it anyway
            else:
                key.append(piece)
        if not words:
            return None
        shape = self._shape(tuple(key))
        if shape is None or sum(map(len, words)) > _MAX_WORDS:
            return None
        try:
            return shape.calls(words)
        except _ParseError:
            return None

    def _shape(self, key: _Key) -> _Shape | None:
        """Return the shape of a text, from the second text of this shape on."""
        if key not in self._known:
            if sum(map(len, key)) <= MAX_LETTERS:
                self._known[key] = _UNREAD
                if len(self._known) > MAX_SHAPES:
                    del self._known[next(iter(self._known))]
            return None
        shape = self._known[key]
        if shape is _UNREAD:
            shape = self._known[key] = self._make(key)
        return shape

    def _make(self, key: _Key) -> _Shape | None:
        text = _with_tokens(key)
        if text is None:
            return None
        try:
            calls, lines = self._read(text)
        except BusError:
            return None
        plain = {
            int(number)
            for value, is_plain in lines.scalars()
            if is_plain
            for number in _TOKEN.findall(value)
        }
        compiler = _Compiler(plain, self._ids)
        try:
            return _Shape(tuple(compiler.call(call) for call in calls), _keys(calls))
        except _ParseError:
            return None


_UNREAD = _Shape((), (0, 0))
"""Seen once."""


def _keys(calls: Sequence[Call]) -> tuple[int, int]:
    idents = {call.ident for call in calls}
    return len(idents), len({(call.ident, call.kind, call.function) for call in calls})


def _with_tokens(key: _Key) -> str | None:
    """Return the text with a token for each word, or None if words matter for how it is read."""
    text = ""
    count = 0
    for part in key:
        if not part.startswith(_MARK):
            text += part
            continue
        before = text[-1:] and not text[-1].isspace() and text.split()[-1]
        if before and _SPECIAL.search(before):
            return None
        quote = part[1:]
        text += f"{quote}{_SIGN}{count}{_SIGN}{quote}"
        count += 1
    is_odd = "!" in text or text.startswith("%") or text.count(_SIGN) != 2 * count
    is_long = max(map(len, text.splitlines()), default=0) > _MAX_LINE
    return None if is_odd or is_long else text


class _Compiler:
    """Makes of what a text with tokens was read as what makes the same with words.

    Args:
        plain: the tokens in values without quotes, which might mean another type.
        ids: see `Shapes`.
    """

    def __init__(self, plain: set[int], ids: Mapping[str, int]) -> None:
        self._plain = plain
        self._ids = ids

    def call(self, call: Call) -> Callable[[Words], Call]:
        """Return what makes a call.

        Raises:
            _ParseError: a word is the name of an option, or decides what the call is.
        """
        function, ident = self._name(call.function), self._name(call.ident)
        args = self._value(list(call.args))
        kwargs, options = self._options(call.kwargs), self._options(call.options)
        target, target_type = self._text(call.target), self._text(call.target_type)
        kind, source, ids = call.kind, call.source, self._ids

        def make(words: Words) -> Call:
            name = ident(words) if ident else call.ident
            return Call(
                kind,
                function(words) if function else call.function,
                tuple(args(words)) if args else call.args,
                kwargs(words) if kwargs else call.kwargs,
                target(words) if target else call.target,
                target_type(words) if target_type else call.target_type,
                options=options(words) if options else call.options,
                ident=name,
                source=Source(source.path, ids.get(name, 0)) if ident and source else source,
            )

        return make

    def _options(self, given: Mapping[str, Any]) -> Make | None:
        """Compile named values; a name with a word in it could be that of anything."""
        if any(_TOKEN.search(name) for name in given):
            raise _ParseError
        return self._value(dict(given))

    def _text(self, value: Any) -> Make | None:
        make = self._value(value)
        if make is None or not isinstance(value, str):
            return make
        return lambda words: str(make(words))

    def _name(self, text: str) -> Make | None:
        """Compile a key, which has to stay text."""
        make = self._value(text)
        return None if make is None else lambda words: _stay_text(make(words))

    def _value(self, value: Any) -> Make | None:
        """Compile a value; None if no word is in it."""
        if isinstance(value, str):
            return self._scalar(value)
        if isinstance(value, list):
            return self._list(value)
        return self._mapping(value) if isinstance(value, dict) else None

    def _scalar(self, text: str) -> Make | None:
        first, *rest = _TOKEN.split(text)
        if not rest:
            return None
        parts = tuple(
            (int(number), after) for number, after in zip(rest[::2], rest[1::2], strict=True)
        )
        is_plain = any(number in self._plain for number, _ in parts)
        if text == f"{_SIGN}{rest[0]}{_SIGN}":
            only = parts[0][0]
            return (lambda words: _typed(words[only])) if is_plain else (lambda words: words[only])

        def make(words: Words) -> Any:
            made = first + "".join([words[number] + after for number, after in parts])
            return _typed(made) if is_plain else made

        return make

    def _list(self, values: list[Any]) -> Make | None:
        makers = [self._value(value) for value in values]
        if not any(makers):
            return None
        pairs = list(zip(makers, values, strict=True))
        return lambda words: [make(words) if make else value for make, value in pairs]

    def _mapping(self, values: dict[Any, Any]) -> Make | None:
        makers = [
            (self._name(key) if isinstance(key, str) else None, key, self._value(value), value)
            for key, value in values.items()
        ]
        if not any(of_key or of_value for of_key, _, of_value, _ in makers):
            return None

        def make(words: Words) -> dict[Any, Any]:
            made = {
                of_key(words) if of_key else key: of_value(words) if of_value else value
                for of_key, key, of_value, value in makers
            }
            if len(made) < len(makers):
                raise _ParseError
            return made

        return make


def _stay_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _ParseError
    return value


def _typed(text: str) -> str | int:
    """Return what YAML makes of a value without quotes.

    Raises:
        _ParseError: neither text nor a whole number without oddities.
    """
    if _NUMBER.fullmatch(text):
        return int(text)
    if not is_text(text):
        raise _ParseError
    return text
