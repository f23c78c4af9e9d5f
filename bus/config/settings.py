"""Checks settings against the table: does the name exist, does the value fit, do they agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bus.config import kinds, salts
from bus.config.options import MASTER, ROLES, Option, options_of
from bus.errors import ConfigError

MAX_SOCKET_PATH = 107
"""Bytes of a UNIX socket's path: Linux's sun_path has 108, the last one for the NUL."""

LONGEST_SOCKET_NAME = {
    "master": len("master_event_line.ipc"),
    "minion": len("minion_event_0123456789_react.ipc"),
}

Place = Callable[..., tuple[str, int]]
"""Gives file and line of a path of keys; without a file, an empty string and 0."""


def nowhere(*_path: Any) -> tuple[str, int]:
    """The `Place` of settings that come from a program, not from a file."""
    return "", 0


Forgive = Callable[[ConfigError], None]
"""Told of a refused setting that is then left out, in place of an error."""

_MOST_NAMED = 20
"""Unknown options that one error names, so that a file of Salt's is mended in one go."""

ADDRESSES = frozenset(
    {"sock_dir", "state_dir", "pki_dir", "ipc_mode", "tcp_pub_port", "tcp_pull_port", "id"}
)
"""Options by which a client finds the daemons: these are never left out."""


def check(
    role: str,
    settings: Mapping[Any, Any],
    base: str,
    place: Place = nowhere,
    forgive: Forgive | None = None,
) -> dict[str, Any]:
    """Return ``settings`` checked; one that is ``None`` says nothing and is left out.

    Args:
        role: whose settings they are.
        settings: option names to values.
        base: the directory that relative paths are relative to.
        place: where each setting stands, for errors.
        forgive: told of errors in settings that do not say where the daemons are.

    Raises:
        ConfigError: an unknown option, or a value that it does not take.
    """
    known = options_of(role)
    checked = {}
    for name, value in settings.items():
        try:
            rest = () if forgive else settings
            option = _known(role, known, name, place, rest)
            if value is not None:
                checked[option.name] = _read(option, value, base, place)
        except ConfigError as error:
            if forgive is None or name in ADDRESSES:
                raise
            forgive(error)
    return checked


def _known(
    role: str, known: Mapping[str, Option], name: Any, place: Place, others: Iterable[Any]
) -> Option:
    option = known.get(name)
    if option is None:
        too = [_where(other, place) for other in others if other not in known and other != name]
        more = f"; unknown too: {', '.join(too[:_MOST_NAMED])}" if too else ""
        more += f" and {len(too) - _MOST_NAMED} more" if len(too) > _MOST_NAMED else ""
        raise ConfigError(_unknown(role, str(name)) + more, *place(name))
    return option


def _where(name: Any, place: Place) -> str:
    line = place(name)[1:2]
    return f"{str(name)[:60]} (line {line[0]})" if line and line[0] else str(name)[:60]


def _read(option: Option, value: Any, base: str, place: Place) -> Any:
    try:
        return kinds.read(option, value, base)
    except kinds.BadValueError as error:
        culprit = _descend(value, error.inside)
        raise ConfigError(
            f"the option {option.name} expects {error.expected}, not {_show(culprit)}",
            *place(option.name, *error.inside),
        ) from error


def _descend(value: Any, path: tuple[Any, ...]) -> Any:
    """Follow ``path``; where it ends at a key instead of a value, that key is the culprit."""
    for part in path:
        if isinstance(value, Mapping) and not isinstance(part, str):
            return part
        value = value[part]
    return value


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _unknown(role: str, name: str) -> str:
    for other in ROLES:
        if name in options_of(other):
            return (
                f"{name} is an option of the {other}, not of the {role}: "
                f"move it to the file '{other}'"
            )
    if name in salts.ADVICE:
        return f"unknown option {name!r}: {salts.ADVICE[name]}"
    import difflib  # seldom needed, and it takes time

    near = difflib.get_close_matches(name, list(options_of(role)), 1)
    advice = f"did you mean {near[0]}?" if near else "remove it, or see the reference of options"
    return f"unknown option {name[:60]!r}: {advice}"


def check_together(role: str, options: Mapping[str, Any], place: Place = nowhere) -> None:
    """Check what several options say together.

    Raises:
        ConfigError: they contradict each other, or a socket's path would be too long.
    """
    if options["ipc_mode"] == "tcp":
        _check_ports(options, place)
    elif not socket_fits(role, options["sock_dir"]):
        longest = MAX_SOCKET_PATH - LONGEST_SOCKET_NAME[role] - 1
        raise ConfigError(
            f"the sock_dir {options['sock_dir']} is too long: a socket's path has at most "
            f"{MAX_SOCKET_PATH} bytes, so choose a directory of at most {longest}",
            *place("sock_dir"),
        )
    if role != MASTER and options["job_workers"] > options["job_workers_max"]:
        raise ConfigError(
            f"job_workers ({options['job_workers']}) is more than job_workers_max "
            f"({options['job_workers_max']}): raise job_workers_max",
            *place("job_workers"),
        )


def _check_ports(options: Mapping[str, Any], place: Place) -> None:
    seen: dict[int, str] = {}
    for name in options:
        if name.startswith("tcp_"):
            other = seen.setdefault(options[name], name)
            if other != name:
                raise ConfigError(
                    f"{other} and {name} are the same port {options[name]}: change one",
                    *place(name),
                )


def socket_fits(role: str, sock_dir: str) -> bool:
    """Say whether the longest socket name of ``role`` fits below ``sock_dir``."""
    return len(os.fsencode(sock_dir)) + 1 + LONGEST_SOCKET_NAME[role] <= MAX_SOCKET_PATH
