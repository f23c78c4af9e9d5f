"""Salt's clients of the master's own functions; `bus.client` offers them under Salt's names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bus import cliargs, loader
from bus.config import client_config
from bus.errors import ArgumentsError
from bus.event import SaltEvent
from bus.jid import JidMaker
from bus.running import Outcome, current_user, run_function
from bus.tags import tagify


class MasterFunctions:
    """What RunnerClient and WheelClient share: functions that run here, with their events."""

    kind = ""
    load: Callable[..., loader.Functions]

    def __init__(self, opts: Mapping[str, Any] | None = None) -> None:
        self.opts = opts if opts is not None else client_config(None)
        self.functions = type(self).load(self.opts)
        self._jids = JidMaker()
        self._event: SaltEvent | None = None

    def cmd(
        self,
        fun: str,
        arg: Sequence[Any] | None = None,
        pub_data: Mapping[str, Any] | None = None,
        kwarg: Mapping[str, Any] | None = None,
        print_event: bool = True,
        full_return: bool = False,
    ) -> Any:
        """Run a function in this process and wait.

        Args:
            fun: its name.
            arg: positional arguments.
            pub_data: ``{"user": ...}`` says who asked.
            kwarg: keyword arguments.
            print_event: accepted as in Salt.
            full_return: give ``{"jid", "return", "success", ...}``.

        Raises:
            BusError: what the function raised, or it is not there.
        """
        del print_event
        jid = self._jids.next()
        outcome = self._run(fun, arg or (), kwarg or {}, jid, pub_data or {})
        if full_return:
            return {"jid": jid, "fun": fun, "return": outcome.value, "success": outcome.success}
        if outcome.error:
            raise outcome.error
        return outcome.value

    def cmd_sync(self, low: Mapping[str, Any], full_return: bool = False) -> Any:
        """Run a function given as Salt's low data: ``{"fun", "arg", "kwarg"}``."""
        fun, arg, kwarg = _from_low(low)
        return self.cmd(fun, arg, kwarg=kwarg, full_return=full_return)

    def cmd_async(self, low: Mapping[str, Any], local: bool = True) -> dict[str, str]:
        """Begin a function given as low data, in a thread of its own, and do not wait.

        The program does not end before the function has.

        Args:
            low: as for `cmd_sync`.
            local: accepted as in Salt.

        Returns:
            ``tag`` and ``jid``: the events ``<tag>/new`` and ``<tag>/ret`` tell of it.
        """
        del local
        fun, arg, kwarg = _from_low(low)
        return self._begin(fun, arg, kwarg)

    def asynchronous(
        self, fun: str, low: Mapping[str, Any], user: str = "UNKNOWN", pub: Any = None
    ) -> dict[str, str]:
        """`cmd_async`, with the function's name beside its low data."""
        del pub
        _, arg, kwarg = _from_low({**low, "fun": fun})
        return self._begin(fun, arg, kwarg, {} if user == "UNKNOWN" else {"user": user})

    def _begin(
        self,
        fun: str,
        arg: Sequence[Any],
        kwarg: Mapping[str, Any],
        pub_data: Mapping[str, Any] | None = None,
    ) -> dict[str, str]:
        jid = self._jids.next()
        # A connection to the bus is for one thread.
        other = type(self)(self.opts)

        def work() -> None:
            try:
                other._run(fun, arg, kwarg, jid, pub_data or {})  # noqa: SLF001 - of this class
            finally:
                other.close()

        threading.Thread(target=work, name=f"{self.kind}-{jid}").start()
        return {"tag": tagify([jid], _EVENTS_OF[self.kind]), "jid": jid}

    def _run(
        self,
        fun: str,
        arg: Sequence[Any],
        kwarg: Mapping[str, Any],
        jid: str,
        pub_data: Mapping[str, Any],
    ) -> Outcome:
        user = str(pub_data.get("user") or current_user())
        return run_function(
            self.kind, self.functions, fun, arg, kwarg, jid=jid, user=user, emit=self._emit
        )

    def _emit(self, tag: str, data: dict[str, Any]) -> None:
        """Fire on the master's bus; without a bus the function runs all the same."""
        if self._event is None:
            self._event = SaltEvent("master", opts=self.opts, listen=False)
        if self._event.connect_pull():
            self._event.fire_event(data, tag)

    def close(self) -> None:
        """Close the connection to the bus."""
        if self._event:
            self._event.destroy()
            self._event = None


_EVENTS_OF = {"runner": "run", "wheel": "wheel"}
_LOW_KEYS = {"fun", "arg", "kwarg", "client", "eauth", "token", "username", "password"}


def _from_low(low: Mapping[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
    """Take low data apart; arguments may also stand beside the function, as in Salt."""
    if not isinstance(low.get("fun"), str):
        raise ArgumentsError("low data without 'fun': name the function")
    args, kwargs = cliargs.expand(list(low.get("arg") or ()))
    beside = {key: value for key, value in low.items() if key not in _LOW_KEYS}
    return low["fun"], args, {**kwargs, **(low.get("kwarg") or {}), **beside}


class RunnerClient(MasterFunctions):
    """Runs runner functions in this process."""

    kind = "runner"
    load = staticmethod(loader.runners)


class WheelClient(MasterFunctions):
    """Runs wheel functions in this process."""

    kind = "wheel"
    load = staticmethod(loader.wheels)
