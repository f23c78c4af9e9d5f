"""Calls a function by its name, once its arguments are known to fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bus.errors import ArgumentsError, FunctionNotFoundError
from bus.loader import nearest


def function_name(fun: str) -> str:
    """Return ``module.function``; ``module:function`` is the same thing.

    >>> function_name("my_custom_module:do_something")
    'my_custom_module.do_something'
    """
    return fun if "." in fun else fun.replace(":", ".", 1)


def call(
    functions: Mapping[str, Callable[..., Any]],
    fun: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Call ``fun`` and return what it returns; what it raises passes through.

    Raises:
        FunctionNotFoundError: there is no such function; the text names the nearest ones.
        ArgumentsError: the arguments do not fit; the text shows the signature.
        LoadError: the function's module does not load.
    """
    name = function_name(str(fun))
    function = _look_up(functions, name)
    try:
        return function(*args, **(kwargs or {}))
    except TypeError:
        # To look at its signature before each call takes longer than most calls: only where it
        # may be at fault. When the arguments do not fit, nothing of the function has run.
        _check_arguments(name, function, args, kwargs or {})
        raise


def joined(steps: Sequence[Any]) -> Any:
    """Return what the steps of a generator function make together: a dict of dicts, else a list.

    >>> joined([{"a": 1}, {"b": 2}])
    {'a': 1, 'b': 2}
    """
    if steps and all(isinstance(step, dict) for step in steps):
        return {key: item for step in steps for key, item in step.items()}
    return list(steps)


def _look_up(functions: Mapping[str, Callable[..., Any]], name: str) -> Callable[..., Any]:
    try:
        return functions[name]
    except FunctionNotFoundError:
        raise
    except KeyError as error:
        raise FunctionNotFoundError(nearest.describe(name, functions)) from error


def _check_arguments(
    name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        shown = signature_text(signature)
        raise ArgumentsError(f"{name}: {error}; it takes {name}{shown}") from error


def signature_text(signature: inspect.Signature) -> str:
    """Return a signature without its annotations, as a person types it.

    >>> def sleep(length: float) -> bool: ...
    >>> signature_text(inspect.signature(sleep))
    '(length)'
    """
    empty = inspect.Parameter.empty
    bare = [parameter.replace(annotation=empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
