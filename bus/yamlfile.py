"""YAML from a file: no key twice, every key knows its line, dates stay text.

What differs from plain PyYAML, and what of YAML 1.1 surprises people: docs/reference/yaml.md.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from bus.errors import BusError

MAX_DEPTH = 100
"""How deep values may nest; Jackson's and serde_json's limits (1000, 128) are the precedent."""

MAX_NODES = 1_000_000
"""How many values a file may hold once its aliases are expanded: a bound on alias bombs."""

_SUSPECT = 1_000
"""libyaml's composer recurses in C; texts that could nest deeper are looked at first."""

_LIBYAML_TOO_DEEP = "exceeded maximum nesting depth"

_TAG = "tag:yaml.org,2002:"
_TEXT, _BOOL, _MERGE = _TAG + "str", _TAG + "bool", _TAG + "merge"
_STAY_TEXT = (_TAG + "timestamp", _TAG + "value")
_NUMBERS = (_BOOL, _TAG + "int", _TAG + "float")

_TEMPLATE = re.compile(r"\s*(?:- +)*(?:([\w.-]+): +)?\{\{")


class YamlError(BusError):
    """A YAML text that is refused.

    Attributes:
        path: the file as it was given.
        line: the line counted from 1.
        column: the column counted from 1.
        problem: what is wrong, without the place.
    """

    status = 400

    def __init__(self, problem: str, path: str, line: int, column: int) -> None:
        super().__init__(f"{path}:{line}:{column}: {problem}")
        self.problem = problem
        self.path = path
        self.line = line
        self.column = column


class Lines:
    """Which line each value of a YAML text stands on."""

    def __init__(self, root: yaml.Node | None = None) -> None:
        self._root = root
        self._found: dict[tuple[Any, ...], tuple[yaml.Node | None, int]] = {(): (root, _line(root))}

    def at(self, path: tuple[Any, ...] = ()) -> int:
        """Return the line, counted from 1, of the key or list item that ``path`` leads to.

        Args:
            path: keys and indices from the top. Where it leads nowhere, the line is that of
                the last part that was found.
        """
        return self._find(path)[1]

    def _find(self, path: tuple[Any, ...]) -> tuple[yaml.Node | None, int]:
        """Return a value and its line; of what is not there the line of what is around it."""
        known = self._found.get(path)
        if known is None:
            around, line = self._find(path[:-1])
            known = self._found[path] = _child(around, path[-1]) or (None, line)
        return known

    def scalars(self) -> Iterator[tuple[str, bool]]:
        """Yield each value and key that is neither list nor mapping, and whether it is plain.

        A plain one stands without quotes and the like, so that its text decides its type.
        """
        todo = [] if self._root is None else [self._root]
        while todo:
            node = todo.pop()
            if isinstance(node, yaml.ScalarNode):
                yield node.value, not node.style
            elif isinstance(node, yaml.SequenceNode):
                todo += node.value
            else:
                todo += [inner for pair in node.value for inner in pair]


def is_text(value: str) -> bool:
    """Say whether a plain value is text, and no number, truth value or anything else.

    >>> [is_text(value) for value in ("web1", "10", "no", "0x1f")]
    [True, False, False, False]
    """
    resolvers = _Loader.yaml_implicit_resolvers
    for place in (value[:1], None):
        for _, pattern in resolvers.get(place, ()):
            if pattern.match(value):
                return False
    return True


def load(text: str, path: str) -> tuple[Any, Lines]:
    """Return the value of a YAML text (``None`` if it is empty) and its lines.

    Args:
        text: one YAML document.
        path: what errors call the file.

    Raises:
        YamlError: it is no YAML, has a key twice, more than one document, an unknown tag,
            or nests too deep.
    """
    try:
        return _load(text, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = _in_words(text, line, error) or error.problem or error.context or "no YAML"
        raise YamlError(" ".join(problem.split()), path, line, column) from error
    except (yaml.reader.ReaderError, UnicodeError) as error:
        raise _bad_character(text, path) from error


def _load(text: str, path: str) -> tuple[Any, Lines]:
    _refuse_deep(text, path)
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, Lines()
        _Check(path, loader).walk(root, 1)
        return loader.construct_document(root), Lines(root)
    finally:
        loader.dispose()


def _refuse_deep(text: str, path: str) -> None:
    """Stop before libyaml's recursion does: each level needs a bracket or an indentation."""
    widest = max(map(len, text.splitlines()), default=0)
    if max(text.count("[") + text.count("{"), widest) <= _SUSPECT:
        return
    try:
        _count_depth(text, path)
    except yaml.MarkedYAMLError as error:
        # libyaml has a limit of its own since 0.2.6, and its scanner runs ahead of the events.
        if error.problem != _LIBYAML_TOO_DEEP or error.problem_mark is None:
            raise
        raise _too_deep(path, error.problem_mark) from error


def _count_depth(text: str, path: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _too_deep(path, event.start_mark)


def _too_deep(path: str, mark: Any) -> YamlError:
    return YamlError(
        f"values nest deeper than {MAX_DEPTH} levels", path, mark.line + 1, mark.column + 1
    )


def _bad_character(text: str, path: str) -> YamlError:
    """Say where the first character is that YAML forbids; PyYAML gives only a byte offset."""
    allowed = yaml.reader.Reader.NON_PRINTABLE
    found = allowed.search(text)
    place = found.start() if found else 0
    line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
    shown = f"U+{ord(text[place]):04X}" if found else "no valid Unicode"
    return YamlError(f"a character that YAML does not allow: {shown}", path, line, column)


class _Check:
    """One walk over the nodes of a text, before values are made of them."""

    def __init__(self, path: str, loader: _Loader) -> None:
        self._path = path
        self._loader = loader
        self._left = MAX_NODES

    def walk(self, node: yaml.Node, depth: int, key: str = "") -> None:
        """Refuse what nests too deep (so also an alias within itself) or expands too far.

        Args:
            node: what is looked at.
            depth: how deep it nests, from 1.
            key: the key that it is the value of, if any.
        """
        self._left -= 1
        if self._left < 0:
            raise self._error(f"aliases expand to more than {MAX_NODES} values", node)
        if depth > MAX_DEPTH:
            raise _too_deep(self._path, node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self.walk(item, depth + 1)
        elif isinstance(node, yaml.MappingNode):
            self._walk_mapping(node, depth, key)

    def _walk_mapping(self, node: yaml.MappingNode, depth: int, key: str) -> None:
        seen: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag != _MERGE:
                if node.flow_style and isinstance(key_node, yaml.MappingNode):
                    raise self._error(_unquoted(key), key_node)
                self._check_key(key_node, seen)
            self.walk(value_node, depth + 1, str(key_node.value))

    def _check_key(self, node: yaml.Node, seen: dict[Hashable, int]) -> None:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error("a list or mapping cannot be a key: put the key in quotes", node)
        if node.tag == _BOOL:
            node.tag = _TEXT  # `on:` is a key of rule files, not the key True
        key = node.value if node.tag == _TEXT else self._loader.construct_object(node)
        if key in seen:
            raise self._error(f"the key {key!r} is here twice, first on line {seen[key]}", node)
        seen[key] = node.start_mark.line + 1

    def _error(self, problem: str, node: yaml.Node) -> YamlError:
        mark = node.start_mark
        return YamlError(problem, self._path, mark.line + 1, mark.column + 1)


def _unquoted(key: str) -> str:
    """Return what to do about a template that YAML takes for a mapping in a mapping."""
    example = f"{key}: " if key else ""
    return f'put the {{{{ }}}} in quotes: {example}"{{{{ ... }}}}"'


def _in_words(text: str, line: int, error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong, and what to do, where libyaml's own words are of no help."""
    here = "".join(text.splitlines()[line - 1 : line])
    if "\t" in here[: len(here) - len(here.lstrip())]:
        return "a tab is no indentation in YAML: put blanks in its place"
    if error.context == "while scanning a quoted scalar" and error.context_mark:
        return f"the quote that begins on line {error.context_mark.line + 1} is not closed"
    return _unquoted_on(text, line)


def _unquoted_on(text: str, line: int) -> str:
    """Return the same if a value on a line that YAML cannot read begins as a template does."""
    found = _TEMPLATE.match("".join(text.splitlines()[line - 1 : line]))
    return _unquoted(found[1] or "") if found else ""


def _construct_strictly(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> Any:
    """Make a bool, int or float; PyYAML's own makers let odd errors out for odd texts."""
    try:
        return yaml.CSafeLoader.yaml_constructors[node.tag](loader, node)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        kind = node.tag.removeprefix(_TAG)
        problem = f"{node.value[:40]!r} is no {kind}: put it in quotes if it is text"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def _construct_text(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe loader on libyaml, without dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to say what plain text means
        first: [(tag, pattern) for tag, pattern in pairs if tag not in _STAY_TEXT]
        for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012 - PyYAML's own way to say what each tag becomes
        **yaml.CSafeLoader.yaml_constructors,
        **dict.fromkeys(_NUMBERS, _construct_strictly),
        **dict.fromkeys(_STAY_TEXT, _construct_text),
    }


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node else 1


def _child(node: yaml.Node | None, part: Any) -> tuple[yaml.Node, int] | None:
    """Return the value that ``part`` leads to and the line that it is known by."""
    if isinstance(node, yaml.SequenceNode):
        inside = isinstance(part, int) and -len(node.value) <= part < len(node.value)
        return (node.value[part], _line(node.value[part])) if inside else None
    if isinstance(node, yaml.MappingNode):
        # From the end: merged keys (`<<`) come first, and the mapping's own win over them.
        for key_node, value_node in reversed(node.value):
            if key_node.value == str(part):
                return value_node, _line(key_node)
    return None
