"""Salt's reactor files as Jinja: checked when they are read, compiled at first use, bounded."""

from __future__ import annotations

import copy
import difflib
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import BaseLoader, Environment, StrictUndefined, meta, nodes
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from bus.errors import FunctionNotFoundError
from reactor.errors import RuleError
from reactor.rules.bounds import MAX_SIZE
from reactor.rules.expressions import describe
from reactor.rules.filters import filters, tests
from reactor.rules.loadtags import LoadTags
from reactor.rules.model import Functions
from reactor.rules.sandbox import Sandbox

_EXTENSIONS = ("jinja2.ext.do", "jinja2.ext.loopcontrols", LoadTags)
_RENDERERS = ("", "jinja|yaml", "jinja | yaml", "yaml")
_MARKS = ("{{", "{%", "{#")
_GIVEN = frozenset({"data", "payload", "salt", "tag"})
"""The names that a reactor file sees."""

_CHANGING = re.compile(
    r"\b(?:add|append|clear|discard|extend|insert|pop|popitem|remove|reverse|setdefault|sort|update)\b"
)
"""The methods that change a list, mapping or set."""


class SaltFunctions:
    """What a template knows as ``salt``: ``salt['mod.fun'](...)`` or ``salt.mod.fun(...)``."""

    def __init__(self, functions: Functions, module: str = "") -> None:
        self._functions = functions
        self._module = module

    def __getitem__(self, name: str) -> Callable[..., Any]:
        try:
            return self._functions[name]
        except FunctionNotFoundError:
            raise
        except KeyError as error:
            near = difflib.get_close_matches(name, self._functions, 1)
            hint = f": did you mean {near[0]!r}?" if near else " on the master"
            raise FunctionNotFoundError(f"there is no function {name!r}{hint}") from error

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[f"{self._module}.{name}"] if self._module else _module(self._functions, name)

    def __contains__(self, name: object) -> bool:
        return name in self._functions


def _module(functions: Functions, name: str) -> SaltFunctions:
    return SaltFunctions(functions, name)


@dataclass(frozen=True, slots=True)
class Reference:
    """A template that another one includes, imports or extends.

    Attributes:
        name: as it is written.
        line: where, counted from 1.
        required: whether it must be there (not with ``ignore missing``, nor in a list).
    """

    name: str
    line: int
    required: bool


@dataclass(frozen=True, slots=True)
class Uses:
    """What a template expects to be there when it is rendered.

    Attributes:
        unknown: names that neither the template nor an event gives a value, with their lines;
            without those that it asks about, with ``is defined`` or ``default``.
        functions: the functions of ``salt`` that it names, with their lines.
    """

    unknown: tuple[tuple[str, int], ...]
    functions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """A template and everything that it includes.

    Attributes:
        root: the file's path.
        texts: each file's text by its path.
        links: which path an include means, by the including file's path and the name given.
    """

    root: str
    texts: Mapping[str, str]
    links: Mapping[tuple[str, str], str]


class _Loader(BaseLoader):
    """Gives Jinja the texts that were read with the rule, and no other file."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def get_source(
        self,
        environment: Environment,  # noqa: ARG002 - Jinja's interface
        template: str,
    ) -> tuple[str, str, Callable[[], bool]]:
        text = self._sources.texts.get(template)
        if text is None:
            raise TemplateNotFound(template)
        return text, template, lambda: True


class _Environment(Sandbox):
    """A sandbox whose includes go by the links that were found when the files were read.

    Attributes:
        links: which path an include means.
        may_change: whether lists and mappings may be changed, as ``{% do list.append(x) %}``
            does; such a template is given data of its own.
    """

    links: Mapping[tuple[str, str], str]
    may_change = False

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Say whether a template may use an attribute."""
        if self.may_change:
            return SandboxedEnvironment.is_safe_attribute(self, obj, attr, value)
        return super().is_safe_attribute(obj, attr, value)

    def join_path(self, template: str, parent: str) -> str:
        """Return the path that the name ``template`` means in the file ``parent``."""
        return self.links.get((parent, template), template)


class Templates:
    """Reads and makes templates; one for all files, for an environment is costly to make."""

    def __init__(self) -> None:
        self._environment = _Environment(
            undefined=StrictUndefined, extensions=_EXTENSIONS, autoescape=False
        )
        self._environment.add(filters(), tests())

    def references(self, text: str, path: str) -> tuple[Reference, ...]:
        """Check a template's syntax and return the templates that it includes.

        Raises:
            RuleError: the syntax is broken, a filter is unknown, or an include has no fixed name.
        """
        tree = self._parsed(text, path)
        self._check_known(tree, path)
        found = tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))
        return tuple(reference for node in found for reference in _references(node, path))

    def check_syntax(self, text: str, path: str) -> None:
        """Check a template's syntax alone: nothing that it names need be there.

        Raises:
            RuleError: the syntax is broken.
            RecursionError: it nests too deeply.
        """
        self._parsed(text, path)

    def _parsed(self, text: str, path: str) -> nodes.Template:
        _check_renderer(text, path)
        try:
            return self._environment.parse(text, path, path)
        except TemplateSyntaxError as error:
            raise RuleError(str(error.message), path, error.lineno) from error

    def uses(self, text: str, path: str) -> Uses:
        """Return what a template expects to be there.

        Raises:
            RuleError: the syntax is broken, or what stands in it cannot be worked out.
            RecursionError: it nests too deeply.
        """
        try:
            tree = self._environment.parse(text, path, path)
        except TemplateSyntaxError as error:
            raise RuleError(str(error.message), path, error.lineno) from error
        given = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
        given.update(_GIVEN, _asked_about(tree))
        try:
            missing = meta.find_undeclared_variables(tree) - given
        except RecursionError:
            raise
        except Exception as error:  # what is the same for every event is worked out already here
            raise RuleError(describe(error), path) from error
        names: dict[str, int] = {}
        for node in tree.find_all(nodes.Name):
            if node.name in missing:
                names.setdefault(node.name, node.lineno)
        return Uses(tuple(names.items()), tuple(dict.fromkeys(_functions_of(tree))))

    def _check_known(self, tree: nodes.Template, path: str) -> None:
        known = {nodes.Filter: self._environment.filters, nodes.Test: self._environment.tests}
        for kind, names in known.items():
            for node in tree.find_all(kind):
                if node.name not in names:
                    raise RuleError(_unknown(kind, node.name, names), path, node.lineno)

    def template(self, sources: Sources) -> Template:
        """Return the template of files that `references` has checked."""
        environment = self._environment.overlay(cache_size=50)
        assert isinstance(environment, _Environment)
        environment.loader = _Loader(sources)
        environment.links = sources.links
        environment.may_change = any(map(_CHANGING.search, sources.texts.values()))
        return Template(environment, sources)


def _asked_about(tree: nodes.Template) -> Iterator[str]:
    """Yield the names of which a template can do without a value."""
    for test in tree.find_all(nodes.Test):
        if test.name in ("defined", "undefined") and isinstance(test.node, nodes.Name):
            yield test.node.name
    for one in tree.find_all(nodes.Filter):
        if one.name in ("default", "d") and isinstance(one.node, nodes.Name):
            yield one.node.name


def _functions_of(tree: nodes.Template) -> Iterator[tuple[str, int]]:
    """Yield what is named as ``salt['mod.fun']`` or ``salt.mod.fun``, with its line."""
    for item in tree.find_all(nodes.Getitem):
        if _is_salt(item.node) and isinstance(item.arg, nodes.Const):
            yield str(item.arg.value), item.lineno
    for outer in tree.find_all(nodes.Getattr):
        if isinstance(outer.node, nodes.Getattr) and _is_salt(outer.node.node):
            yield f"{outer.node.attr}.{outer.attr}", outer.lineno


def _is_salt(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "salt"


def _own(value: Any) -> Any:
    """Return data that may be changed: the event's own is what other rules see."""
    return copy.deepcopy(value) if isinstance(value, dict | list) else value


def _unknown(kind: type[nodes.Node], name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind.__name__.lower()} {name!r}{hint}"


def is_fixed(text: str) -> bool:
    """Say whether a file holds nothing of Jinja's, and so is the same for every event."""
    return not any(mark in text for mark in _MARKS)


def _check_renderer(text: str, path: str) -> None:
    first = text.partition("\n")[0].strip()
    if first.startswith("#!") and first[2:].strip() not in _RENDERERS:
        problem = f"the renderer {first[2:].strip()!r} is not known: reactor files are jinja|yaml"
        raise RuleError(problem, path, 1)


def _references(node: Any, path: str) -> list[Reference]:
    """Return what an include, import or extends names."""
    try:
        named = node.template.as_const()
    except nodes.Impossible:
        named = None
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        problem = "the name of an include must be written out, not worked out"
        raise RuleError(problem, path, node.lineno)
    required = isinstance(named, str) and not getattr(node, "ignore_missing", False)
    return [Reference(name, node.lineno, required) for name in names]


class Template:
    """One file's template, compiled when first rendered."""

    def __init__(self, environment: _Environment, sources: Sources) -> None:
        self._environment = environment
        self._sources = sources

    @property
    def sources(self) -> Sources:
        """The texts that this was made of."""
        return self._sources

    @property
    def is_fixed(self) -> bool:
        """Whether the file holds nothing of Jinja's, and so is the same for every event."""
        return is_fixed(self._sources.texts[self._sources.root])

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text that the template makes of ``values``; errors as of `pieces`."""
        return "".join(self.pieces(values))

    def pieces(self, values: Mapping[str, Any]) -> list[str]:
        """Return the same in pieces: mostly, what an expression gives is one by itself.

        Raises:
            RuleError: an expression cannot be worked out, or the text or a loop is too long.
        """
        try:
            return self._pieces(values)
        except RuleError:
            raise
        except Exception as error:  # a template ends with whatever error its values give it
            path, line = self._place(error)
            raise RuleError(describe(error), path, line) from error

    def _pieces(self, values: Mapping[str, Any]) -> list[str]:
        if self._environment.may_change:
            values = {name: _own(value) for name, value in values.items()}
        template = self._compiled
        self._environment.begin()
        pieces: list[str] = []
        size = 0
        for piece in template.generate(values):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_SIZE:
                problem = f"the file renders to more than {MAX_SIZE} letters"
                raise RuleError(problem, self._sources.root)
        return pieces

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        template = self._environment.get_template(self._sources.root)
        # Jinja copies the globals into each rendering, four times as fast from one dict.
        template.globals = dict(template.globals)
        return template

    def _place(self, error: Exception) -> tuple[str, int]:
        """Return the file and line that Jinja's rewritten traceback ends in."""
        if isinstance(error, TemplateSyntaxError):
            return error.filename or self._sources.root, error.lineno
        place = (self._sources.root, 0)
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            path = trace.tb_frame.f_code.co_filename
            if path in self._sources.texts:
                place = (path, trace.tb_lineno)
            trace = trace.tb_next
        return place
