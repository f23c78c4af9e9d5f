"""Which functions custom modules have, read from their text: nothing of them is run. Pure."""

from __future__ import annotations

import ast
import inspect
from inspect import Parameter

_ANY = inspect.Signature(
    [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
)
"""Of a function that a decorator may have changed."""


def functions_of(text: str, stem: str) -> dict[str, inspect.Signature]:
    """Return the functions of a module's file by their names, such as ``backup.run``.

    Of a parameter's default the signature says only that there is one.

    Args:
        text: the file.
        stem: its name without ``.py``, which the module has unless it says another.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}  # whoever calls one is told what is wrong with it
    named = {
        target.id: node.value
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    module = _constant(named.get("__virtualname__"), stem)
    aliases = _constant(named.get("__func_alias__"), {})
    if not isinstance(aliases, dict):
        aliases = {}
    return {
        f"{module}.{aliases.get(node.name, node.name)}": _signature(node)
        for node in body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def _signature(node: ast.FunctionDef) -> inspect.Signature:
    if node.decorator_list:
        return _ANY
    given = node.args
    names = [*given.posonlyargs, *given.args]
    optional = len(names) - len(given.defaults)
    kinds: list[inspect._ParameterKind] = [Parameter.POSITIONAL_ONLY] * len(given.posonlyargs)
    kinds += [Parameter.POSITIONAL_OR_KEYWORD] * len(given.args)
    found = [
        _parameter(name, kind, is_optional=place >= optional)
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    if given.vararg:
        found.append(_parameter(given.vararg, Parameter.VAR_POSITIONAL))
    found += [
        _parameter(name, Parameter.KEYWORD_ONLY, is_optional=default is not None)
        for name, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    if given.kwarg:
        found.append(_parameter(given.kwarg, Parameter.VAR_KEYWORD))
    return inspect.Signature(found)


def _parameter(
    name: ast.arg, kind: inspect._ParameterKind, *, is_optional: bool = False
) -> Parameter:
    return Parameter(name.arg, kind, default=None if is_optional else Parameter.empty)


def _constant(node: ast.expr | None, default: object) -> object:
    try:
        return default if node is None else ast.literal_eval(node)
    except (ValueError, TypeError):
        return default
