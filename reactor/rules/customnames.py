"""Which functions custom modules have, read from their text: nothing of them is run. Pure."""

from __future__ import annotations

import ast


def functions_of(text: str, stem: str) -> set[str]:
    """Return the names, such as ``backup.run``, that a module's file gives to its functions.

    Args:
        text: the file.
        stem: its name without ``.py``, which the module has unless it says another.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()  # whoever calls one is told what is wrong with it
    named = {
        target.id: node.value
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    module = _constant(named.get("__virtualname__"), stem)
    aliases = _constant(named.get("__func_alias__"), {})
    names = {
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    if not isinstance(aliases, dict):
        aliases = {}
    return {f"{module}.{aliases.get(name, name)}" for name in names}


def _constant(node: ast.expr | None, default: object) -> object:
    try:
        return default if node is None else ast.literal_eval(node)
    except (ValueError, TypeError):
        return default
