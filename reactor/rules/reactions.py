"""Salt's reactions, once rendered and parsed, as calls: both schemas, all four types."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bus.yamlfile import Lines
from reactor.errors import RuleError
from reactor.rules.model import Call, Source

_TYPES: Mapping[str, str] = {
    "local": "local",
    "cmd": "local",
    "runner": "runner",
    "wheel": "wheel",
    "caller": "caller",
}
_KEYS = ("tgt", "tgt_type", "args", "arg", "kwarg", "order")
_OPTIONS = frozenset(
    {"ret", "timeout", "user", "jid", "metadata", "listen", "full_return", "gather_job_timeout"}
)
"""What Salt's own clients take beside target and arguments."""

_REQUISITES = frozenset(
    {"require", "watch", "onchanges", "onfail", "prereq", "listen_in", "require_any", "watch_any"}
    | {"require_in", "watch_in", "onchanges_in", "onfail_in", "prereq_in"}
)
"""What orders states in Salt, and not reactions, there either."""

_DEFAULT_ORDER = 10_000
"""Salt numbers reactions without an order from here on."""

_LAST_ORDER = 1_000_000

Warn = Callable[[RuleError], None]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a reaction stands: in the rendered text by line, in the file only by its ID."""

    file: str
    lines: Lines
    path: tuple[Any, ...]
    source: Source

    def error(self, problem: str) -> RuleError:
        path = ": ".join(map(str, self.path[:2]))
        return RuleError(problem, self.file, self.lines.at(self.path), path, rendered=True)


def read_calls(
    value: Any, lines: Lines, file: str, ids: Mapping[str, int], warn: Warn
) -> tuple[Call, ...]:
    """Return the calls of a reactor file in the order that they are to be made.

    Args:
        value: the parsed file.
        lines: the lines of the rendered text.
        file: the file's path.
        ids: the line in the file itself of each ID that stands there as it is.
        warn: is told what is read in another way than somebody may expect.

    Raises:
        RuleError: a reaction that cannot be read.
    """
    if not isinstance(value, dict):
        problem = f"a reactor file is a mapping of IDs, not {type(value).__name__}"
        raise RuleError(problem, file, lines.at(()), rendered=True)
    ordered: list[tuple[float, Call]] = []
    for ident, body in value.items():
        source = Source(file, ids.get(str(ident), 0))
        seen: set[tuple[str, str]] = set()
        for name, options, path in _functions(ident, body, lines, file, source):
            place = _Place(file, lines, path, source)
            order = _order(options, len(ordered), place)
            call = _call(str(ident), name, options, place, warn)
            if (call.kind, call.function) in seen:
                # As 'local' and as 'cmd': both are meant, so each has a name of its own.
                call = replace(call, ident=f"{ident}#{len(seen) + 1}")
            seen.add((call.kind, call.function))
            ordered.append((order, call))
    return tuple(call for _, call in sorted(ordered, key=lambda pair: pair[0]))


def _functions(
    ident: Any, body: Any, lines: Lines, file: str, source: Source
) -> list[tuple[str, dict[str, Any], tuple[Any, ...]]]:
    """Return name, options and path of each function of an ID."""
    if isinstance(body, str):
        return [(body, {}, (ident,))]
    if ident in ("include", "extend") and isinstance(body, list | dict):
        place = _Place(file, lines, (ident,), source)
        raise place.error("is of states: name each file in the reactor map, or use Jinja's include")
    if not isinstance(body, dict) or not body:
        place = _Place(file, lines, (ident,), source)
        raise place.error("a reaction is a mapping such as {local.cmd.run: [...]}")
    return [
        (function, _options(options, _Place(file, lines, (ident, name), source)), (ident, name))
        for name, body_of in body.items()
        for function, options in _named(str(name), body_of)
    ]


def _named(name: str, body: Any) -> list[tuple[str, Any]]:
    """Return functions and their options; in the long form the function stands among these."""
    if name in _TYPES and isinstance(body, list):
        functions = [item for item in body if isinstance(item, str)]
        options = [item for item in body if not isinstance(item, str)]
        if functions:
            return [(f"{name}.{function}", options) for function in functions]
    return [(name, body)]


def _options(value: Any, place: _Place) -> dict[str, Any]:
    """Return the list of one-key mappings under a function as one mapping."""
    if value is None:
        return {}
    options: dict[str, Any] = {}
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            raise place.error(f"{item!r} is no 'name: value': positional values belong to 'args'")
        options.update({str(key): inner for key, inner in item.items()})
    return options


def _order(options: dict[str, Any], position: int, place: _Place) -> float:
    """Return where a reaction comes: numbers, then as declared, negative numbers, ``last``."""
    order = options.pop("order", None)
    if order is None:
        return _DEFAULT_ORDER + position
    if order == "first":
        return 0
    if order == "last":
        return 2 * _LAST_ORDER + position
    if isinstance(order, bool) or not isinstance(order, int | float):
        raise place.error(f"order is a number, 'first' or 'last', not {order!r}")
    return order if order >= 0 else 2 * _LAST_ORDER + order


def _call(ident: str, name: str, options: dict[str, Any], place: _Place, warn: Warn) -> Call:
    kind_name, _, function = name.partition(".")
    kind = _TYPES.get(kind_name)
    if kind is None:
        near = difflib.get_close_matches(kind_name, _TYPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_TYPES)}"
        raise place.error(f"unknown reaction type {kind_name!r}: {hint}")
    if "." not in function.strip("."):
        raise place.error(f"{name!r} names no function: write such as {kind}.test.ping")
    if kind == "local":
        return _local(ident, function, options, place, warn)
    args, kwargs, rest = _master_arguments(kind, options, place, warn)
    return Call(kind, function, args, kwargs, options=rest, ident=ident, source=place.source)


def _local(ident: str, function: str, options: dict[str, Any], place: _Place, warn: Warn) -> Call:
    target = options.pop("tgt", None)
    if target is None or target == "":
        raise place.error("the option 'tgt' is missing: say which minions are meant")
    if not isinstance(target, str | list | int):
        raise place.error(f"tgt is text or a list, not {type(target).__name__}")
    old_type = options.pop("expr_form", "glob")
    target_type = options.pop("tgt_type", old_type)
    args, kwargs = _arguments(options, place, warn)
    # How long Salt's client waits for its own request; here a job's timeout would end the job.
    options.pop("timeout", None)
    _warn_of_unknown(options, place, warn)
    return Call(
        "local",
        function,
        args,
        kwargs,
        target if isinstance(target, list) else str(target),
        str(target_type),
        options=options,
        ident=ident,
        source=place.source,
    )


def _warn_of_unknown(options: Mapping[str, Any], place: _Place, warn: Warn) -> None:
    """Say what stands beside the arguments and means nothing: mostly a key with a slip in it."""
    for name in options:
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name, (*_OPTIONS, *_KEYS), 1, 0.7)
            hint = f"did you mean {near[0]!r}?" if near else "arguments belong into 'args'"
            if name in _REQUISITES:
                hint = "reactions run in the order of the file, which 'order' changes"
            warn(place.error(f"{name!r} is not known and has no effect: {hint}"))


def _master_arguments(
    kind: str, options: dict[str, Any], place: _Place, warn: Warn
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """Return args, kwargs and other options of what runs on the master or in line."""
    if kind == "caller" and _is_positional(options.get("args")):
        # The old schema of caller: nothing in such a list is a name.
        args = tuple(options.pop("args"))
        rest = {name: options[name] for name in options.keys() - {"arg", "kwarg"}}
        _warn_of_unknown(rest, place, warn)
        return args, {}, rest
    if kind == "caller" or options.keys() & {"args", "arg", "kwarg"}:
        args, kwargs = _arguments(options, place, warn)
        _warn_of_unknown(options, place, warn)
        return args, kwargs, options
    # The old schema: whatever stands beside the function is an argument of it.
    return (), options, {}


def _is_positional(args: Any) -> bool:
    return isinstance(args, list) and not all(
        isinstance(item, dict) and len(item) == 1 for item in args
    )


def _arguments(
    options: dict[str, Any], place: _Place, warn: Warn
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take the arguments out of ``options``, of either schema."""
    old_args, old_kwargs = options.pop("arg", None), options.pop("kwarg", None)
    new = options.pop("args", None)
    if new is None:
        return _old_args(old_args), _old_kwargs(old_kwargs, place)
    if old_args is not None or old_kwargs is not None:
        warn(place.error("'args' is used, 'arg' and 'kwarg' beside it are not"))
    return _new_arguments(new)


def _new_arguments(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            kwargs.update({str(key): inner for key, inner in item.items()})
        else:
            args.append(item)
    return tuple(args), kwargs


def _old_args(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def _old_kwargs(value: Any, place: _Place) -> dict[str, Any]:
    if value is None:
        return {}
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        raise place.error("kwarg is a mapping of names to values")
    return {str(key): inner for item in items for key, inner in item.items()}
