"""Shows processes and ends them; the host's counters of processors, memory and disks."""

from __future__ import annotations

import functools
import itertools
import re
import signal as signals
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from bus.modules._errors import ExecutionError, InvocationError

_P = ParamSpec("_P")
_R = TypeVar("_R")

_SAFE = (
    "pid", "ppid", "name", "exe", "cmdline", "cwd", "status", "username", "uids", "gids",
    "create_time", "terminal", "nice", "num_threads", "num_fds", "cpu_times", "memory_info",
    "memory_percent",
)  # fmt: skip
"""What `proc_info` tells unasked. The environment is not among it: it may hold secrets."""

_MAX_INTERVAL = 300.0


def _clear(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Say in one line that a process is not there or belongs to somebody else."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        import psutil

        try:
            return function(*args, **kwargs)
        except psutil.NoSuchProcess as error:
            raise ExecutionError(f"there is no process {error.pid}") from error
        except psutil.AccessDenied as error:
            raise ExecutionError(f"the process {error.pid} belongs to somebody else") from error

    return wrapped


# -- processes ----------------------------------------------------------------------------


def top(num_processes: int = 5, interval: float = 3.0) -> list[dict[str, Any]]:
    """Return the processes that use the processors most, the busiest first.

    CLI example: ``reactor call ps.top 5 interval=1``

    Args:
        num_processes: how many.
        interval: seconds to watch them for.
    """
    import psutil

    processes = list(psutil.process_iter())
    for process in processes:
        _busy(process)  # the first answer is 0: it begins the count
    time.sleep(_checked_interval(interval))
    shares = [(_busy(process), process) for process in processes]
    shares.sort(key=lambda pair: pair[0], reverse=True)
    shown = (_shown(process, share) for share, process in shares)
    return list(itertools.islice(filter(None, shown), max(0, int(num_processes))))


def get_pid_list() -> list[int]:
    """Return the ids of all processes.

    CLI example: ``reactor call ps.get_pid_list``
    """
    import psutil

    return [int(number) for number in psutil.pids()]


@_clear
def proc_info(pid: int, attrs: list[str] | str | None = None) -> dict[str, Any]:
    """Return what there is to know of a process.

    CLI example: ``reactor call ps.proc_info 1 attrs='[name, cmdline]'``

    Args:
        pid: its id.
        attrs: names of `psutil.Process`' attributes; without any, those that are cheap to get
            and keep no secrets (``environ`` must be asked for).
    """
    names = [attrs] if isinstance(attrs, str) else [str(name) for name in attrs or _SAFE]
    process = _process(pid)
    try:
        found: dict[str, Any] = _plain(process.as_dict(attrs=names))
    except ValueError as error:
        raise InvocationError(f"what a process does not have: {error}") from error
    return found


def pgrep(
    pattern: str, user: str | None = None, full: bool = False, pattern_is_regex: bool = False
) -> list[int]:
    """Return the ids of the processes whose name holds a text.

    CLI example: ``reactor call ps.pgrep nginx user=www-data``

    Args:
        pattern: the text.
        user: only processes of this user.
        full: look in the whole command line.
        pattern_is_regex: the text is a regular expression.
    """
    matches = _matcher(pattern, regex=pattern_is_regex)
    return [process.pid for process in _matching(matches, user, full=full)]


def pkill(
    pattern: str,
    user: str | None = None,
    signal: int | str = 15,
    full: bool = False,
    pattern_is_regex: bool = False,
) -> dict[str, list[int]]:
    """Send a signal to the processes that `pgrep` would show, and return whom it reached.

    Neither this process nor those that it came from are among them.

    CLI example: ``reactor call ps.pkill stale-worker signal=HUP full=True``

    Args:
        pattern: the text.
        user: only processes of this user.
        signal: a number or a name.
        full: look in the whole command line.
        pattern_is_regex: the text is a regular expression.

    Raises:
        ExecutionError: a process could not be signalled; the text says which were.
    """
    number = _signal_number(signal)
    spared = _own_line()
    killed: list[int] = []
    refused: list[int] = []
    for process in _matching(_matcher(pattern, regex=pattern_is_regex), user, full=full):
        if process.pid not in spared:
            outcome = _send(process, number)
            killed += [process.pid] if outcome else []
            refused += [process.pid] if outcome is None else []
    if refused:
        raise ExecutionError(f"not allowed to signal {refused}; signalled: {killed}")
    return {"killed": killed}


@_clear
def kill_pid(pid: int, signal: int | str = 15) -> bool:
    """Send a signal to a process; false if there is none of this id.

    CLI example: ``reactor call ps.kill_pid 4711 signal=KILL``
    """
    import psutil

    number = _signal_number(signal)
    if not psutil.pid_exists(_checked_pid(pid)):
        return False
    outcome = _send(_process(pid), number)
    if outcome is None:
        raise ExecutionError(f"not allowed to signal the process {pid}")
    return outcome


# -- the host -----------------------------------------------------------------------------


def cpu_percent(interval: float = 0.1, per_cpu: bool = False) -> float | list[float]:
    """Return how busy the processors are, in percent.

    CLI example: ``reactor call ps.cpu_percent interval=1 per_cpu=True``
    """
    import psutil

    share: float | list[float] = psutil.cpu_percent(_checked_interval(interval), per_cpu)
    return share


def cpu_times(per_cpu: bool = False) -> dict[str, float] | list[dict[str, float]]:
    """Return how many seconds the processors spent on what.

    CLI example: ``reactor call ps.cpu_times``
    """
    import psutil

    times: dict[str, float] | list[dict[str, float]] = _plain(psutil.cpu_times(per_cpu))
    return times


def virtual_memory() -> dict[str, float]:
    """Return how much memory there is, used and available, in bytes.

    CLI example: ``reactor call ps.virtual_memory``
    """
    import psutil

    found: dict[str, float] = _plain(psutil.virtual_memory())
    return found


def swap_memory() -> dict[str, float]:
    """Return how much swap there is, used and free, in bytes.

    CLI example: ``reactor call ps.swap_memory``
    """
    import psutil

    found: dict[str, float] = _plain(psutil.swap_memory())
    return found


def disk_partitions(all: bool = False) -> list[dict[str, str]]:
    """Return what is mounted: device, mountpoint, fstype, opts.

    CLI example: ``reactor call ps.disk_partitions``

    Args:
        all: also what is on no device.
    """
    import psutil

    found: list[dict[str, str]] = _plain(psutil.disk_partitions(all))
    return found


def num_cpus() -> int:
    """Return how many processors the host has.

    CLI example: ``reactor call ps.num_cpus``
    """
    import psutil

    return int(psutil.cpu_count() or 1)


def boot_time(time_format: str | None = None) -> int | str:
    """Return when the host was booted, in seconds since 1970, or in a form of `strftime`.

    CLI example: ``reactor call ps.boot_time '%Y-%m-%d %H:%M'``
    """
    import psutil

    moment = int(psutil.boot_time())
    if time_format is None:
        return moment
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime(str(time_format))


def get_users() -> list[dict[str, Any]]:
    """Return who is logged in: name, terminal, host, started, pid.

    CLI example: ``reactor call ps.get_users``
    """
    import psutil

    found: list[dict[str, Any]] = _plain(psutil.users())
    return found


# -- parts --------------------------------------------------------------------------------


def _checked_interval(interval: float) -> float:
    if not 0 < float(interval) <= _MAX_INTERVAL:
        raise InvocationError(f"the interval is more than 0 and at most {_MAX_INTERVAL:g} seconds")
    return float(interval)


def _busy(process: Any) -> float:
    import psutil

    try:
        return float(process.cpu_percent(None))
    except psutil.Error:  # it has ended
        return 0.0


def _shown(process: Any, share: float) -> dict[str, Any] | None:
    import psutil

    try:
        with process.oneshot():
            return {
                "pid": process.pid,
                "cmd": " ".join(process.cmdline()).strip() or process.name(),
                "user": process.username(),
                "status": str(process.status()),
                "create_time": process.create_time(),
                "cpu_percent": share,
                "cpu": _plain(process.cpu_times()),
                "mem": _plain(process.memory_info()),
            }
    except psutil.Error:
        return None


def _checked_pid(pid: int) -> int:
    """To the kernel 0 and less are groups of processes, this one's own among them."""
    try:
        number = int(pid)
    except (TypeError, ValueError) as error:
        raise InvocationError(f"{pid!r} is no id of a process") from error
    if number < 1:
        raise InvocationError(f"{pid!r} is no id of a process: they begin with 1")
    return number


def _process(pid: int) -> Any:
    import psutil

    return psutil.Process(_checked_pid(pid))


def _signal_number(signal: int | str) -> int:
    """Return the number of ``15``, ``TERM`` or ``SIGTERM``."""
    text = str(signal).upper()
    if not text.lstrip("-").isdigit():
        name = text if text.startswith("SIG") else f"SIG{text}"
        found = getattr(signals, name, None)
        if isinstance(found, signals.Signals):
            return int(found)
    elif int(text) in signals.valid_signals():
        return int(text)
    raise InvocationError(f"{signal!r} is no signal: give a number or a name such as TERM")


def _matcher(pattern: str, *, regex: bool) -> Callable[[str], bool]:
    text = str(pattern)
    if not text:
        raise InvocationError("the pattern is empty: it would match every process")
    if not regex:
        return lambda name: text in name
    try:
        expression = re.compile(text)
    except re.error as error:
        raise InvocationError(f"{text!r} is no regular expression: {error}") from error
    return lambda name: expression.search(name) is not None


def _matching(matches: Callable[[str], bool], user: str | None, *, full: bool) -> Iterable[Any]:
    import psutil

    for process in psutil.process_iter(["name", "cmdline", "username"]):
        name = _searched(process.info, full=full)
        if matches(name) and (user is None or process.info["username"] == str(user)):
            yield process


def _searched(info: Mapping[str, Any], *, full: bool) -> str:
    """A thread of the kernel has no command line."""
    return str((full and " ".join(info["cmdline"] or ())) or info["name"] or "")


def _own_line() -> set[int]:
    """Return this process and those that it came from."""
    import psutil

    me = psutil.Process()
    return {me.pid, *(parent.pid for parent in me.parents())}


def _send(process: Any, number: int) -> bool | None:
    """Return whether it was there; ``None`` if that is not allowed."""
    import psutil

    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return None
    return True


def _plain(value: Any) -> Any:
    """Make of what psutil returns what an event can carry."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | float | str):
        return value
    return int(value) if isinstance(value, int) else str(value)
