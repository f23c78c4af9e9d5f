"""``local``: send a job to minions, by way of the link server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bus import cliargs
from bus.errors import BusError
from bus.rpc import Caller
from bus.running import current_user
from reactor.engine.actions import Cancel, Done
from reactor.engine.firing import Reaction
from reactor.engine.jobreturns import JobReturns
from reactor.rules.model import Call


class LocalAction:
    """Publishes a job, and is done once the link server has taken it; or with ``wait``, returned.

    Without it nobody waits for the minions, as in Salt: their returns are events, which other
    rules match. While the link server is away the job waits, and the key makes a repeat harmless:
    after a restart the same job is found again, and what it returned.
    """

    def __init__(self, link: Caller, returns: JobReturns | None = None) -> None:
        self._link = link
        self._returns = returns
        self._user = current_user()

    def start(self, call: Call, reaction: Reaction, done: Done) -> Cancel | None:
        """Ask the link server to publish the job."""
        seconds = call.options.get("wait", 0.0)
        if not seconds or self._returns is None:
            self._publish(call, reaction, lambda pub: done(_shown(pub), None), done)
            return None
        returns, ends = self._returns, _Ends()
        returns.listen()

        def published(pub: dict[str, Any]) -> None:
            if not ends.is_over:
                ends.cancel = returns.wait(call.function, pub, seconds, done)

        self._publish(call, reaction, published, done)
        return ends

    def _publish(
        self,
        call: Call,
        reaction: Reaction,
        published: Callable[[dict[str, Any]], None],
        done: Done,
    ) -> None:
        def replied(answer: Any, error: BusError | None) -> None:
            if error:
                done(None, str(error))
            else:
                published(answer)

        params = {
            "tgt": call.target,
            "tgt_type": call.target_type,
            "fun": call.function,
            "arg": cliargs.condense(list(call.args), dict(call.kwargs)),
            "user": self._user,
            "key": f"{reaction.id}/{call.ident}/{call.function}{_again(call)}",
            **{name: call.options[name] for name in ("ret", "timeout") if name in call.options},
        }
        self._link.call("jobs.publish", params, replied)


class _Ends:
    """Ends the waiting for a job that may not even be published."""

    def __init__(self) -> None:
        self.is_over = False
        self.cancel: Cancel | None = None

    def __call__(self) -> None:
        self.is_over = True
        if self.cancel is not None:
            self.cancel()


def _shown(pub: dict[str, Any]) -> dict[str, Any]:
    return {"jid": pub["jid"], "minions": pub["minions"]}


def _again(call: Call) -> str:
    """Return what tells a further attempt from a first one that is repeated after a crash."""
    return f"#{call.attempt}" if call.attempt > 1 else ""
