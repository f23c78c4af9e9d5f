"""Runs commands on the host."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from bus.modules import _modes
from bus.modules._errors import ExecutionError, InvocationError
from bus.modules._process import Command, Outcome
from bus.modules._process import run as run_process

__context__: dict[str, Any]

_TIMED_OUT = 124
"""What coreutils' ``timeout`` answers for a command that was ended by the clock."""


def run(cmd: str | list[str], **options: Any) -> str:
    """Run a command and return what it wrote, errors included.

    An exit status other than 0 becomes the status of the job.

    CLI example: ``reactor cmd web1 cmd.run 'df -h | grep /dev/sda' cwd=/ timeout=10``

    Args:
        cmd: a line for the shell, or a list of program and arguments (without a shell).
        **options: ``cwd``; ``stdin``; ``runas`` (a user; only root may); ``shell``
            (``/bin/sh``); ``python_shell`` (false: split the line, use no shell); ``env`` (a
            dict; ``None`` takes a variable away); ``clean_env``; ``umask`` (octal);
            ``timeout`` (seconds; then the command and all it started are killed);
            ``ignore_retcode``; ``success_retcodes`` (a list).
    """
    return _strip(_execute(cmd, options, merge=True).stdout)


def shell(cmd: str, **options: Any) -> str:
    """Run a line in the shell, whatever ``python_shell`` says; otherwise as ``cmd.run``.

    CLI example: ``reactor cmd web1 cmd.shell 'ls /etc | wc -l'``
    """
    return run(cmd, **{**options, "python_shell": True})


def run_stdout(cmd: str | list[str], **options: Any) -> str:
    """Run a command and return its standard output; options as for ``cmd.run``.

    CLI example: ``reactor cmd web1 cmd.run_stdout 'uname -a'``
    """
    return _strip(_execute(cmd, options).stdout)


def run_stderr(cmd: str | list[str], **options: Any) -> str:
    """Run a command and return its standard error; options as for ``cmd.run``.

    CLI example: ``reactor cmd web1 cmd.run_stderr 'ls /nonexistent'``
    """
    return _strip(_execute(cmd, options).stderr)


def run_all(cmd: str | list[str], **options: Any) -> dict[str, Any]:
    """Run a command and return pid, retcode, stdout and stderr; options as for ``cmd.run``.

    CLI example: ``reactor cmd web1 cmd.run_all 'ls -l /'``
    """
    outcome = _execute(cmd, options)
    return {
        "pid": outcome.pid,
        "retcode": outcome.returncode,
        "stdout": _strip(outcome.stdout),
        "stderr": _strip(outcome.stderr),
    }


def retcode(cmd: str | list[str], **options: Any) -> int:
    """Run a command and return its exit status; options as for ``cmd.run``.

    CLI example: ``reactor cmd web1 cmd.retcode 'test -f /etc/passwd'``
    """
    return _execute(cmd, options, merge=True).returncode


def which(cmd: str) -> str | None:
    """Return the path of a program, or ``None``.

    CLI example: ``reactor cmd web1 cmd.which cat``
    """
    return shutil.which(cmd)


def has_exec(cmd: str) -> bool:
    """Say whether there is such a program.

    CLI example: ``reactor cmd web1 cmd.has_exec cat``
    """
    return which(cmd) is not None


@dataclass(frozen=True, slots=True)
class _Options:
    """What ``cmd.run`` documents, with its defaults."""

    cwd: str | None = None
    stdin: str | None = None
    runas: str | None = None
    shell: str = "/bin/sh"
    python_shell: bool | None = None
    env: Mapping[str, Any] | list[Mapping[str, Any]] | None = None
    clean_env: bool = False
    umask: str | int | None = None
    timeout: float | None = None
    ignore_retcode: bool = False
    success_retcodes: Collection[int] = ()


def _read_options(given: Mapping[str, Any]) -> _Options:
    known = [field.name for field in fields(_Options)]
    # What a job's publisher adds of its own (__pub_...) is not meant for the command.
    options = {name: value for name, value in given.items() if not name.startswith("__")}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvocationError(f"unknown option {unknown[0]!r}: there are {', '.join(known)}")
    return _Options(**options)


def _execute(cmd: str | list[str], given: Mapping[str, Any], *, merge: bool = False) -> Outcome:
    """Run it and make its exit status that of the job."""
    options = _read_options(given)
    popen: dict[str, Any] = {"cwd": options.cwd} if options.cwd else {}
    popen |= _umask_option(options.umask) | _user_options(options.runas)
    popen["env"] = _environment(options)
    command = Command(
        argv=_argv(cmd, options.shell, use_shell=options.python_shell is not False),
        stdin=(options.stdin or "").encode(),
        merge=merge,
        timeout=None if options.timeout is None else float(options.timeout),
        options=popen,
    )
    outcome = _judged(run_process(command), options.success_retcodes)
    if not options.ignore_retcode:
        __context__["retcode"] = outcome.returncode
    return _explained(outcome, command)


def _argv(cmd: str | list[str], shell: str, *, use_shell: bool) -> list[str]:
    if isinstance(cmd, list | tuple):
        argv = [str(part) for part in cmd]
    elif use_shell:
        argv = [shell, "-c", str(cmd)]
    else:
        argv = _split(str(cmd))
    if not argv or not str(argv[-1 if use_shell else 0]).strip():
        raise InvocationError("the command is empty: give one such as 'uname -a'")
    return argv


def _split(cmd: str) -> list[str]:
    try:
        return shlex.split(cmd)
    except ValueError as error:
        raise InvocationError(f"the command cannot be split into words: {error}") from error


def _umask_option(umask: str | int | None) -> dict[str, int]:
    if umask is None:
        return {}
    return {"umask": _modes.read(umask, _modes.USUAL_UMASKS, "umask")}


def _user_options(runas: str | None) -> dict[str, Any]:
    """Return what makes `subprocess` change the user.

    Raises:
        ExecutionError: there is no such user, or only root could become him.
    """
    if not runas:
        return {}
    user = _user(runas)
    if user.pw_uid == os.geteuid():
        return {}
    if os.geteuid() != 0:
        raise ExecutionError(f"cannot run as {runas!r}: only a minion of root changes the user")
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise ExecutionError(f"cannot run as {name!r}: there is no such user") from error


def _environment(options: _Options) -> dict[str, str]:
    given: dict[str, Any] = {} if options.clean_env else dict(os.environ)
    if options.runas:
        user = _user(options.runas)
        given |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    for part in options.env if isinstance(options.env, list) else [options.env or {}]:
        if not isinstance(part, Mapping):
            raise InvocationError("env is a dict of variables, such as {'LANG': 'C'}")
        given |= part
    return {str(name): str(value) for name, value in given.items() if value is not None}


def _judged(outcome: Outcome, accepted: Collection[int]) -> Outcome:
    """Return it with the exit status that the caller of the job sees."""
    if outcome.timed_out:
        return replace(outcome, returncode=_TIMED_OUT)
    return replace(outcome, returncode=0) if outcome.returncode in accepted else outcome


def _explained(outcome: Outcome, command: Command) -> Outcome:
    """Say in the output that the clock ended the command: its status alone does not."""
    if not outcome.timed_out:
        return outcome
    stream = "stdout" if command.merge else "stderr"
    note = f"{getattr(outcome, stream)}\n[killed after {command.timeout:g} seconds]"
    return replace(outcome, stdout=note) if command.merge else replace(outcome, stderr=note)


def _strip(text: str) -> str:
    return text.strip("\n")
