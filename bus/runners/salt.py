"""Runs execution functions on the master, and on minions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bus import loader
from bus.client import LocalClient

__opts__: Mapping[str, Any]
__context__: dict[str, Any]

_KEPT = "salt.functions"


def cmd(fun: str, *args: Any, **kwargs: Any) -> Any:
    """Run an execution function here, as a minion on this host would.

    CLI example: ``reactor run salt.cmd cmd.run 'uptime'``
    """
    return loader.call(_functions(), fun, args, kwargs)


def execute(
    tgt: str | Sequence[str],
    fun: str,
    arg: Sequence[Any] = (),
    timeout: float | None = None,
    tgt_type: str = "glob",
    ret: str = "",
    jid: str = "",
    kwarg: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Run an execution function on minions and return what each that answered returned.

    CLI example: ``reactor run salt.execute 'web*' cmd.run '[uptime]' tgt_type=glob``

    Args:
        tgt: which minions.
        fun: the function's name.
        arg: its positional arguments, a list.
        timeout: seconds without a return after which a minion is asked about the job.
        tgt_type: how ``tgt`` is read.
        ret: accepted as in Salt.
        jid: accepted as in Salt; the master makes the job id.
        kwarg: its keyword arguments, a dict.
        kwargs: those of `bus.client.LocalClient.cmd`.

    Raises:
        NotRunningError: no master answers.
        TargetError: the target cannot be read.
    """
    known = {key: value for key, value in kwargs.items() if not key.startswith("__")}
    given = [arg] if isinstance(arg, str) else arg
    with LocalClient(mopts=__opts__) as client:
        return client.cmd(tgt, fun, given, timeout, tgt_type, ret, jid, kwarg=kwarg, **known)


def _functions() -> loader.Functions:
    """Return the execution functions, loaded once a process."""
    kept: dict[str, loader.Functions] = __context__.setdefault(_KEPT, {})
    if not kept:
        kept[""] = loader.execution_modules(__opts__, grains=loader.grains(__opts__))
    return kept[""]
